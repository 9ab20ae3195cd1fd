from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from relay import config, config_view, provision
from relay.config import QueueSettings, Settings
from relay.config_sources import CONFIG_BYTES_MAX, default_data_dir, load, origin_of, validated
from relay.errors import OperatorError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without settings, and a home of its own."""
    import os

    for name in [name for name in os.environ if name.startswith("KOPPEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return tmp_path


def written(folder: Path, text: str, name: str = "koppel.toml") -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return file


def refusal(folder: Path, text: str) -> list[str]:
    with pytest.raises(OperatorError) as raised:
        load(config_file=written(folder, text))
    return [line.removeprefix(f"{folder}/koppel.toml: ") for line in str(raised.value).splitlines()]


# ---- sources


def test_defaults_are_safe(bare: Path) -> None:
    loaded = load()
    settings = loaded.settings
    assert settings.data_dir == bare / ".local/share/koppel"
    assert (settings.sip.host, settings.sip.port, settings.sip.udp, settings.sip.tcp) == ("127.0.0.1", 5061, None, None)
    assert (settings.https.host, settings.https.port) == ("127.0.0.1", 8443)
    assert settings.trunks == ()
    assert settings.recording.enabled is False
    assert settings.softphone.ice_servers == ()
    assert [queue.recorded for queue in settings.queues] == ["none"]
    assert loaded.origins == {}
    assert loaded.config_file is None


def test_data_home_is_obeyed_only_if_absolute(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert default_data_dir() == Path("/srv/data/koppel")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_dir() == bare / ".local/share/koppel"


def test_file_then_environment_then_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = written(tmp_path, 'data_dir = "/from/file"\n[sip]\nport = 1\nrealm = "a"\n[https]\nport = 2\n')
    monkeypatch.setenv("KOPPEL_SIP__PORT", "11")
    monkeypatch.setenv("KOPPEL_DATA_DIR", "/from/environment")
    loaded = load(config_file=file, data_dir=Path("/from/option"))
    settings = loaded.settings
    assert (settings.data_dir, settings.sip.port, settings.https.port) == (Path("/from/option"), 11, 2)
    assert loaded.origins == {
        "data_dir": "--data-dir",
        "sip.port": "environment KOPPEL_SIP__PORT",
        "sip.realm": str(file),
        "https.port": str(file),
    }
    assert load(config_file=file).settings.data_dir == Path("/from/environment")


def test_the_data_directory_may_hold_the_file(tmp_path: Path) -> None:
    written(tmp_path, "[sip]\nport = 7\n")
    loaded = load(data_dir=tmp_path)
    assert loaded.settings.sip.port == 7
    assert loaded.config_file == tmp_path / "koppel.toml"


def test_the_environment_may_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KOPPEL_CONFIG", str(written(tmp_path, "[sip]\nport = 8\n", "other.toml")))
    assert load().settings.sip.port == 8


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOPPEL_TRUNKS", '[{"name": "a", "addresses": ["192.0.2.0/24", "2001:db8::1"]}]')
    (trunk,) = load().settings.trunks
    assert [str(network) for network in trunk.addresses] == ["192.0.2.0/24", "2001:db8::1/128"]
    monkeypatch.setenv("KOPPEL_TRUNKS", "a,b")
    with pytest.raises(OperatorError, match=r"trunks.*written as JSON"):
        load()


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("KOPPEL_SPI__PORT", r"no such setting; did you mean KOPPEL_SIP…"),
        ("KOPPEL_SIP__PRT", r"did you mean sip\.port"),
    ],
)
def test_unknown_variables_are_errors(monkeypatch: pytest.MonkeyPatch, variable: str, hint: str) -> None:
    monkeypatch.setenv(variable, "5")
    with pytest.raises(OperatorError, match=f"environment {variable}.*{hint}"):
        load()


# ---- refusals


def test_each_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    assert refusal(
        tmp_path,
        """
        databas = "x"
        [sip]
        host = "example.org"
        prot = 1
        port = 65536
        [sip.udp]
        port = -1
        [recording]
        chunk_ms = 520
        [[queues]]
        recorded = "all"
        [[trunks]]
        name = "A Carrier"
        passwrod = "geheim"
        addresses = ["192.0.2.1/24"]
        """,
    ) == [
        "sip.host: must be a numeric address, such as 127.0.0.1 or ::1, or 0.0.0.0 or :: for all interfaces",
        "sip.port = 65536: must be less than or equal to 65535",
        "sip.udp.port = -1: must be greater than or equal to 0",
        "sip.prot: there is no such setting; did you mean sip.port?",
        "trunks[0].name: must be at most 64 small letters, digits, dots, dashes and underscores",
        "trunks[0].addresses[0]: must be an address or a network such as 192.0.2.0/24: 192.0.2.1/24 has host bits set",
        "trunks[0].passwrod: there is no such setting; did you mean trunks[0].password?",
        "queues[0].recorded: must be 'both', 'agent', 'customer' or 'none'",
        "recording.chunk_ms = 520: must be less than or equal to 500",
        "databas: there is no such setting; did you mean database?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tls]\ncertificate_file = "/c.pem"', "tls: certificate_file and key_file go together: set both or none"),
        ('[[trunks]]\nname = "a"', "trunks[0]: say how to recognise the trunk"),
        ('[[trunks]]\nname = "a"\nusername = "u"', "trunks[0]: username goes together with password"),
        ('[[trunks]]\nname = "a"\naddresses = ["192.0.2.1"]\nqueue = "x"', "trunk a names the queue x"),
        ('[[trunks]]\nname = "a"\naddresses = ["192.0.2.1"]\nallow_udp = true', "trunk a has allow_udp, but there is"),
        ('[[trunks]]\nname = "a"\naddresses = ["192.0.2.1"]\nallow_tcp = true', "trunk a has allow_tcp, but there is"),
        ('[[queues]]\nname = "a"\n[[queues]]\nname = "a"', "queues: two have the name a"),
        ("queues = []", "queues: there must be at least one"),
        ('[recording]\nstore = "http://x/"', "recording: store is a URL that begins with s3:// or file://"),
        ("[recording]\nchunk_ms = 500\ncommit_ms = 300", "recording: chunk_ms + 2 × commit_ms must be at most 1000 ms"),
        ("sip = 5", "sip = 5: must be a valid dictionary"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, text: str, said: str) -> None:
    (line,) = refusal(tmp_path, text)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[sip", "not valid TOML"),
        (b"\xff", "not UTF-8"),
        (b"#" * (CONFIG_BYTES_MAX + 1), "larger than"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "koppel.toml"
    file.write_bytes(data)
    with pytest.raises(OperatorError, match=said):
        load(config_file=file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no such configuration file"):
        load(config_file=tmp_path / "none.toml")
    with pytest.raises(OperatorError, match="cannot be read"):
        load(config_file=tmp_path)


def test_a_misspelt_secret_is_not_quoted(tmp_path: Path) -> None:
    lines = refusal(tmp_path, '[[trunks]]\nname = "a"\nusername = "u"\npasswd = "geheim"\npassword = 5\n')
    assert "geheim" not in " ".join(lines)


def test_secrets_in_a_file_that_anybody_can_read_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, '[[trunks]]\nname = "a"\nusername = "u"\npassword = "geheim"\n')
    load(config_file=file)
    file.chmod(0o644)
    with pytest.raises(OperatorError, match=rf"holds secrets.*chmod o-r {file}"):
        load(config_file=file)


# ---- views


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOPPEL_TRUNKS", '[{"name": "a", "username": "u", "password": "geheim1"}]')
    monkeypatch.setenv("KOPPEL_DATABASE__URL", "postgresql+asyncpg://koppel:geheim2@db/koppel?password=geheim3")
    monkeypatch.setenv("KOPPEL_RECORDING__S3__SECRET_ACCESS_KEY", "geheim4")
    monkeypatch.setenv("KOPPEL_RECORDING__STORE", "s3://key:geheim5@bucket/prefix")
    loaded = load()
    shown = config_view.without_secrets(loaded.settings)
    everything = json.dumps(shown) + repr(loaded) + str(config_view.rows(loaded))
    assert "geheim" not in everything.replace("s3://key:geheim5@bucket", "")
    assert "geheim5" not in json.dumps(shown) + str(config_view.rows(loaded))
    assert shown["trunks"][0]["password"] == "(set)"
    assert shown["trunks"][0]["ha1"] is None
    assert shown["database"]["url"] == "postgresql+asyncpg://koppel:(set)@db/koppel"
    assert shown["recording"]["store"] == "s3://key:(set)@bucket/prefix"


def test_rows_say_where_each_setting_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOPPEL_SIP__UDP__PORT", "5070")
    monkeypatch.setenv("KOPPEL_TRUNKS", '[{"name": "a", "addresses": ["192.0.2.1"]}]')
    rows = {name: (value, origin) for name, value, origin in config_view.rows(load())}
    assert rows["sip.udp.port"] == ("5070", "environment KOPPEL_SIP__UDP__PORT")
    assert rows["sip.port"] == ("5061", "default")
    assert rows["trunks[0].name"] == ('"a"', "environment KOPPEL_TRUNKS")


def test_origin_is_found_for_a_leaf_a_table_and_nothing() -> None:
    origins = {"sip.udp.port": "file", "trunks": "environment"}
    assert origin_of("sip.udp.port", origins) == "file"
    assert origin_of("sip.udp", origins) == "file"
    assert origin_of("trunks[0].name", origins) == "environment"
    assert origin_of("sip.port", origins) is None


def test_the_documented_settings_are_all_of_them() -> None:
    page = Path(__file__).parents[2] / "docs/configuration.md"
    assert config_view.reference() in page.read_text(), "run: koppel config --reference, and put it into the page"


# ---- values


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().sip.port = 5  # type: ignore[misc]


def test_the_demo_adds_a_trunk_and_records() -> None:
    demo = Settings().with_demo("pw").with_demo("pw2")
    assert [trunk.name for trunk in demo.trunks] == ["demo"]
    assert demo.trunks[0].password is not None
    assert demo.trunks[0].password.get_secret_value() == "pw2"
    assert demo.recording.enabled
    assert demo.queues[0].recorded_parties == ("agent", "customer")


@pytest.mark.parametrize(
    ("recorded", "parties"),
    [("both", ("agent", "customer")), ("agent", ("agent",)), ("customer", ("customer",)), ("none", ())],
)
def test_recorded_parties(recorded: str, parties: tuple[str, ...]) -> None:
    assert QueueSettings.model_validate({"recorded": recorded}).recorded_parties == parties


# ---- provision


def test_recording_needs_both_switches() -> None:
    asks = Settings.model_validate({"queues": [{"recorded": "both"}]})
    assert provision.exchange(asks).queues[0].recorded == ()
    has = Settings.model_validate({"queues": [{"recorded": "both"}], "recording": {"enabled": True}})
    assert provision.exchange(has).queues[0].recorded == ("agent", "customer")


def test_every_trunk_carries_what_proves_it() -> None:
    settings = Settings.model_validate(
        {
            "trunks": [
                {"name": "a", "addresses": ["192.0.2.0/24"], "allow_plain_rtp": True, "calls_max": 3},
                {"name": "b", "username": "u", "ha1": "00ff", "ha1_sha256": "11ff"},
            ]
        }
    )
    first, second = provision.trunks(settings)
    assert (first.name, str(first.addresses[0]), first.allow_plain_rtp, first.calls_max) == (
        "a",
        "192.0.2.0/24",
        True,
        3,
    )
    assert second.credentials[0].ha1 == (("MD5", "00ff"), ("SHA-256", "11ff"))
    assert second.credentials[0].password is None


def test_limits_reach_their_parts() -> None:
    settings = Settings.model_validate(
        {
            "sip": {"advertised_host": "sip.example.org", "message_bytes_max": 8000, "calls_max": 9},
            "media": {"addresses": ["192.0.2.9"], "port": 40_000, "jitter_ms_max": 100, "legs_max": 12},
            "softphone": {"requests_burst": 3, "failed_log_ins_max": 4},
            "https": {"allowed_origins": ["https://crm.example.org"]},
        }
    )
    agent = provision.user_agent(settings, {"tls": 5061})
    assert (agent.advertised_host, agent.contact_ports) == ("sip.example.org", (("tls", 5061),))
    assert (agent.calls_max, agent.message_limits.message_bytes_max) == (9, 8000)
    assert provision.sip_sockets(settings).stream.body_bytes_max == 8000
    sockets = provision.media_sockets(settings, ("127.0.0.1",))
    assert (sockets.hosts, sockets.port) == (("192.0.2.9",), 40_000)
    assert provision.media_sockets(Settings(), ("127.0.0.1", "10.0.0.1")).hosts == ("127.0.0.1", "10.0.0.1")
    assert provision.jitter(settings).depth_slots_max == 5
    assert provision.softphone_media(settings).legs_max == 12
    socket = provision.softphone_socket(settings)
    assert (socket.limits.requests_burst, socket.throttle.failures_max) == (3, 4)
    assert socket.origins == ("https://crm.example.org",)
    assert [provision.may_read_metrics(Settings(), host) for host in ("127.0.0.9", "::1", "192.0.2.1", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert provision.https(settings).connections_max == settings.https.connections_max


def test_every_setting_is_used() -> None:
    """A documented setting that nothing reads is a lie."""
    told = {"config.py", "config_view.py", "config_sources.py"}
    folder = Path(config.__file__).parent
    source = "".join(file.read_text() for file in folder.rglob("*.py") if file.name not in told)
    sections = [each for each in vars(config).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    named = {name for section in sections for name in section.model_fields if not section.__name__.startswith("Base")}
    assert len(named) > 60
    assert [name for name in sorted(named) if f".{name}" not in source] == []


NAMES = st.sampled_from(
    ["name", "host", "port", "addresses", "password", "udp", "s3", "urls", "nonsense", "advertised", "x.y"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("s3://x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "nonsense"]), VALUES, max_size=4))
def test_no_table_is_more_than_a_clear_error(table: dict[str, object]) -> None:
    said = "taken"
    try:
        config_view.without_secrets(validated(table, dict.fromkeys(table, "file")))
    except OperatorError as error:
        said = str(error)
    assert said
    assert "lax-or-strict" not in said, "pydantic's inner names mean nothing to an operator"
