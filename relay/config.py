"""Every setting and every limit of the relay, in one place, with units in the names.

A `Settings` is a frozen value: nothing here reads a file or the environment (`relay.config_sources` does). The
docstrings below are the reference that `docs/configuration.md` and `koppel config --reference` print. Defaults are safe
ones: listeners on the loopback interface, no plain signalling or media, and no recording until it is switched on.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relay.config_addresses import Host, MediaAddress, Network

__all__ = [
    "DatabaseSettings",
    "DemoSettings",
    "HttpsSettings",
    "IceServer",
    "LimitSettings",
    "LogSettings",
    "MediaSettings",
    "PlainListener",
    "QueueSettings",
    "RecordedParty",
    "RecordingSettings",
    "S3Settings",
    "Settings",
    "SipSettings",
    "SoftphoneSettings",
    "TlsSettings",
    "TrunkSettings",
]

RecordedParty = Literal["agent", "customer"]


def _plain_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", text):
        raise ValueError("must be at most 64 small letters, digits, dots, dashes and underscores")
    return text


Port = Annotated[int, Field(ge=0, le=65_535)]
"""0: any free port."""
Name = Annotated[str, AfterValidator(_plain_name)]
"""A name that stands in records, object keys, logs and metrics."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


LOSS_BOUND_MS = 1_000
"""A crash at any moment costs at most this much of a track."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(_Section):
    """The certificate of the relay, shown to browsers and trunks alike."""

    certificate_file: Path | None = None
    """PEM file with the certificate and its chain; unset: one of the relay's own authority, self-renewing."""
    key_file: Path | None = None
    """PEM file with the private key of `certificate_file`; must not be readable by others."""
    client_ca_file: Path | None = None
    """PEM file with the authorities whose client certificates identify trunks; unset: the relay's own authority."""
    names: tuple[str, ...] = ()
    """Further DNS names or addresses for the relay's own certificate, such as the name that agents type."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both or none")
        return self


class PlainListener(_Section):
    """A listener for signalling without TLS: anyone on the path can read and change the calls."""

    host: Host = "127.0.0.1"
    """Numeric address to listen on."""
    port: Port = 5060
    """Port; 0: any free one."""


class SipSettings(_Section):
    """Signalling of trunks and telephones."""

    host: Host = "127.0.0.1"
    """Address of the TLS listener; once trunks are named, `0.0.0.0` for all of IPv4, `::` for all of both families."""
    port: Port = 5061
    """Port of the TLS listener; 0: any free one."""
    udp: PlainListener | None = None
    """Plain UDP listener, for trunks with `allow_udp` only; unset: none."""
    tcp: PlainListener | None = None
    """Plain TCP listener, for trunks with `allow_tcp` only; unset: none."""
    advertised_host: str | None = None
    """Name or address in Via and Contact, where it is not the listener's; for a relay behind address translation."""
    realm: str = Field(default="koppel", min_length=1, max_length=64)
    """Realm of digest challenges."""
    message_bytes_max: Annotated[int, Field(ge=4_096, le=1_048_576)] = 65_535
    """Largest message, and largest body; beyond it 513, and a connection is closed."""
    connections_max: Count = 1_000
    """Open TLS and TCP connections."""
    connections_per_address_max: Count = 200
    """Those of one address; a carrier needs a few."""
    connection_idle_seconds: Seconds = 900.0
    """A connection without a message for so long is closed."""
    transactions_max: Count = 20_000
    """Transactions at a time; more are answered 503."""
    calls_max: Count = 5_000
    """Calls at a time; more are answered 503."""
    ring_seconds_max: Seconds = 180.0
    """A call that is neither answered nor refused by then is ended."""
    session_seconds_min: Annotated[int, Field(ge=90, le=86_400)] = 90
    """Smallest session interval that is taken (RFC 4028); below it: 422."""


class TrunkSettings(_Section):
    """A peer that calls come from: matched by certificate or address, else challenged by user name and password."""

    name: Name
    """Name in records, logs and metrics."""
    number: str | None = Field(default=None, max_length=64)
    """The number that callers of this trunk dial, if it has only one; unset: as the Request-URI says."""
    queue: Name = "main"
    """Queue of the calls that come in on this trunk."""
    addresses: tuple[Network, ...] = ()
    """Networks in CIDR notation whose requests are this trunk's, without a challenge."""
    certificate_names: tuple[str, ...] = ()
    """DNS names in the client certificates of this trunk."""
    username: str | None = Field(default=None, max_length=128)
    """User name that answers the digest challenge."""
    password: SecretStr | None = None
    """Password that answers the digest challenge."""
    ha1: SecretStr | None = Field(default=None)
    """Instead of `password`: MD5(username:realm:password) in hexadecimal, which serves MD5 challenges only."""
    ha1_sha256: SecretStr | None = None
    """Instead of `password`: SHA-256(username:realm:password) in hexadecimal, which serves SHA-256 challenges only."""
    allow_udp: bool = False
    """Accept signalling over plain UDP (needs `sip.udp`)."""
    allow_tcp: bool = False
    """Accept signalling over plain TCP (needs `sip.tcp`)."""
    allow_plain_rtp: bool = False
    """Accept audio without encryption."""
    calls_max: Count = 500
    """Calls at a time; more are answered 486."""
    transactions_max: Count = 1_000
    """Requests in work at a time; more are answered 503."""

    @model_validator(mode="after")
    def _recognisable(self) -> Self:
        secret = self.password or self.ha1 or self.ha1_sha256
        if (self.username is None) != (secret is None):
            raise ValueError("username goes together with password, ha1 or ha1_sha256")
        if not (self.addresses or self.certificate_names or self.username):
            raise ValueError("say how to recognise the trunk: addresses, certificate_names, or username and password")
        return self


class MediaSettings(_Section):
    """Sockets, rows and patience of the media plane."""

    addresses: tuple[MediaAddress, ...] = ()
    """Addresses that media is received on, IPv4 and IPv6; empty: loopback and every interface that is up."""
    port: Port = 0
    """UDP port of encrypted media, the same on every address; 0: any free one."""
    advertised: dict[MediaAddress, MediaAddress] = Field(default_factory=dict[MediaAddress, MediaAddress])
    """Public address for a local one of the same family, where an address translator stands between."""
    legs_max: Annotated[int, Field(ge=2, le=20_000)] = 2_000
    """Media legs at a time; more calls are answered 503."""
    silent_seconds: Seconds = 30.0
    """A connected leg from which nothing authentic comes for so long is ended."""
    jitter_ms_max: Annotated[int, Field(ge=40, le=600)] = 240
    """Deepest jitter buffer, in whole frames of 20 ms."""
    steps_max: Count = 10_000
    """Steps that may wait for the tick; more are refused and counted."""
    events_max: Count = 100_000
    """Events of the tick that may wait for the control plane; more are dropped and counted."""
    receive_buffer_bytes: Annotated[int, Field(ge=65_536, le=268_435_456)] = 4_194_304
    """Receive buffer asked of the system for each media socket; 4 MiB hold 100 ms of 1,500 legs."""
    realtime: bool = True
    """Run the tick's thread before all others (SCHED_RR, else a raised priority), where the system permits it."""
    opus_bitrate: Annotated[int, Field(ge=8_000, le=128_000)] = 32_000
    """Bits a second of Opus to browsers."""
    opus_complexity: Annotated[int, Field(ge=0, le=10)] = 5
    """Effort of the Opus encoder; 10 costs three times as much as 0."""

    @model_validator(mode="after")
    def _same_family(self) -> Self:
        if any(local.version != public.version for local, public in self.advertised.items()):
            raise ValueError("advertised pairs an IPv4 address with an IPv6 one")
        return self


class IceServer(_Section):
    """A STUN or TURN server for softphones."""

    urls: tuple[str, ...] = Field(min_length=1)
    """`stun:` and `turn:` addresses."""
    username: str | None = None
    """User name of a TURN server."""
    credential: SecretStr | None = None
    """Password of a TURN server."""


class HttpsSettings(_Section):
    """The one origin of page, WebSocket and API."""

    host: Host = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all of IPv4, `::` for all of both families."""
    port: Port = 8443
    """Port; 0: any free one."""
    public_name: str | None = None
    """The name that agents type, where it is not the listener's address."""
    allowed_origins: tuple[str, ...] = ()
    """Further web origins whose pages may open the softphone's WebSocket."""
    connections_max: Count = 4_000
    """Open connections."""
    metrics_readers: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """Networks that may read `/metrics`; everybody else is told that there is none."""


class SoftphoneSettings(_Section):
    """Agents' browsers."""

    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers, for relay and browsers; none are asked unless named here."""
    connections_max: Count = 2_000
    """WebSockets at a time."""
    waiting_per_address_max: Count = 32
    """WebSockets of one address that have not logged in."""
    log_in_seconds: Seconds = 10.0
    """A WebSocket that did not log in within this time is closed."""
    failed_log_ins_max: Annotated[int, Field(ge=1, le=1_000)] = 10
    """Failed log-ins of one address in a minute; more are refused unheard."""
    request_bytes_max: Annotated[int, Field(ge=4_096, le=1_048_576)] = 65_536
    """Largest JSON-RPC message."""
    requests_per_second: Annotated[float, Field(ge=1, le=1_000)] = 20.0
    """Requests of one softphone in the long run; more are refused."""
    requests_burst: Annotated[int, Field(ge=1, le=10_000)] = 40
    """Requests of one softphone at once."""
    ping_seconds: Seconds = 20.0
    """Interval of WebSocket pings; a softphone that does not answer one for as long is gone."""
    reconnect_seconds: Seconds = 30.0
    """How long an agent's call outlives its lost WebSocket."""
    connect_seconds: Seconds = 20.0
    """How long ICE and DTLS may take."""
    handshakes_max: Count = 16
    """DTLS handshakes at a time; others wait."""


class QueueSettings(_Section):
    """Where callers wait for agents."""

    name: Name = "main"
    """Name in records, logs and metrics."""
    answer: Literal["at_once", "with_agent"] = "at_once"
    """Whether a caller is answered while it waits, or only when an agent accepts."""
    waiting_source: Literal["music", "ringback"] = "music"
    """What a waiting caller hears."""
    recorded: Literal["both", "agent", "customer", "none"] = "none"
    """Whose voice is recorded, where `recording.enabled`."""
    offer_seconds: Seconds = 20.0
    """How long an agent's softphone rings before the next agent is asked."""
    after_work_seconds: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    """After-contact work, unless the agent ends it sooner; 0: none."""
    waiting_max: Count = 1_000
    """Callers that may wait; more are answered 486."""
    waiting_seconds_max: Seconds = 3_600.0
    """A caller that waited for so long is hung up."""

    @property
    def recorded_parties(self) -> tuple[RecordedParty, ...]:
        """The same as the contact core wants it."""
        parties: dict[str, tuple[RecordedParty, ...]] = {
            "both": ("agent", "customer"),
            "agent": ("agent",),
            "customer": ("customer",),
            "none": (),
        }
        return parties[self.recorded]


class S3Settings(_Section):
    """How to reach an S3-compatible store; only for `s3://` stores."""

    endpoint: str | None = None
    """URL of the service; unset: Amazon's."""
    region: str = "us-east-1"
    """Region of the bucket."""
    access_key_id: str | None = None
    """Access key; unset: what the machine's environment or role offers."""
    secret_access_key: SecretStr | None = None
    """Secret of the access key."""
    ca_file: Path | None = None
    """PEM file with the authority of the service's certificate, if it is a private one."""
    allow_http: bool = False
    """Accept an `http://` endpoint: objects are sealed all the same, the access key's signature is not secret."""


class RecordingSettings(_Section):
    """Recordings: taken only if this is enabled and the queue asks for it."""

    enabled: bool = False
    """The instance's switch; the other one is the queue's `recorded`."""
    store: str | None = None
    """URL of the store (`s3://bucket/prefix`, `file:///folder`); unset: the folder `store` of the data directory."""
    s3: S3Settings = S3Settings()
    """How to reach an S3-compatible store."""
    key_file: Path | None = None
    """File with the instance's wrapping keys; unset: in `keys` of the data directory. Keep it apart from backups."""
    stage_dir: Path | None = None
    """Folder of the journal; unset: `stage` in the data directory."""
    object_key_template: str = "{account_id}/{instance_id}/{year}/{month}/{day}/{contact_id}/"
    """Folder of a contact's objects in the store; must name instance and contact."""
    chunk_ms: Annotated[int, Field(ge=20, le=500, multiple_of=20)] = 400
    """Sound in one sealed chunk."""
    commit_ms: Annotated[int, Field(ge=10, le=400)] = 100
    """Interval of the journal's group commits; a crash costs at most `chunk_ms` + 2 × `commit_ms` of a track."""
    queue_bytes_max: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """Sound that may wait for the sealing thread; more becomes a stated gap."""
    queue_items_max: Count = 65_536
    """Captured items of any kind that may wait for it."""
    tracks_per_contact_max: Annotated[int, Field(ge=2, le=10_000)] = 256
    """Tracks of one contact; more are not recorded."""
    pending_bytes_max: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    """Sealed records kept in memory while the disk fails; beyond it sound is dropped and stated as a gap."""
    deliveries_max: Annotated[int, Field(ge=1, le=64)] = 4
    """Contacts delivered at a time."""
    retry_seconds: Seconds = 0.5
    """First pause after a failed delivery; it doubles each time, with jitter."""
    retry_seconds_max: Seconds = 60.0
    """Longest such pause."""
    alarm_seconds: Seconds = 900.0
    """A recording that is undelivered for so long raises an alarm, and again after each such while."""
    request_seconds: Seconds = 60.0
    """How long one request to the store may take."""

    @model_validator(mode="after")
    def _loss_bound(self) -> Self:
        if self.chunk_ms + 2 * self.commit_ms > LOSS_BOUND_MS:
            raise ValueError(f"chunk_ms + 2 × commit_ms must be at most {LOSS_BOUND_MS} ms, the promised loss bound")
        return self

    @model_validator(mode="after")
    def _known_scheme(self) -> Self:
        if self.store is not None and urlsplit(self.store).scheme not in {"s3", "file"}:
            raise ValueError("store is a URL that begins with s3:// or file://")
        return self


class DatabaseSettings(_Section):
    """Contact records, users and the audit log."""

    url: SecretStr | None = None
    """SQLAlchemy URL, such as `postgresql+asyncpg://…`; unset: SQLite in the data directory."""
    writes_max: Count = 10_000
    """Records that may wait to be written; beyond it an alarm is raised and new contacts are refused."""


class LimitSettings(_Section):
    """Limits of the whole relay."""

    contacts_max: Count = 1_000
    """Contacts at a time; more calls are answered 503."""
    requests_per_contact_max: Count = 5_000
    """Holds and mutes of one contact, which bound its log; more are refused."""
    offers_per_contact_max: Count = 100
    """Agents that one contact is offered to before it is ended."""
    drain_seconds: Seconds = 10.0
    """How long a stopping relay waits for its contacts to end before it hangs up."""


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON elsewhere."""


class DemoSettings(_Section):
    """What `--demo` adds."""

    customer: bool = True
    """Whether a demo customer calls whenever an agent is available."""


class Settings(BaseSettings):
    """All of it; `relay.config_sources.load` makes one out of file, environment and command line."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="KOPPEL_", env_nested_delimiter="__", validate_default=False
    )

    data_dir: Path = Path("~/.local/share/koppel")
    """Folder of keys, certificates, stage, store and database."""
    tls: TlsSettings = TlsSettings()
    """The certificate of the relay."""
    sip: SipSettings = SipSettings()
    """Signalling of trunks and telephones."""
    trunks: tuple[TrunkSettings, ...] = Field(default=(), max_length=1_000)
    """Peers that calls come from; nobody else is let in."""
    media: MediaSettings = MediaSettings()
    """The media plane."""
    https: HttpsSettings = HttpsSettings()
    """The origin of page, WebSocket and API."""
    softphone: SoftphoneSettings = SoftphoneSettings()
    """Agents' browsers."""
    queues: tuple[QueueSettings, ...] = Field(default=(QueueSettings(),), max_length=1_000)
    """Where callers wait for agents."""
    recording: RecordingSettings = RecordingSettings()
    """Recordings and their store."""
    database: DatabaseSettings = DatabaseSettings()
    """Contact records, users and the audit log."""
    limits: LimitSettings = LimitSettings()
    """Limits of the whole relay."""
    log: LogSettings = LogSettings()
    """What is written to standard error."""

    demo: DemoSettings = DemoSettings()
    """What `--demo` adds; nothing without it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the constructor is given: reading the world is `relay.config_sources`' part."""
        return (init_settings,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("trunks", [trunk.name for trunk in self.trunks])
        queues = _unique("queues", [queue.name for queue in self.queues])
        if not queues:
            raise ValueError("queues: there must be at least one")
        for trunk in self.trunks:
            if trunk.queue not in queues:
                raise ValueError(f"trunk {trunk.name} names the queue {trunk.queue}, which is not among the queues")
            if trunk.allow_udp and self.sip.udp is None:
                raise ValueError(f"trunk {trunk.name} has allow_udp, but there is no sip.udp listener")
            if trunk.allow_tcp and self.sip.tcp is None:
                raise ValueError(f"trunk {trunk.name} has allow_tcp, but there is no sip.tcp listener")
        return self

    def with_demo(self, password: str) -> Self:
        """The same relay with a trunk `demo` for the demo caller, and every queue recorded."""
        trunk = TrunkSettings(
            name="demo", number="+4930555010", queue=self.queues[0].name, username="demo", password=SecretStr(password)
        )
        return self.model_copy(
            update={
                "trunks": (*(other for other in self.trunks if other.name != "demo"), trunk),
                "queues": tuple(queue.model_copy(update={"recorded": "both"}) for queue in self.queues),
                "recording": self.recording.model_copy(update={"enabled": True}),
            }
        )


def _unique(what: str, names: list[str]) -> set[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: two have the name {name}")
    return set(names)
