import stat

import pytest

from recorder.envelope import WrappedKey
from recorder.errors import LocalError, RemoteError, Unavailable
from recorder.keys import FileKeyService, FileSigner, load_public_key, read_secret, write_secret


def test_made_once_and_read_again(tmp_path):
    path = tmp_path / "keys" / "wrapping.json"
    wrapped = FileKeyService.open(path).wrap(bytes(32), b"context")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert FileKeyService.open(path, create=False).unwrap(wrapped, b"context") == bytes(32)
    assert wrapped.service == "file"
    assert len(wrapped.data) == 12 + 32 + 16
    assert [each.name for each in path.parent.iterdir()] == ["wrapping.json"]


def test_a_wrapped_key_is_bound_to_context_and_key(tmp_path):
    service = FileKeyService.open(tmp_path / "a.json")
    other = FileKeyService.open(tmp_path / "b.json")
    wrapped = service.wrap(bytes(32), b"contact 1")
    with pytest.raises(RemoteError):
        service.unwrap(wrapped, b"contact 2")
    with pytest.raises(Unavailable, match="not in the key file"):
        other.unwrap(wrapped, b"contact 1")
    for data in (wrapped.data[:-1], b"", wrapped.data[:12]):
        with pytest.raises(RemoteError):
            service.unwrap(WrappedKey("file", wrapped.wrapping_key_id, data), b"contact 1")


def test_wrapping_twice_gives_different_bytes(tmp_path):
    service = FileKeyService.open(tmp_path / "a.json")
    assert service.wrap(bytes(32), b"c") != service.wrap(bytes(32), b"c")


def test_the_signing_key_and_its_public_half(tmp_path):
    path = tmp_path / "signing.pem"
    signer = FileSigner.open(path)
    public = load_public_key(tmp_path / "signing.pem.pub")
    public.verify(FileSigner.open(path, create=False).sign(b"data"), b"data")
    assert signer.public_key.public_bytes_raw() == public.public_bytes_raw()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_that_others_can_read_are_refused(tmp_path):
    path = tmp_path / "keys.json"
    FileKeyService.open(path)
    path.chmod(0o640)
    with pytest.raises(LocalError, match="chmod 600"):
        FileKeyService.open(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"active":"a","keys":{}}', b'{"active":"a","keys":{"a":"!"}}']
)
def test_a_damaged_key_file_is_never_replaced(tmp_path, content):
    path = tmp_path / "keys.json"
    write_secret(path, content)
    with pytest.raises(LocalError, match="damaged"):
        FileKeyService.open(path)
    assert path.read_bytes() == content


def test_other_pem_is_refused(tmp_path):
    write_secret(tmp_path / "signing.pem", b"not a key")
    with pytest.raises(LocalError):
        FileSigner.open(tmp_path / "signing.pem")
    with pytest.raises(LocalError):
        load_public_key(tmp_path / "signing.pem")
    with pytest.raises(Unavailable):
        load_public_key(tmp_path / "nothing")
    with pytest.raises(Unavailable):
        FileKeyService.open(tmp_path / "nothing", create=False)


def test_a_secret_never_replaces_one(tmp_path):
    write_secret(tmp_path / "s", b"first")
    write_secret(tmp_path / "s", b"second")
    assert read_secret(tmp_path / "s") == b"first"
