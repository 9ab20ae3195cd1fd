"""The softphone's WebSocket: admits connections, drives one session each, and never trusts what comes in.

A session has one reader (a request at a time, in order) and one writer behind a bounded queue; whichever ends first, or
`SoftphoneSession.close`, ends it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import structlog
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from signaling.addresses import party
from signaling.errors import Exhausted, LocalError, RemoteError, SignalingError, Unavailable
from signaling.softphone.messages import ErrorCode, LoggedIn, LogIn, Ping, Request, RequestError
from signaling.softphone.protocol import Call, Dropped, Limits, Refused, RequestReader, failure, result
from signaling.softphone.session import (
    CLOSE_ABUSE,
    CLOSE_GOING_AWAY,
    CLOSE_LOG_IN,
    CLOSE_TOO_SLOW,
    CLOSE_UNSUPPORTED,
    Closing,
    SoftphoneService,
    SoftphoneSession,
)
from signaling.softphone.throttle import LogInThrottle, ThrottleSettings

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Limits of the WebSocket."""

    connections_max: int = 2_000
    waiting_per_address_max: int = 32
    """Connections of one address that have not logged in: an office behind one address has many that have."""
    log_in_timeout_s: float = 10.0
    request_timeout_s: float = 15.0
    flush_timeout_s: float = 2.0
    outbound_max: int = 256
    refusals_max: int = 50
    """Requests in a row that could not be served before a session is closed."""
    origins: tuple[str, ...] = ()
    """Origins allowed besides the page's own."""
    limits: Limits = field(default_factory=Limits)
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)


@dataclass(slots=True)
class SocketCounters:
    """What came, and what was turned away."""

    connections: int = 0
    logged_in: int = 0
    log_ins_failed: int = 0
    log_ins_throttled: int = 0
    refused_origin: int = 0
    refused_full: int = 0
    requests: int = 0
    requests_refused: int = 0
    frames_dropped: int = 0
    closed_too_slow: int = 0
    closed_for_abuse: int = 0
    errors: int = 0
    """Errors of the service that nobody expected."""


class SoftphoneSocket:
    """Serves the WebSocket endpoint of an application."""

    def __init__(
        self,
        service: SoftphoneService,
        *,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float],
        settings: SocketSettings | None = None,
    ) -> None:
        self.settings = settings or SocketSettings()
        self.counters = SocketCounters()
        self._service = service
        self._entropy = entropy
        self._clock = clock
        self._sessions: dict[str, SoftphoneSession] = {}
        self._waiting: Counter[str] = Counter()
        self._throttle = LogInThrottle(self.settings.throttle)
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def drain(self) -> None:
        """Take no more connections, and end those that are there."""
        self._is_draining = True
        for session in list(self._sessions.values()):
            session.close(CLOSE_GOING_AWAY, "the relay stops")

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends."""
        address = party(websocket.client.host) if websocket.client else "unknown"
        refusal = self._refusal(websocket, address)
        if refusal is not None:
            status, text, headers = refusal
            await websocket.send_denial_response(PlainTextResponse(text, status, headers))
            return
        session = SoftphoneSession(self._entropy(16).hex(), address, self.settings.outbound_max)
        self.counters.connections += 1
        self._sessions[session.session_id] = session
        self._waiting[address] += 1
        try:
            await websocket.accept()
            await _Conversation(self, session, websocket).run()
        except WebSocketDisconnect:
            pass  # gone between its request and our answer
        finally:
            del self._sessions[session.session_id]
            if session.user is None:
                self._no_longer_waiting(address)
            if session.is_known:
                await self._service.closed(session.session_id)

    def _refusal(self, websocket: WebSocket, address: str) -> tuple[int, str, dict[str, str]] | None:
        """HTTP status, text and headers, if the connection is not to be had."""
        origin = websocket.headers.get("origin")
        # A browser always says where its page came from (RFC 6455 §10.2); other programs need not.
        own = f"https://{websocket.headers.get('host', '')}"
        if origin is not None and origin != own and origin not in self.settings.origins:
            self.counters.refused_origin += 1
            return 403, "this page may not use the softphone socket\n", {}
        full = len(self._sessions) >= self.settings.connections_max
        if full or self._is_draining or self._waiting[address] >= self.settings.waiting_per_address_max:
            self.counters.refused_full += 1
            return 503, "no more softphone connections just now\n", {"Retry-After": "5"}
        wait_s = self._throttle.wait_s(address, self._clock())
        if wait_s > 0.0:
            self.counters.log_ins_throttled += 1
            return 429, "too many failed log-ins\n", {"Retry-After": str(int(wait_s) + 1)}
        return None

    def _no_longer_waiting(self, address: str) -> None:
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    async def log_in(self, session: SoftphoneSession, token: str) -> LoggedIn:
        """Log a session in; RequestError if it does not get in."""
        session.is_known = True
        try:
            logged_in = await self._service.log_in(token, session)
        except RequestError as error:
            if error.code is ErrorCode.NOT_LOGGED_IN:
                self.counters.log_ins_failed += 1
                self._throttle.failed(session.address, self._clock())
            raise
        session.user = logged_in.user
        self._no_longer_waiting(session.address)
        self.counters.logged_in += 1
        _log.info("softphone logged in", session_id=session.session_id, user=logged_in.user)
        return logged_in

    async def request(self, session: SoftphoneSession, request: Request) -> dict[str, object]:
        """Serve a request of a session that has logged in."""
        return dict(await self._service.request(session.session_id, request))

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()


class _Conversation:
    """One connection's reader and writer."""

    def __init__(self, socket: SoftphoneSocket, session: SoftphoneSession, websocket: WebSocket) -> None:
        self._socket = socket
        self._settings = socket.settings
        self._counters = socket.counters
        self._session = session
        self._websocket = websocket
        self._reader = RequestReader(socket.settings.limits, socket.now())
        self._refusals = 0
        self._serving = asyncio.Lock()

    async def run(self) -> None:
        reading = asyncio.create_task(self._read(), name="softphone reader")
        writing = asyncio.create_task(self._write(), name="softphone writer")
        timer = asyncio.get_running_loop().call_later(self._settings.log_in_timeout_s, self._log_in_timed_out)
        try:
            closing: asyncio.Future[Closing] = self._session.closing
            ends: set[asyncio.Future[object]] = {
                cast("asyncio.Future[object]", end) for end in (reading, writing, closing)
            }
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if closing.done() and not writing.done():
                await self._close(closing.result())
        finally:
            timer.cancel()
            async with self._serving:  # a request that is being served ends first
                reading.cancel()
            writing.cancel()
            await asyncio.wait({reading, writing})
            self._session.close()

    def _log_in_timed_out(self) -> None:
        if self._session.user is None:
            self._session.close(CLOSE_LOG_IN, "no log-in in time")

    async def _close(self, closing: Closing) -> None:
        """Send what is queued, then the close frame; a peer that takes neither is cut off."""
        if closing.code == CLOSE_TOO_SLOW:
            self._counters.closed_too_slow += 1
        try:
            async with asyncio.timeout(self._settings.flush_timeout_s):
                await self._session.outbound.join()
                await self._websocket.close(closing.code, closing.reason)
        except (TimeoutError, WebSocketDisconnect):
            return

    async def _write(self) -> None:
        outbound = self._session.outbound
        try:
            while True:
                await self._websocket.send_text(await outbound.get())
                outbound.task_done()
        except WebSocketDisconnect:
            return

    async def _read(self) -> None:
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            text = cast("str | None", frame.get("text"))
            if text is None:
                self._session.close(CLOSE_UNSUPPORTED, "text frames only")
                return
            async with self._serving:
                await self._take(text)

    async def _take(self, text: str) -> None:
        read = self._reader.read(text, self._socket.now())
        match read:
            case Dropped():
                self._counters.frames_dropped += 1
                self._refused()
            case Refused(text=answer):
                self._session.send(answer)
                self._refused()
            case Call(request_id=request_id, request=request):
                try:
                    answer = result(request_id, await self._serve(request))
                    self._counters.requests += 1
                    self._refusals = 0
                    self._session.send(answer)
                except RequestError as error:
                    self._session.send(failure(request_id, error))
                    self._refused()
                    if isinstance(request, LogIn) and self._session.user is None:
                        wrong = error.code is ErrorCode.NOT_LOGGED_IN
                        self._session.close(CLOSE_LOG_IN if wrong else CLOSE_GOING_AWAY, "log-in failed")

    def _refused(self) -> None:
        self._counters.requests_refused += 1
        self._refusals += 1
        if self._refusals > self._settings.refusals_max:
            self._counters.closed_for_abuse += 1
            self._session.close(CLOSE_ABUSE, "too many requests that cannot be served")

    async def _serve(self, request: Request) -> dict[str, object]:
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                return await self._dispatch(request)
        except RequestError:
            raise
        except TimeoutError:
            raise RequestError(ErrorCode.UNAVAILABLE, "the relay took too long") from None
        except SignalingError as error:
            raise _told(error) from error
        except Exception as error:
            # A defect of ours must neither end the agent's connection nor show its insides.
            self._counters.errors += 1
            _log.exception("a softphone request failed", request=type(request).__name__)
            raise RequestError(ErrorCode.INTERNAL_ERROR, "internal error") from error

    async def _dispatch(self, request: Request) -> dict[str, object]:
        session = self._session
        if isinstance(request, LogIn):
            if session.user is not None:
                raise RequestError(ErrorCode.CONFLICT, "already logged in")
            return (await self._socket.log_in(session, request.token)).as_result()
        if session.user is None:
            raise RequestError(ErrorCode.NOT_LOGGED_IN, "log in first")
        if isinstance(request, Ping):
            return {}
        return await self._socket.request(session, request)


def _told(error: SignalingError) -> RequestError:
    match error:
        case RemoteError():
            return RequestError(ErrorCode.INVALID_PARAMS, str(error))
        case Exhausted():
            return RequestError(ErrorCode.TOO_MANY, str(error))
        case Unavailable():
            return RequestError(ErrorCode.UNAVAILABLE, str(error), retry_after=error.retry_after)
        case LocalError():
            return RequestError(ErrorCode.CONFLICT, str(error))
        case _:
            return RequestError(ErrorCode.INTERNAL_ERROR, "internal error")
