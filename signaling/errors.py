"""Errors of the call path: each kind names who is to blame, and what to answer.

SignalingError
├── RemoteError    the peer sent nonsense or asked for what we refuse; carries the SIP status to answer
├── LocalError     this program was misused
├── Exhausted      a limit was hit
└── Unavailable    try again later; carries when
"""

from __future__ import annotations


class SignalingError(Exception):
    """Base of all errors that `signaling` raises on purpose."""


class RemoteError(SignalingError):
    """The peer is to blame; `sip_status` is what to answer."""

    def __init__(self, what: str, *, sip_status: int = 400) -> None:
        super().__init__(what)
        self.sip_status = sip_status


class LocalError(SignalingError):
    """A caller inside this program broke the rules of an interface."""


class Exhausted(SignalingError):
    """A limit of the configuration was hit."""


class Unavailable(SignalingError):
    """The thing asked for is not to be had now; `retry_after` seconds is a fair guess."""

    def __init__(self, what: str, *, retry_after: float = 5.0) -> None:
        super().__init__(what)
        self.retry_after = retry_after
