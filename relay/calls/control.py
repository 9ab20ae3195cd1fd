"""The control loop: feeds the exchange from sockets and the plane, carries out its effects, and arms its one timer.

Runs on the control plane's asyncio loop and on no other thread. It decides nothing: whatever needs a decision is a
method of the exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVarTuple

import structlog

from relay import errors
from relay.calls.effects import CloseMedia, ContactFinished, ContactLogged, ExchangeEffect, Notify, Submit
from relay.calls.exchange import Exchange
from relay.media import (
    Address,
    CommandRefused,
    ControlDatagram,
    LegClosed,
    LegId,
    MediaEvent,
    MoveLeg,
    OpenLeg,
    Step,
)
from relay.webrtc.softphone_leg import ReadyLeg, SoftphoneTransports
from signaling.sip.events import UserAgentEvent
from signaling.softphone import messages as m
from signaling.softphone.session import SoftphoneSession

_log = structlog.get_logger()
_Arguments = TypeVarTuple("_Arguments")
_SAID_ONCE = (LegClosed, CommandRefused)
"""Events on which the end of a contact hangs; no more than steps that the control loop has submitted, and legs."""


@dataclass(frozen=True, slots=True)
class LoggedInUser:
    """Whom a token belongs to."""

    name: str
    role: str


class Authenticate(Protocol):
    """Looks a token up."""

    async def __call__(self, token: str) -> LoggedInUser | None:
        """The user who may take contacts with this token, or None."""
        ...


class Keeper(Protocol):
    """Keeps contacts' logs and records; neither call blocks."""

    def logged(self, effect: ContactLogged) -> None:
        """A contact's log grew."""
        ...

    def finished(self, effect: ContactFinished) -> None:
        """A contact is over."""
        ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """The database, as the control loop sees it."""

    keeper: Keeper
    authenticate: Authenticate


class MediaInbox:
    """Brings the plane's events from the tick's thread to the control loop, in order and within a limit."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events_max: int) -> None:
        self.deliver: Callable[[list[MediaEvent]], None] = lambda _: None
        """Takes the events on the control loop; set once there is somebody to take them."""
        self.dropped = 0
        """Events that found the inbox full: the control loop is stuck."""
        self._loop = loop
        self._events_max = events_max
        self._events: deque[MediaEvent] = deque()

    def put(self, events: list[MediaEvent]) -> None:
        """From the tick's thread, once a tick; never blocks."""
        if len(self._events) + len(events) > self._events_max:
            kept: list[MediaEvent] = [event for event in events if isinstance(event, _SAID_ONCE)]
            self.dropped += len(events) - len(kept)
            events = kept
        self._events.extend(events)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the relay is at its very end
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        events = [self._events.popleft() for _ in range(len(self._events))]
        if events:
            self.deliver(events)


class Control:
    """The shell of one exchange; also the `SoftphoneService` of the WebSocket endpoint."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        submit: Callable[[Step], None],
        keeping: Keeping,
        ice_servers: tuple[m.IceServer, ...] = (),
    ) -> None:
        self.exchange = exchange
        self.defects = 0
        """Events and effects that raised what they must not."""
        self.transports: SoftphoneTransports | None = None
        """Set once, before the first softphone comes: the transports call back into this object."""
        self.transmit_sip: Callable[[], None] = lambda: None
        """Sends what the user agent has to send; set once there are sockets."""
        self._submit = submit
        self._keeping = keeping
        self._ice_servers = ice_servers
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[str, SoftphoneSession] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def now(self) -> float:
        """Monotonic seconds of the loop."""
        return self._loop.time()

    # ---- inputs

    def sip_events(self, events: Iterable[UserAgentEvent], now: float) -> None:
        """What the SIP sockets heard."""
        for event in events:
            self._guard(self.exchange.sip_event, event, now)
        self._flush()

    def media_events(self, events: Iterable[MediaEvent]) -> None:
        """What the plane saw in one tick."""
        for event in events:
            if not isinstance(event, ControlDatagram):
                self._guard(self.exchange.media_event, event, self.now)
            elif self.transports is not None:
                self._guard(self.transports.datagram, event)
        self._flush()

    def leg_ready(self, leg_id: LegId, ready: ReadyLeg) -> None:
        """ICE and DTLS of a softphone are done."""
        opened = OpenLeg(
            leg_id=leg_id,
            codec=ready.codec,
            ssrc=ready.ssrc,
            receive_key=ready.receive_key,
            send_key=ready.send_key,
            local=ready.local,
            remote=ready.remote,
            telephone_event=ready.telephone_event,
            latch=False,
        )
        self.exchange.leg_ready(opened, self.now)
        self._flush()

    def leg_moved(self, leg_id: LegId, local: Address, remote: Address) -> None:
        """ICE selected another pair."""
        self.exchange.leg_moved(MoveLeg(leg_id, remote, local=local))
        self._flush()

    def leg_lost(self, leg_id: LegId, reason: str) -> None:
        """A softphone's media is gone."""
        self.exchange.leg_lost(leg_id, reason, self.now)
        self._flush()

    # ---- the softphone service

    async def log_in(self, token: str, session: SoftphoneSession) -> m.LoggedIn:
        """Take a session for the user of a token."""
        user = await self._keeping.authenticate(token)
        if user is None:
            raise m.RequestError(m.ErrorCode.NOT_LOGGED_IN, "this token is not known")
        self._sessions[session.session_id] = session
        try:
            logged_in = self.exchange.log_in(user.name, user.role, session.session_id, self.now)
        finally:
            self._flush()
        return m.LoggedIn(
            user=logged_in.user,
            role=logged_in.role,
            state=logged_in.state,
            media=logged_in.media,
            ice_servers=self._ice_servers,
            contact=logged_in.contact,
        )

    async def request(self, session_id: str, request: m.Request) -> Mapping[str, object]:
        """Serve a request of a softphone."""
        try:
            match request:
                case m.ConnectMedia(sdp=sdp):
                    return {"sdp": await self._connect_media(session_id, sdp)}
                case m.DisconnectMedia():
                    self.exchange.media_closed(session_id, self.now)
                    return {}
                case _:
                    return self.exchange.request(session_id, request, self.now)
        finally:
            self._flush()

    async def _connect_media(self, session_id: str, sdp: str) -> str:
        if self.transports is None:
            raise m.RequestError(m.ErrorCode.UNAVAILABLE, "media is not up yet", retry_after=1.0)
        leg_id = self.exchange.leg_connecting(session_id)
        try:
            return await self.transports.connect(leg_id, sdp)
        except errors.Exhausted as error:
            self.exchange.leg_lost(leg_id, "too many softphones", self.now)
            raise m.RequestError(m.ErrorCode.TOO_MANY, str(error), retry_after=5.0) from error
        except Exception:
            self.exchange.leg_lost(leg_id, "the offer was refused", self.now)
            raise

    async def closed(self, session_id: str) -> None:
        """A softphone's WebSocket is gone."""
        self._sessions.pop(session_id, None)
        self.exchange.session_closed(session_id, self.now)
        self._flush()

    # ---- the end

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, give those that are talking time to end, then end them."""
        self.exchange.drain(self.now)
        self._flush()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.exchange.end_all(self.now)
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- effects

    def _flush(self) -> None:
        """Carry out what the exchange wants, and see when it wants to be called again."""
        for effect in self.exchange.effects():
            self._guard(self._carry_out, effect)
        self.transmit_sip()
        if self.exchange.contacts.all:
            self._idle.clear()
        else:
            self._idle.set()
        self._arm()

    def _carry_out(self, effect: ExchangeEffect) -> None:
        match effect:
            case Submit(step):
                self._submit(step)
            case Notify(session_id, notification):
                self._notify(session_id, notification)
            case CloseMedia(leg_id):
                self._close_media(leg_id)
            case ContactLogged():
                self._keeping.keeper.logged(effect)
            case ContactFinished():
                self._keeping.keeper.finished(effect)

    def _notify(self, session_id: str, notification: m.Notification) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        if isinstance(notification, m.SessionReplaced):
            session.replaced()
        else:
            session.notify(notification)

    def _close_media(self, leg_id: LegId) -> None:
        if self.transports is not None:
            task = self._loop.create_task(self.transports.close(leg_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _arm(self) -> None:
        at = self.exchange.next_timer()
        if self._timer is not None:
            if self._timer.when() == at and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._guard(self.exchange.handle_timer, self.now)
        self._flush()

    def _guard(self, work: Callable[[*_Arguments], None], *arguments: *_Arguments) -> None:
        """A defect in what one event or effect leads to must not take those behind it along."""
        try:
            work(*arguments)
        except Exception:  # noqa: BLE001 - see above; it is counted and told
            self.defects += 1
            _log.exception("an event could not be dealt with", work=getattr(work, "__name__", "?"))
