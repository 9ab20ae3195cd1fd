"""The composition root: starts every part of a relay in order, and stops them in the other.

Only here do the parts meet: the control loop (SIP, softphones, https, database), the tick's thread and the recorder's
threads. `serve` is what `koppel serve` runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from aiortc import RTCCertificate

from recorder.courier import Destination
from recorder.events import RecordingEvent
from recorder.keys import FileKeyService, FileSigner
from recorder.store import Store, StoreSettings
from recorder.worker import Recorder
from relay import certificates, interfaces, logs, provision, recording_setup
from relay.calls.control import Authenticate, Control, Keeping, LoggedInUser, MediaInbox
from relay.calls.effects import Identity
from relay.calls.exchange import Exchange
from relay.calls.keeper import Keeper
from relay.calls.trunk_calls import TrunkCalls, TrunkMedia
from relay.config import Settings
from relay.data_directory import DataDirectory
from relay.demo.hosting import DemoCustomer, caller_setup
from relay.demo.welcome import welcome
from relay.errors import OperatorError
from relay.instance_database import open_database
from relay.metrics import Metrics, Parts
from relay.plane.plane import Plane
from relay.plane.sockets import UdpSockets
from relay.plane.tick_profile import TickProfile
from relay.plane.ticker import Ticker
from relay.ready import DemoAgent, DemoTrunk, Ready
from relay.right_of_way import RightOfWay
from relay.webrtc.softphone_leg import SoftphoneTransports
from signaling import access, api
from signaling.addresses import written_host
from signaling.contact.record import WallAnchor
from signaling.database import Database
from signaling.sip.socket import Listener, SipSockets
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent
from signaling.softphone.messages import IceServer
from signaling.softphone.socket import SoftphoneSocket

_log = structlog.get_logger()

DEMO_USER = "demo"
DEMO_NUMBER = "+4930555010"


def serve(settings: Settings, *, demo: bool = False, ready_file: Path | None = None) -> int:
    """Run a relay until SIGINT or SIGTERM; returns the exit code.

    Raises OperatorError for what the operator must mend.
    """
    logs.configure(settings.log)
    data = DataDirectory.open(settings.data_dir)
    way = RightOfWay()
    with data.lock(), asyncio.Runner(loop_factory=way.new_event_loop) as runner:
        return runner.run(_serve(settings, data, way, demo=demo, ready_file=ready_file))


async def _serve(
    settings: Settings, data: DataDirectory, way: RightOfWay, *, demo: bool, ready_file: Path | None
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    password = secrets.token_urlsafe(12)
    async with AsyncExitStack() as stack:
        settings = settings.with_demo(password) if demo else settings
        relay = await Relay.start(settings, data, stack, right_of_way=way, demo=demo)
        ready = relay.ready(password)
        if ready_file is not None:
            ready.write(ready_file)
            stack.callback(ready_file.unlink, missing_ok=True)
        if demo and settings.demo.customer:
            relay.start_demo_customer(ready, stack)
            welcome(ready)
        _log.info("relay is up", softphone=ready.softphone_url, sips=ready.sips_address)
        await stopping.wait()
        _log.info("relay stops")
    return 0


@dataclass(frozen=True, slots=True)
class Variation:
    """What a benchmark composes otherwise than `koppel serve` does; as it stands, nothing."""

    open_store: Callable[[StoreSettings], Destination] = Store.open
    takes: Callable[[RecordingEvent], bool] = lambda _event: False
    """Takes what the recorder says instead of the database, on a thread of the recorder's; False: not this."""


@dataclass(slots=True)
class Relay:
    """The parts of a running relay that others ask for."""

    settings: Settings
    parts: Parts
    sockets: UdpSockets
    database: Database
    https: api.HttpsServer
    files: certificates.Certificates
    demo_agent: DemoAgent | None = None

    @classmethod
    async def start(
        cls,
        settings: Settings,
        data: DataDirectory,
        stack: AsyncExitStack,
        *,
        right_of_way: RightOfWay,
        demo: bool = False,
        variation: Variation | None = None,
    ) -> Relay:
        """Start all parts; `stack` stops them in the other order, the newest first."""
        anchor = WallAnchor(asyncio.get_running_loop().time(), time.time())
        files = _certificates(settings, data)
        database = await _open_database(settings, data, anchor, stack)
        demo_agent = await _demo_agent(database, anchor.wall) if demo else None
        keeper = Keeper(database, anchor)
        recorder = await _start_recorder(settings, data, keeper, stack, right_of_way, variation or Variation())
        media = _Media.start(settings, recorder, anchor, right_of_way, stack)
        calls = _Calls.make(settings, data, files, media, Keeping(keeper, _authenticator(database)), stack)
        parts = Parts(
            version=version(),
            exchange=calls.exchange,
            control=calls.control,
            plane=media.plane,
            ticker=media.ticker,
            inbox=media.inbox,
            recorder=recorder,
            keeper=keeper,
            writer=database.writer,
            transports=calls.transports,
            softphones=calls.softphones,
            agent=calls.agent,
            sip=calls.sip,
        )
        _log.info("the tick's thread runs", scheduling=media.ticker.scheduling)
        https = await _serve_https(settings, files, calls.softphones, Metrics(parts), demo_agent)
        stack.push_async_callback(https.stop)
        stack.callback(calls.softphones.drain)
        await _listen_sip(settings, calls.sip)
        stack.push_async_callback(calls.sip.stop)
        stack.push_async_callback(calls.control.drain, settings.limits.drain_seconds)
        media.ticker.settle()
        return cls(settings, parts, media.sockets, database, https, files, demo_agent)

    def ready(self, demo_password: str) -> Ready:
        """Where everything is."""
        host, port = self.parts.sip.addresses()["tls"]
        name = written_host(self.settings.https.public_name or _reachable(self.https.host))
        origin = f"https://{name}:{self.https.port}"
        sips = f"{written_host(_reachable(host))}:{port}"
        trunk = None
        if self.demo_agent is not None:
            dial = f"sip:{DEMO_NUMBER}@{sips};transport=tls"
            trunk = DemoTrunk("demo", "demo", demo_password, dial)
        return Ready(
            softphone_url=f"{origin}/",
            api_url=f"{origin}/api",
            metrics_url=f"{origin}/metrics",
            sips_address=sips,
            ca_file=str(self.files.ca_file or ""),
            pid=os.getpid(),
            agent=self.demo_agent,
            trunk=trunk,
        )

    def start_demo_customer(self, ready: Ready, stack: AsyncExitStack) -> None:
        """Let the demo's customer call whenever an agent is available."""
        agents = self.parts.exchange.agents
        customer = DemoCustomer(caller_setup(ready), lambda: any(agent.available for agent in agents.all))
        customer.start()
        stack.push_async_callback(customer.stop)


@dataclass(frozen=True, slots=True)
class _Media:
    """The plane, its sockets and its thread, and the way of its events to the control loop."""

    sockets: UdpSockets
    plane: Plane
    inbox: MediaInbox
    ticker: Ticker

    @classmethod
    def start(
        cls, settings: Settings, recorder: Recorder, anchor: WallAnchor, right_of_way: RightOfWay, stack: AsyncExitStack
    ) -> _Media:
        sockets = UdpSockets(provision.media_sockets(settings, interfaces.addresses()))
        stack.callback(sockets.close)
        plane = Plane(
            provision.plane(settings),
            sockets,
            lambda captured: recorder.offer(captured, time.monotonic()),
            entropy=os.urandom,
            wall=anchor.at,
        )
        loop = asyncio.get_running_loop()
        inbox = MediaInbox(loop, settings.media.events_max)

        def tell_long(profile: TickProfile, count: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the relay is at its very end
                loop.call_soon_threadsafe(_tell_long_tick, profile, count)

        ticker = Ticker(plane, inbox.put, on_long=tell_long, right_of_way=right_of_way, first=settings.media.realtime)
        ticker.start()
        stack.push_async_callback(asyncio.to_thread, ticker.stop)
        return cls(sockets, plane, inbox, ticker)


@dataclass(frozen=True, slots=True)
class _Calls:
    """The control loop's parts: SIP, softphones, and the exchange between them."""

    agent: UserAgent
    exchange: Exchange
    control: Control
    transports: SoftphoneTransports
    sip: SipSockets
    softphones: SoftphoneSocket

    @classmethod
    def make(
        cls,
        settings: Settings,
        data: DataDirectory,
        files: certificates.Certificates,
        media: _Media,
        keeping: Keeping,
        stack: AsyncExitStack,
    ) -> _Calls:
        agent = UserAgent(
            provision.user_agent(settings, {"tls": settings.sip.port}),
            Trunks(provision.trunks(settings)),
            entropy=os.urandom,
            rng=random.SystemRandom(),
        )
        exchange = Exchange(
            Identity(data.identity.account_id, data.identity.instance_id),
            provision.exchange(settings),
            _trunk_calls(settings, agent, media.sockets),
            entropy=os.urandom,
            is_plane_behind=lambda: media.plane.steps_waiting > settings.media.steps_max // 2,
        )
        control = Control(exchange, submit=media.plane.apply, keeping=keeping, ice_servers=_ice_servers(settings))
        media.inbox.deliver = control.media_events
        control.transports = SoftphoneTransports(
            media.sockets.addresses,
            media.sockets.send_control,
            RTCCertificate.generateCertificate(),
            entropy=os.urandom,
            on_ready=control.leg_ready,
            on_moved=control.leg_moved,
            on_lost=control.leg_lost,
            settings=provision.softphone_media(settings),
        )
        stack.push_async_callback(control.transports.close_all)
        sip = SipSockets(
            agent,
            _listeners(settings, files),
            control.sip_events,
            client_tls=certificates.client_context(files.ca_file),
            limits=provision.sip_sockets(settings),
        )
        control.transmit_sip = sip.transmit
        softphones = SoftphoneSocket(
            control,
            entropy=os.urandom,
            clock=asyncio.get_running_loop().time,
            settings=provision.softphone_socket(settings),
        )
        return cls(agent, exchange, control, control.transports, sip, softphones)


def _tell_long_tick(profile: TickProfile, count: int) -> None:
    """On the control loop: a log that cannot be written must not hold up the next tick as well."""
    _log.warning("a tick ended after the next one was due", ticks_so_far=count, **asdict(profile))


def version() -> str:
    """Of the installed package."""
    return importlib.metadata.version("koppel")


def _certificates(settings: Settings, data: DataDirectory) -> certificates.Certificates:
    tls = settings.tls
    if tls.certificate_file is not None and tls.key_file is not None:
        return certificates.named(tls.certificate_file, tls.key_file)
    return certificates.ensure(data.tls, certificates.own_names(tls.names), now=datetime.now(UTC))


async def _open_database(
    settings: Settings, data: DataDirectory, anchor: WallAnchor, stack: AsyncExitStack
) -> Database:
    database = await open_database(settings, data, wall=anchor.wall)
    stack.push_async_callback(database.close)
    for record in await database.close_left_open():
        _log.warning("contact found open after a restart", contact_id=record.contact_id)
    return database


async def _demo_agent(database: Database, wall: float) -> DemoAgent:
    """The demo's agent, with a new token at each start."""
    if await database.find_user(DEMO_USER) is None:
        token = await database.add_user(DEMO_USER, access.Role.AGENT, wall=wall)
    else:
        token = await database.replace_token(DEMO_USER)
    return DemoAgent(DEMO_USER, token.reveal())


async def _start_recorder(
    settings: Settings,
    data: DataDirectory,
    keeper: Keeper,
    stack: AsyncExitStack,
    right_of_way: RightOfWay,
    variation: Variation,
) -> Recorder:
    loop = asyncio.get_running_loop()

    def notify(event: RecordingEvent) -> None:
        if variation.takes(event):
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the relay is at its very end
            loop.call_soon_threadsafe(keeper.recording, event, time.time())

    files = recording_setup.key_files(settings, data)
    recorder = Recorder(
        recording_setup.recorder_settings(settings, data),
        destination=variation.open_store(recording_setup.store_settings(settings, data)),
        key_service=FileKeyService.open(files.wrapping),
        signer=FileSigner.open(files.signing),
        notify=notify,
        give_way=right_of_way.give_way,
    )
    await asyncio.to_thread(recorder.start)
    stack.push_async_callback(asyncio.to_thread, recorder.stop)
    return recorder


def _trunk_calls(settings: Settings, agent: UserAgent, sockets: UdpSockets) -> TrunkCalls:
    return TrunkCalls(
        control=agent,
        addresses=tuple(sockets.addresses),
        advertised={str(local): str(public) for local, public in settings.media.advertised.items()},
        trunks={trunk.name: TrunkMedia(trunk.allow_plain_rtp) for trunk in settings.trunks},
        entropy=os.urandom,
    )


def _listeners(settings: Settings, files: certificates.Certificates) -> tuple[Listener, ...]:
    sip = settings.sip
    context = certificates.server_context(files, client_ca_file=settings.tls.client_ca_file or files.ca_file)
    listeners = [Listener("tls", sip.host, sip.port, context)]
    if sip.udp is not None:
        listeners.append(Listener("udp", sip.udp.host, sip.udp.port))
    if sip.tcp is not None:
        listeners.append(Listener("tcp", sip.tcp.host, sip.tcp.port))
    return tuple(listeners)


async def _serve_https(
    settings: Settings,
    files: certificates.Certificates,
    softphones: SoftphoneSocket,
    metrics: Metrics,
    demo_agent: DemoAgent | None,
) -> api.HttpsServer:
    app = api.create_app(
        softphones,
        health=metrics.health,
        metrics=metrics.exposition,
        may_read_metrics=lambda request: provision.may_read_metrics(
            settings, request.client.host if request.client else ""
        ),
        demo=api.DemoAgent(demo_agent.user, demo_agent.token) if demo_agent is not None else None,
    )
    context = certificates.server_context(files)
    try:
        return await api.HttpsServer.start(
            app, settings.https.host, settings.https.port, context, provision.https(settings)
        )
    except OSError as error:
        raise OperatorError(
            f"port {settings.https.port} on {settings.https.host} cannot be had ({error.strerror}): "
            "set https.port in koppel.toml or KOPPEL_HTTPS__PORT, 0 for any free one"
        ) from None


async def _listen_sip(settings: Settings, sip: SipSockets) -> None:
    try:
        await sip.start()
    except OSError as error:
        raise OperatorError(
            f"a SIP listener cannot be had on {written_host(settings.sip.host)}:{settings.sip.port} "
            f"({error.strerror}): set sip.port in koppel.toml or KOPPEL_SIP__PORT, 0 for any free one"
        ) from None


def _authenticator(database: Database) -> Authenticate:
    async def authenticate(token: str) -> LoggedInUser | None:
        user = await database.verify_token(token)
        if user is None or not access.may(user.role, access.Permission.TAKE_CONTACTS):
            return None
        return LoggedInUser(user.name, user.role.value)

    return authenticate


def _ice_servers(settings: Settings) -> tuple[IceServer, ...]:
    return tuple(
        IceServer(each.urls, each.username, each.credential.get_secret_value() if each.credential else None)
        for each in settings.softphone.ice_servers
    )


def _reachable(host: str) -> str:
    """An address that a program on this machine can use for a listener's."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a question, not a bind
