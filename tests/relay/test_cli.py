"""The commands as a user runs them: in processes of their own, on a data directory with a true recording in it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from recorder import FileSigner
from relay.data_directory import DataDirectory
from signaling import access, audit
from signaling.database import Database, Scope, sqlite_url
from tests.recorder.world import ACCOUNT, CONTACT, INSTANCE, SIGNER
from tests.relay.recorded_contact import RecordedContact
from tests.relay.test_evidence import STORY

pytestmark = pytest.mark.slow


@dataclass
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


def koppel(*arguments: str | Path, **environment: str) -> Answer:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KOPPEL_")}
    done = subprocess.run(
        [sys.executable, "-c", "from relay.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"} | environment,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> DataDirectory:
    """A data directory as a relay leaves it: keys, and one contact in the store."""
    folder = tmp_path_factory.mktemp("instance") / "data"
    DataDirectory.open(folder)
    _secret(folder / "instance.json", json.dumps({"account_id": ACCOUNT, "instance_id": INSTANCE}).encode())
    data = DataDirectory.existing(folder)
    contact = RecordedContact()
    contact.play(STORY)
    for key, content in contact.deliver().objects.items():
        file = data.store / key
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_bytes(content)
    _write_keys(data)
    return data


def _write_keys(data: DataDirectory) -> None:
    """The keys of the recorder world, in the files that the relay would have made."""
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = SIGNER._private_key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    _secret(data.keys / "signing.pem", private)
    FileSigner.open(data.keys / "signing.pem")
    wrapping = base64.b64encode(hashlib.sha256(b"wrapping key").digest()).decode()
    _secret(data.keys / "wrapping.json", json.dumps({"active": "k1", "keys": {"k1": wrapping}}).encode())


def _secret(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)


@pytest.fixture
def copy(recorded: DataDirectory, tmp_path: Path) -> DataDirectory:
    """One that a test may spoil."""
    shutil.copytree(recorded.path, tmp_path / "data")
    return DataDirectory.existing(tmp_path / "data")


# ---- the whole


@pytest.mark.parametrize("command", ["serve", "demo", "recordings", "export", "verify", "config", "users add"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    answer = koppel(*command.split(), "--help")
    assert answer.code == 0
    assert f"Example: koppel {command}" in answer.out
    assert "--data-dir" in answer.out


def test_wrong_usage_is_exit_code_2() -> None:
    for arguments in (["--nonsense"], ["verify", "--nonsense"], ["nonsense"], ["export", "one"]):
        answer = koppel(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "Traceback" not in answer.err


def test_errors_say_what_to_do_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "koppel.toml"
    file.write_text("[sip]\nprot = 1\n")
    answer = koppel("config", "--config", file, "--json")
    said = f"{file}: sip.prot: there is no such setting; did you mean sip.port?"
    assert (answer.code, answer.json, answer.err) == (2, {"error": said}, f"koppel: {said}\n")


def test_headless_must_be_said() -> None:
    answer = koppel("demo")
    assert answer.code == 2
    assert "add --headless" in answer.err


# ---- config


def test_config_prints_effective_settings_without_secrets(tmp_path: Path) -> None:
    answer = koppel(
        "config",
        "--json",
        "--data-dir",
        tmp_path,
        KOPPEL_SIP__PORT="5099",
        KOPPEL_TRUNKS='[{"name": "a", "username": "u", "password": "geheim"}]',
    )
    assert answer.code == 0
    told = answer.json
    assert isinstance(told, dict)
    assert told["settings"]["sip"]["port"] == 5099
    assert told["settings"]["trunks"][0]["password"] == "(set)"
    assert told["settings"]["data_dir"] == str(tmp_path)
    assert told["origins"]["sip.port"] == "environment KOPPEL_SIP__PORT"
    assert "geheim" not in answer.out + answer.err
    assert list(tmp_path.iterdir()) == [], "looking at settings makes nothing"


def test_config_for_people_names_each_origin(tmp_path: Path) -> None:
    answer = koppel("config", "--data-dir", tmp_path, KOPPEL_SIP__PORT="5099")
    assert [line.split() for line in answer.out.splitlines() if line.startswith(("sip.port", "https.port"))] == [
        ["sip.port", "5099", "environment", "KOPPEL_SIP__PORT"],
        ["https.port", "8443", "default"],
    ]


# ---- users


async def test_a_user_is_added_with_a_token_that_logs_in(tmp_path: Path) -> None:
    answer = koppel("users", "add", "anna", "--role", "supervisor", "--data-dir", tmp_path / "data", "--json")
    assert answer.code == 0
    told = answer.json
    assert isinstance(told, dict)
    assert (told["user"], told["role"]) == ("anna", "supervisor")
    data = DataDirectory.existing(tmp_path / "data")
    scope = Scope(data.identity.account_id, data.identity.instance_id)
    database = await Database.open(sqlite_url(data.database), scope, data.records_key(), wall=time.time())
    try:
        user = await database.verify_token(told["token"])
        assert user is not None
        assert (user.name, user.role) == ("anna", access.Role.SUPERVISOR)
        (entry,) = await database.audit_log()
        assert (entry.action, entry.subject) == ("user.added", "user:anna")
        assert audit.check([entry], await database.audit_chain()) == []
    finally:
        await database.close()
    for file in data.path.rglob("*"):
        if file.is_file():
            assert told["token"].encode() not in file.read_bytes()
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_user_name_is_taken_once_and_must_be_plain(tmp_path: Path) -> None:
    assert koppel("users", "add", "anna", "--data-dir", tmp_path / "data").code == 0
    again = koppel("users", "add", "anna", "--data-dir", tmp_path / "data")
    assert (again.code, again.out) == (2, "")
    assert "there is a user anna already" in again.err
    assert koppel("users", "add", "Anna Müller", "--data-dir", tmp_path / "data").code == 2


# ---- recordings, export


def test_recordings_are_listed(recorded: DataDirectory) -> None:
    answer = koppel("recordings", "--json", "--data-dir", recorded.path)
    assert answer.code == 0
    told = answer.json
    assert isinstance(told, list)
    assert [(one["contact_id"], one["seconds"], one["signature"]) for one in told] == [(CONTACT, 3.9, "good")]
    assert (recorded.store / told[0]["manifest"]).is_file()
    assert CONTACT in koppel("recordings", "--data-dir", recorded.path).out


def test_a_recording_is_exported_for_its_owner_alone_and_leaves_an_audit_entry(
    copy: DataDirectory, tmp_path: Path
) -> None:
    out = tmp_path / "call.wav"
    answer = koppel("export", CONTACT, out, "--data-dir", copy.path, "--json")
    assert answer.json == {"contact_id": CONTACT, "file": str(out), "format": "wav", "rate": 8000, "seconds": 3.9}
    assert out.stat().st_mode & 0o777 == 0o600
    with wave.open(str(out)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        assert file.getnframes() == 195 * 160
    connection = sqlite3.connect(copy.database)
    try:
        rows = connection.execute("select action, subject from audit").fetchall()
    finally:
        connection.close()
    assert rows == [("recording.exported", f"contact:{CONTACT}")]


@pytest.mark.parametrize(("name", "magic"), [("call.flac", b"fLaC"), ("call.opus", b"OggS")])
def test_the_name_chooses_the_format(recorded: DataDirectory, tmp_path: Path, name: str, magic: bytes) -> None:
    assert koppel("export", CONTACT, tmp_path / name, "--data-dir", recorded.path).code == 0
    assert (tmp_path / name).read_bytes()[:4] == magic


def test_an_export_that_cannot_be_leaves_nothing(recorded: DataDirectory, tmp_path: Path) -> None:
    answer = koppel("export", CONTACT, tmp_path / "none" / "call.wav", "--data-dir", recorded.path)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    answer = koppel("export", "c0ffee00-0000-4000-8000-00000000ffff", tmp_path / "x.wav", "--data-dir", recorded.path)
    assert answer.code == 2
    assert "holds nothing of contact" in answer.err
    assert list(tmp_path.iterdir()) == []


# ---- verify


@pytest.mark.parametrize(
    ("options", "level"), [([], 1), (["--decrypt"], 2), (["--replay"], 3), (["--decrypt", "--replay"], 3)]
)
def test_a_true_recording_verifies_at_every_level(recorded: DataDirectory, options: list[str], level: int) -> None:
    answer = koppel("verify", CONTACT, *options, "--json", "--data-dir", recorded.path)
    assert answer.code == 0, answer
    told = answer.json
    assert isinstance(told, dict)
    assert set(told) == {"verified", "level", "findings", "tracks", "ended", "shredded"}
    assert (told["verified"], told["level"], told["findings"], told["ended"]) == (True, level, [], "closed")
    assert {tuple(sorted(track)) for track in told["tracks"]} == {
        ("concealed", "expected", "lost", "participant", "stored", "track", "withheld")
    }


def test_a_manifest_may_be_named_by_key_and_by_file(recorded: DataDirectory, tmp_path: Path) -> None:
    manifest = next(recorded.store.rglob("manifest"))
    for name in (str(manifest), str(manifest.relative_to(recorded.store))):
        assert koppel("verify", name, "--replay", "--data-dir", recorded.path).code == 0
    taken = shutil.copytree(manifest.parent, tmp_path / "away" / manifest.parent.name)
    auditor = ["--public-key", recorded.keys / "signing.pem.pub", "--data-dir", tmp_path / "none"]
    assert koppel("verify", taken / "manifest", *auditor).code == 0
    assert not (tmp_path / "none").exists()


def test_a_changed_byte_is_exit_code_1_and_the_place_is_named(copy: DataDirectory) -> None:
    segment = next(copy.store.rglob("track-*"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    answer = koppel("verify", CONTACT, "--json", "--data-dir", copy.path)
    assert answer.code == 1
    told = answer.json
    assert isinstance(told, dict)
    assert told["verified"] is False
    assert any(finding["file"].endswith(segment.name) for finding in told["findings"])
    plain = koppel("verify", CONTACT, "--data-dir", copy.path)
    assert plain.code == 1
    assert "NOT AUTHENTIC" in plain.out


def test_the_key_decides_not_the_manifest(recorded: DataDirectory, tmp_path: Path) -> None:
    FileSigner.open(tmp_path / "other.pem")
    answer = koppel("verify", CONTACT, "--public-key", tmp_path / "other.pem.pub", "--data-dir", recorded.path)
    assert answer.code == 1


def test_what_cannot_be_checked_is_exit_code_2(copy: DataDirectory, tmp_path: Path) -> None:
    assert koppel("verify", "c0ffee00-0000-4000-8000-00000000ffff", "--data-dir", copy.path).code == 2
    assert koppel("verify", CONTACT, "--data-dir", tmp_path / "none").code == 2
    assert koppel("verify", "--data-dir", copy.path).code == 2
    (copy.keys / "wrapping.json").unlink()
    answer = koppel("verify", CONTACT, "--decrypt", "--data-dir", copy.path, "--json")
    assert (answer.code, set(answer.json or ())) == (2, {"error"})  # type: ignore[arg-type]
    (copy.keys / "signing.pem.pub").unlink()
    answer = koppel("verify", CONTACT, "--data-dir", copy.path)
    assert answer.code == 2
    assert "--public-key" in answer.err


def test_the_instance_is_whole_until_a_contact_is_removed(copy: DataDirectory) -> None:
    answer = koppel("verify", "--instance", "--replay", "--json", "--data-dir", copy.path)
    assert (answer.code, answer.json) == (
        0,
        {"verified": True, "contacts": 1, "level": 3, "findings": [], "unchecked": {}},
    )
    assert "chain of manifests: whole (1 contacts)" in koppel("verify", "--instance", "--data-dir", copy.path).out
    manifest = next(copy.store.rglob("manifest"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"sequence":0', b'"sequence":1'))
    assert koppel("verify", "--instance", "--data-dir", copy.path).code == 1


MEDIA_STACK = ("aioice", "aiortc", "av", "fastapi", "matplotlib", "pylibsrtp", "sqlalchemy", "uvicorn")


def test_verify_waits_for_nothing_that_it_does_not_need(recorded: DataDirectory) -> None:
    """The contract wants it started in half a second: importing the media stack alone takes longer."""
    program = (
        "import sys\n"
        "from relay.cli.application import run\n"
        "try:\n"
        f"    run(['verify', {CONTACT!r}, '--data-dir', {str(recorded.path)!r}])\n"
        "finally:\n"
        f"    print('IMPORTED', *(name for name in {MEDIA_STACK!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "IMPORTED"
