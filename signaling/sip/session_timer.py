"""Session timers: who refreshes, how often, and when a session counts as dead (RFC 4028)."""

from __future__ import annotations

from dataclasses import dataclass

from signaling.errors import RemoteError
from signaling.sip.message import Items, Request, Response

_SECONDS_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """What the last 2xx of a session settled."""

    seconds: int
    ours: bool
    """Whether we are the one who refreshes."""

    @property
    def acts_after(self) -> float:
        """Seconds after a refresh until we refresh (half of them), or give up waiting for the peer (§10)."""
        return self.seconds / 2 if self.ours else self.seconds - self._margin

    @property
    def expires_after_refresh(self) -> float:
        """Seconds after sending our refresh until the session is dead, if the refresh brings nothing."""
        return max(1.0, self.seconds / 2 - self._margin)

    @property
    def _margin(self) -> float:
        return min(32.0, self.seconds / 3)

    def response_headers(self, request: Request) -> Items:
        """What the 2xx says of it (§9)."""
        require: Items = (("Require", "timer"),) if "timer" in request.tokens("Supported") else ()
        return (("Session-Expires", f"{self.seconds};refresher={'uas' if self.ours else 'uac'}"), *require)

    def request_headers(self) -> Items:
        """What our refresh says of it: we are the refresher, and stay it."""
        return ("Supported", "timer"), ("Session-Expires", f"{self.seconds};refresher=uac")


def answer_session_timer(request: Request, seconds_min: int) -> SessionTimer | None:
    """What we answer to an INVITE or UPDATE; None: no timer; raises RemoteError 422 if the interval is too small.

    The peer refreshes unless it cannot or names us (§9, table 2).
    """
    seconds, refresher = _session_expires(request)
    if seconds is None:
        return None
    if seconds < seconds_min:
        raise RemoteError("the session interval is too small", sip_status=422)
    return SessionTimer(seconds, ours=refresher == "uas" or "timer" not in request.tokens("Supported"))


def accepted_session_timer(response: Response) -> SessionTimer | None:
    """What a 2xx to a request of ours settles (§7.2)."""
    try:
        seconds, refresher = _session_expires(response)
    except RemoteError:
        return None
    return None if seconds is None else SessionTimer(max(seconds, 2), ours=refresher != "uas")


def _session_expires(message: Request | Response) -> tuple[int | None, str]:
    seconds = message.number("Session-Expires", _SECONDS_MAX)
    parameters = (message.get("Session-Expires") or "").lower().replace(" ", "").split(";")[1:]
    return seconds, next((value[10:] for value in parameters if value.startswith("refresher=")), "")
