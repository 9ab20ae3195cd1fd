"""One softphone's connection as the rest of the relay sees it: who it is, and where to tell it something."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from signaling.softphone.messages import LoggedIn, Notification, Request, SessionReplaced
from signaling.softphone.protocol import notification

CLOSE_LOG_IN = 4001
"""No log-in in time, or a wrong token: do not come back without another token."""
CLOSE_REPLACED = 4002
"""The same user logged in elsewhere: do not come back by yourself."""
CLOSE_TOO_SLOW = 4003
CLOSE_ABUSE = 4004
"""Too many requests that could not be served."""
CLOSE_GOING_AWAY = 1001
"""The relay stops or drains: come back later (RFC 6455 §7.4.1)."""
CLOSE_UNSUPPORTED = 1003
"""A binary frame came (RFC 6455 §7.4.1)."""


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a session is being closed."""

    code: int
    reason: str


class SoftphoneSession:
    """One WebSocket; its methods do not block and may be called at any time, even after it ended."""

    def __init__(self, session_id: str, address: str, outbound_max: int) -> None:
        self.session_id = session_id
        self.address = address
        self.user: str | None = None
        """Set when log-in succeeded."""
        self.is_known = False
        """Whether the service has been asked to log it in."""
        self.outbound: asyncio.Queue[str] = asyncio.Queue(outbound_max)
        self.closing: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()

    def notify(self, told: Notification) -> None:
        """Tell the softphone something; one that does not read is closed."""
        self.send(notification(told))

    def replaced(self) -> None:
        """The same user logged in elsewhere, and the newest wins: say so, and close."""
        self.notify(SessionReplaced())
        self.close(CLOSE_REPLACED, "logged in elsewhere")

    def close(self, code: int = CLOSE_GOING_AWAY, reason: str = "") -> None:
        """End the connection once what is queued has been sent; the first reason counts."""
        if not self.closing.done():
            self.closing.set_result(Closing(code, reason))

    def send(self, text: str) -> None:
        """Queue a text frame."""
        if self.closing.done():
            return
        try:
            self.outbound.put_nowait(text)
        except asyncio.QueueFull:
            self.close(CLOSE_TOO_SLOW, "too slow")


class SoftphoneService(Protocol):
    """What serves softphones. May raise RequestError, or any error of `signaling.errors`."""

    async def log_in(self, token: str, session: SoftphoneSession) -> LoggedIn:
        """Take a session for the user of a token; RequestError NOT_LOGGED_IN for a wrong one.

        The newest session of a user wins: call `replaced()` of the older one.
        """
        ...

    async def request(self, session_id: str, request: Request) -> Mapping[str, object]:
        """Serve any request but log-in and ping; the result object. One at a time for each session, in order."""
        ...

    async def closed(self, session_id: str) -> None:
        """A session that `log_in` was asked for is over; its media may still be up, and the page may come back."""
        ...
