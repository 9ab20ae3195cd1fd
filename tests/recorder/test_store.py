import os
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from recorder import Store, StoreSettings
from recorder.errors import LocalError, RemoteError, Unavailable
from recorder.store import _unavailable


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    url = f"file://{tmp_path}/a%20folder" if request.param == "file" else "memory://"
    return Store.open(StoreSettings(url))


async def test_stored_for_good_and_read_back(store):
    await store.deliver("a/b/key", b"one")
    await store.deliver("a/b/key", b"one")
    await store.deliver("a/c/key", b"two")
    assert sorted(store.object_keys()) == ["a/b/key", "a/c/key"]
    assert list(store.object_keys("a/b")) == ["a/b/key"]
    assert store.read("a/b/key") == b"one"


async def test_other_bytes_are_never_overwritten(store):
    await store.deliver("a/key", b"one")
    with pytest.raises(RemoteError, match="another object"):
        await store.deliver("a/key", b"two")
    assert store.read("a/key") == b"one"


async def test_what_is_not_there_is_unavailable(store):
    with pytest.raises(Unavailable):
        store.read("a/key")


async def test_a_folder_is_made_for_its_owner_and_synced_before_it_counts(tmp_path, monkeypatch):
    store = Store.open(StoreSettings(f"file://{tmp_path}/recordings"))
    assert (tmp_path / "recordings").stat().st_mode & 0o777 == 0o700
    synced: list[str] = []
    real = os.fsync

    def recording_fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    await store.deliver("a/b/key", b"one")
    folder = f"{tmp_path}/recordings"
    assert synced == [f"{folder}/a/b/key", f"{folder}/a/b", f"{folder}/a", folder]


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    store = Store.open(StoreSettings(f"file://{tmp_path}/recordings"))
    (tmp_path / "recordings" / "a").write_text("in the way")
    with pytest.raises(Unavailable, match="store: "):
        await store.deliver("a/key", b"one")


@pytest.mark.parametrize("url", ["ftp://host/", "/folder", "", "file:///proc/nothing/here", "s3://"])
def test_a_wrong_url_says_what_is_wrong(url):
    with pytest.raises(LocalError, match="store"):
        Store.open(StoreSettings(url))


def test_secrets_do_not_show():
    settings = StoreSettings("s3://bucket/prefix", access_key_id="AKIA123", secret_access_key="hunter2")
    assert "AKIA123" not in repr(settings)
    assert "hunter2" not in repr(settings)


async def test_an_s3_store_that_is_away_says_so(tmp_path):
    settings = StoreSettings(
        "s3://bucket/prefix", "http://127.0.0.1:9", "us-east-1", "id", "secret", allow_http=True, timeout_s=1.0
    )
    store = Store.open(settings)
    with pytest.raises(Unavailable):
        await store.deliver("a/key", b"one")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refusal_to_list_is_told_as_one(status):
    # As a real store gives it; tests/interop asks SeaweedFS itself.
    error = _unavailable(GenericError(f"Generic S3 error: Server returned non-2xx status code: {status}: <?xml …"))
    assert error.refused
    assert "check access key" in str(error)
