"""Wrong settings, damaged folders and occupied ports: one clear line on standard error, exit code 2, and no traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.interop.relay_process import KOPPEL, QUIET, Ran, RelayProcess

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SECONDS_MAX = 20.0


def koppel(*arguments: str | Path, environment: dict[str, str] | None = None) -> Ran:
    """Run a command that must end by itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOPPEL_")}
    done = subprocess.run(
        [KOPPEL, *map(str, arguments)],
        env={**inherited, **QUIET, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def refused(ran: Ran, *words: str) -> None:
    assert ran.code == 2, ran
    assert set(json.loads(ran.out or "{}")) <= {"error"}  # with --json on standard output too
    for word in words:
        assert word in ran.err, ran.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sip = ", ["koppel.toml", "not valid TOML"]),
        ("[sip]\nprot = 5061\n", ["sip.prot", "did you mean sip.port"]),
        ("[media]\nport = 'five'\n", ["media.port"]),
        ("[media]\nport = 70000\n", ["media.port", "65535"]),
        ("[sip]\nhost = 'localhost.example'\n", ["sip.host", "numeric address"]),
        ("[recording]\nstore = 'ftp://host/'\n", ["recording: store", "s3://"]),
        ("[recording]\nchunk_ms = 500\ncommit_ms = 400\n", ["loss bound"]),
        ("[tls]\ncertificate_file = '/nowhere/a.pem'\n", ["key_file"]),
        ("[[trunks]]\nname = 'a'\n", ["recognise"]),
        ("[[trunks]]\nname = 'a'\nusername = 'u'\npassword = 'p'\nqueue = 'none'\n", ["queue none"]),
        ("[[queues]]\nname = 'Main Queue'\n", ["queues[0].name"]),
        ("queues = []\n", ["at least one"]),
        ("\x00", ["koppel.toml"]),
    ],
)
def test_a_wrong_configuration_is_named(folder, text, words):
    (folder / "koppel.toml").write_text(text)
    (folder / "koppel.toml").chmod(0o600)
    command = ["serve"] if len(text) % 2 else ["config", "--json"]  # they read it with the same code
    refused(koppel(*command, "--data-dir", folder), *words)


def test_a_wrong_environment_is_named(folder):
    refused(
        koppel("serve", "--data-dir", folder, environment={"KOPPEL_SPI__PORT": "1"}), "KOPPEL_SPI__PORT", "did you mean"
    )
    refused(koppel("serve", "--data-dir", folder, environment={"KOPPEL_SIP__PORT": "x"}), "KOPPEL_SIP__PORT")
    refused(koppel("serve", "--data-dir", folder, environment={"KOPPEL_TRUNKS": "nonsense"}), "JSON")


def test_secrets_that_everybody_may_read_are_refused(folder):
    config = folder / "koppel.toml"
    config.write_text("[[trunks]]\nname = 'a'\nusername = 'u'\npassword = 'very secret'\n")
    config.chmod(0o644)
    ran = koppel("serve", "--data-dir", folder)
    refused(ran, "chmod")
    assert "very secret" not in ran.err


def test_folders_that_cannot_be_used_are_named(tmp_path, folder):
    (tmp_path / "file").write_text("")
    refused(koppel("serve", "--data-dir", tmp_path / "file"), "file")
    (folder / "instance.json").write_text("{}")
    (folder / "instance.json").chmod(0o600)
    refused(koppel("serve", "--data-dir", folder), "instance.json", "damaged")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_text("")
    refused(koppel("serve", "--data-dir", foreign), "foreign")
    for command in (["recordings"], ["verify", "--instance"], ["export", "x", tmp_path / "x.wav"]):
        refused(koppel(*command, "--data-dir", tmp_path / "nothing"), "--data-dir")


def test_occupied_ports_are_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name in ("KOPPEL_HTTPS__PORT", "KOPPEL_SIP__PORT"):
            ran = koppel("serve", "--data-dir", folder, environment={name: port})
            refused_port = [line for line in ran.err.splitlines() if port in line]
            assert ran.code == 2
            assert refused_port, ran.err


async def test_a_second_relay_on_the_same_folder_is_refused(relay):
    ran = await relay.koppel("serve")
    assert ran.code == 2
    assert "in use" in ran.err or "another relay" in ran.err or "runs" in ran.err, ran.err
    assert (await relay.get("/api/health")).json()["ok"]


async def test_damaged_keys_and_certificates_are_named(tmp_path):
    relay = RelayProcess(tmp_path / "relay")
    async with relay:
        pass
    for name in ("keys/signing.pem", "keys/wrapping.json", "tls/ca.key", "keys/records.key"):
        file = relay.data / name
        before = file.read_bytes()
        file.write_bytes(b"damaged")
        refused(koppel("serve", "--demo", "--data-dir", relay.data), file.name)
        file.write_bytes(before)
    file.chmod(0o644)
    refused(koppel("serve", "--demo", "--data-dir", relay.data), file.name, "chmod")
    file.chmod(0o600)
    async with relay:
        pass


async def test_what_is_asked_for_in_vain_is_told(relay):
    unknown = "00000000-0000-4000-8000-000000000000"
    for command in (["verify", unknown, "--json"], ["export", unknown, relay.folder / "x.wav"]):
        ran = await relay.koppel(*command)
        assert ran.code == 2
        assert unknown in ran.out + ran.err
    assert not (relay.folder / "x.wav").exists()
    assert json.loads((await relay.koppel("recordings", "--json")).out) == []
