"""Errors of the relay itself: each kind names who is to blame, and what to do.

RelayError
├── OperatorError  a setting, a file or a command line is wrong; the message says what to change
├── RemoteError    a peer sent nonsense or asked for what we refuse
├── LocalError     this program was misused
├── Exhausted      a limit was hit
└── Unavailable    try again later; carries when
"""

from __future__ import annotations


class RelayError(Exception):
    """Base of all errors that `relay` raises on purpose."""


class OperatorError(RelayError):
    """Whoever runs the relay is to blame; the command line prints the message as it is, without a traceback."""


class RemoteError(RelayError):
    """The peer is to blame."""


class LocalError(RelayError):
    """A caller inside this program broke the rules of an interface."""


class Exhausted(RelayError):
    """A limit of the configuration was hit."""


class Unavailable(RelayError):
    """The thing asked for is not to be had now; `retry_after` seconds is a fair guess."""

    def __init__(self, what: str, *, retry_after: float = 5.0) -> None:
        super().__init__(what)
        self.retry_after = retry_after
