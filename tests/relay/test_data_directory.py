from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relay.data_directory import DataDirectory, read_secret_file, write_secret_file
from relay.errors import OperatorError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_everything_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    before = os.umask(0)
    try:
        data = DataDirectory.open(folder)
        data.admin_token()
    finally:
        os.umask(before)
    assert {path.name: mode(path) for path in folder.iterdir()} == {
        "instance.json": 0o600,
        "admin.token": 0o600,
        "tls": 0o700,
        "keys": 0o700,
        "stage": 0o700,
        "store": 0o700,
    }
    assert mode(folder) == 0o700
    assert not data.keys.is_relative_to(data.stage)
    assert not data.keys.is_relative_to(data.store)


def test_identity_and_token_are_made_once(tmp_path: Path) -> None:
    first = DataDirectory.open(tmp_path / "data")
    second = DataDirectory.open(tmp_path / "data")
    assert first.identity == second.identity
    assert first.identity.account_id != first.identity.instance_id
    assert first.admin_token() == second.admin_token()
    assert len(first.admin_token()) >= 43


def test_the_key_of_records_is_made_once(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path / "data")
    key = data.records_key()
    assert len(key) == 32
    assert DataDirectory.open(data.path).records_key() == key
    assert [path.name for path in data.keys.iterdir()] == ["records.key"]
    assert mode(data.keys / "records.key") == 0o600


def test_a_damaged_key_of_records_is_named(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path / "data")
    data.records_key()
    write_secret_file(data.keys / "records.key", b"damaged")
    with pytest.raises(OperatorError, match=r"records\.key is damaged"):
        data.records_key()


def test_an_empty_folder_that_was_just_made_is_taken_and_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "koppel.toml").write_text("")
    DataDirectory.open(folder)
    assert mode(folder) == 0o700


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "letter.txt").write_text("dear …")
    with pytest.raises(OperatorError, match=f"chmod 700 {folder}"):
        DataDirectory.open(folder)
    assert mode(folder) == 0o755
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(OperatorError, match="is not a folder"):
        DataDirectory.open(tmp_path / "data")
    with pytest.raises(OperatorError, match="cannot be made"):
        DataDirectory.open(tmp_path / "data" / "inner")


@pytest.mark.parametrize("name", ["keys", "tls", "stage", "store"])
def test_folders_that_others_may_enter_are_refused(tmp_path: Path, name: str) -> None:
    DataDirectory.open(tmp_path / "data")
    (tmp_path / "data" / name).chmod(0o750)
    with pytest.raises(OperatorError, match=f"chmod 700 {tmp_path}/data/{name}"):
        DataDirectory.open(tmp_path / "data")


def test_secrets_that_others_may_read_are_refused_with_advice(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path / "data")
    data.admin_token()
    data.admin_token_file.chmod(0o640)
    with pytest.raises(OperatorError, match=f"run  chmod 600 {data.admin_token_file}"):
        data.admin_token()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"account_id": "x", "instance_id": 5}'])
def test_a_damaged_identity_is_never_made_anew(tmp_path: Path, text: str) -> None:
    data = DataDirectory.open(tmp_path / "data")
    file = data.path / "instance.json"
    file.write_text(text)
    with pytest.raises(OperatorError, match="damaged: restore it from a backup"):
        DataDirectory.open(data.path)
    assert file.read_text() == text


def test_commands_that_read_want_an_existing_one(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not a data directory of Koppel"):
        DataDirectory.existing(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    made = DataDirectory.open(tmp_path / "data")
    assert DataDirectory.existing(tmp_path / "data") == made


def test_two_first_starts_agree_on_one_identity(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from relay.data_directory import DataDirectory; "
        "sys.stdin.read(1); print(DataDirectory.open(Path(sys.argv[1])).identity.instance_id)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "data")]
    racers = [subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("x")
        racer.stdin.flush()
    said = {racer.communicate()[0] for racer in racers}
    assert len(said) == 1
    assert said == {json.loads((tmp_path / "data/instance.json").read_text())["instance_id"] + "\n"}


def test_one_relay_at_a_time(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path / "data")
    refused = pytest.raises(OperatorError, match=rf"in use by another relay \(process {os.getpid()}\)")
    with data.lock(), refused, data.lock():
        pass
    with data.lock():
        pass


def test_a_killed_relay_lets_go(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path / "data")
    program = (
        "import os, signal, sys; from pathlib import Path; from relay.data_directory import DataDirectory\n"
        "with DataDirectory.open(Path(sys.argv[1])).lock():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(data.path)], check=False)
    assert killed.returncode == -9
    with data.lock():
        assert (data.path / "lock").read_text() == f"{os.getpid()}\n"


def test_secret_files_are_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_secret_file(file, b"one")
    write_secret_file(file, b"two")
    assert read_secret_file(file) == b"two"
    assert mode(file) == 0o600
    with pytest.raises(TypeError):
        write_secret_file(file, None)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert read_secret_file(file) == b"two"
    with pytest.raises(OperatorError, match="cannot be read"):
        read_secret_file(tmp_path / "none")
