"""What each part of a running relay is given of the operator's settings.

The packages know nothing of `relay.config`: each has frozen settings of its own, and these functions fill them in, so
that every limit stands in one place for the operator and beside its use for the reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from relay.calls.effects import ExchangeSettings, Queue
from relay.config import QueueSettings, Settings, TrunkSettings
from relay.plane.jitter import JitterSettings
from relay.plane.sockets import SocketSettings as MediaSocketSettings
from relay.plane.stages import PlaneSettings
from relay.webrtc.softphone_leg import SoftphoneMediaSettings
from signaling.addresses import plain_host
from signaling.agents import AgentsSettings
from signaling.api import HttpsSettings
from signaling.contact.contact import ContactSettings
from signaling.sip.digest import Algorithm, Credentials
from signaling.sip.events import Transport, UserAgentSettings
from signaling.sip.message import MessageLimits
from signaling.sip.socket import SocketLimits
from signaling.sip.stream import StreamLimits
from signaling.sip.trunks import Trunk
from signaling.softphone.protocol import Limits
from signaling.softphone.socket import SocketSettings
from signaling.softphone.throttle import ThrottleSettings

__all__ = [
    "exchange",
    "https",
    "jitter",
    "may_read_metrics",
    "media_sockets",
    "message_limits",
    "plane",
    "sip_sockets",
    "softphone_media",
    "softphone_socket",
    "trunks",
    "user_agent",
]

FRAME_MS = 20


def user_agent(settings: Settings, ports: Mapping[Transport, int]) -> UserAgentSettings:
    """The SIP user agent; `ports` are those of the listeners, 0 where any free one was asked for."""
    sip = settings.sip
    # Where any port was asked for, the local end of a call's connection stands in Contact: there a peer sends ACK.
    known: tuple[tuple[Transport, int], ...] = tuple((transport, port) for transport, port in ports.items() if port)
    return UserAgentSettings(
        realm=sip.realm,
        advertised_host=sip.advertised_host or "",
        contact_ports=known,
        message_limits=message_limits(settings),
        transactions_max=sip.transactions_max,
        calls_max=sip.calls_max,
        ring_seconds_max=sip.ring_seconds_max,
        session_seconds_min=sip.session_seconds_min,
    )


def message_limits(settings: Settings) -> MessageLimits:
    """How large a SIP message may be."""
    return MessageLimits(message_bytes_max=settings.sip.message_bytes_max)


def sip_sockets(settings: Settings) -> SocketLimits:
    """What peers may use up of the signalling sockets."""
    sip = settings.sip
    return SocketLimits(
        connections_max=sip.connections_max,
        connections_per_address_max=sip.connections_per_address_max,
        idle_seconds=sip.connection_idle_seconds,
        stream=StreamLimits(body_bytes_max=sip.message_bytes_max),
    )


def trunks(settings: Settings) -> tuple[Trunk, ...]:
    """The trunks, with what proves each."""
    return tuple(_trunk(trunk) for trunk in settings.trunks)


def _trunk(trunk: TrunkSettings) -> Trunk:
    return Trunk(
        name=trunk.name,
        addresses=trunk.addresses,
        certificate_names=trunk.certificate_names,
        credentials=tuple(_credentials(trunk)),
        allow_udp=trunk.allow_udp,
        allow_tcp=trunk.allow_tcp,
        allow_plain_rtp=trunk.allow_plain_rtp,
        transactions_max=trunk.transactions_max,
        calls_max=trunk.calls_max,
    )


def _credentials(trunk: TrunkSettings) -> Iterable[Credentials]:
    if trunk.username is None:
        return
    hashes: list[tuple[Algorithm, str]] = []
    if trunk.ha1 is not None:
        hashes.append(("MD5", trunk.ha1.get_secret_value()))
    if trunk.ha1_sha256 is not None:
        hashes.append(("SHA-256", trunk.ha1_sha256.get_secret_value()))
    password = trunk.password.get_secret_value() if trunk.password else None
    yield Credentials(trunk.username, password, tuple(hashes))


def https(settings: Settings) -> HttpsSettings:
    """The server of page, WebSocket and API."""
    return HttpsSettings(
        connections_max=settings.https.connections_max,
        frame_bytes_max=settings.softphone.request_bytes_max,
        ping_interval_s=settings.softphone.ping_seconds,
    )


def may_read_metrics(settings: Settings, host: str) -> bool:
    """Whether a client at this address may read the metrics."""
    try:
        address = ip_address(plain_host(host))
    except ValueError:
        return False
    return any(address in network for network in settings.https.metrics_readers)


def softphone_socket(settings: Settings) -> SocketSettings:
    """The softphones' WebSocket."""
    softphone = settings.softphone
    return SocketSettings(
        connections_max=softphone.connections_max,
        waiting_per_address_max=softphone.waiting_per_address_max,
        log_in_timeout_s=softphone.log_in_seconds,
        origins=settings.https.allowed_origins,
        limits=Limits(
            text_max=softphone.request_bytes_max,
            requests_per_second=softphone.requests_per_second,
            requests_burst=softphone.requests_burst,
        ),
        throttle=ThrottleSettings(failures_max=softphone.failed_log_ins_max),
    )


def softphone_media(settings: Settings) -> SoftphoneMediaSettings:
    """ICE, DTLS and codecs of browsers."""
    return SoftphoneMediaSettings(
        opus_bitrate=settings.media.opus_bitrate,
        opus_complexity=settings.media.opus_complexity,
        legs_max=settings.media.legs_max,
        handshakes_max=settings.softphone.handshakes_max,
        connect_timeout_s=settings.softphone.connect_seconds,
        advertised={str(local): str(public) for local, public in settings.media.advertised.items()},
    )


def media_sockets(settings: Settings, interfaces: tuple[str, ...]) -> MediaSocketSettings:
    """Where media listens: what the operator names, or all `interfaces`."""
    named = tuple(str(address) for address in settings.media.addresses)
    return MediaSocketSettings(
        hosts=named or interfaces,
        port=settings.media.port,
        receive_buffer_bytes=settings.media.receive_buffer_bytes,
    )


def plane(settings: Settings) -> PlaneSettings:
    """Rows, patience and buffers of the media plane."""
    return PlaneSettings(
        legs_max=settings.media.legs_max,
        tracks_max=2 * settings.media.legs_max,
        steps_max=settings.media.steps_max,
        silent_seconds=settings.media.silent_seconds,
        jitter=jitter(settings),
    )


def jitter(settings: Settings) -> JitterSettings:
    """Depth of jitter buffers."""
    return JitterSettings(depth_slots_max=settings.media.jitter_ms_max // FRAME_MS)


def exchange(settings: Settings) -> ExchangeSettings:
    """Queues, and which of them a trunk's calls go to."""
    return ExchangeSettings(
        queues=tuple(_queue(queue, settings) for queue in settings.queues),
        queue_of_trunk={trunk.name: trunk.queue for trunk in settings.trunks},
        contacts_max=settings.limits.contacts_max,
        agents=AgentsSettings(agents_max=settings.softphone.connections_max),
        reconnect_seconds=settings.softphone.reconnect_seconds,
    )


def _queue(queue: QueueSettings, settings: Settings) -> Queue:
    return Queue(
        name=queue.name,
        answer=queue.answer,
        waiting_source=queue.waiting_source,
        recorded=queue.recorded_parties if settings.recording.enabled else (),
        waiting_max=queue.waiting_max,
        contact=ContactSettings(
            offer_seconds=queue.offer_seconds,
            waiting_seconds_max=queue.waiting_seconds_max,
            after_work_seconds=queue.after_work_seconds,
            offers_max=settings.limits.offers_per_contact_max,
            requests_max=settings.limits.requests_per_contact_max,
        ),
    )
