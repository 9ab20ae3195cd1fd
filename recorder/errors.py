"""Errors of the way of a recording: each kind names who is to blame.

RecorderError
├── RemoteError    a stored object, a peer store or a key is not what it must be; says the place
├── LocalError     this program was misused
├── Exhausted      a limit was hit
└── Unavailable    try again later; carries when
"""

from __future__ import annotations


class RecorderError(Exception):
    """Base of all errors that `recorder` raises on purpose."""


class RemoteError(RecorderError):
    """Bytes from outside are to blame; `place` says where in them."""

    def __init__(self, what: str, *, place: str = "") -> None:
        super().__init__(what)
        self.place = place


class LocalError(RecorderError):
    """A caller inside this program, or its configuration, broke the rules of an interface."""


class Exhausted(RecorderError):
    """A limit of the configuration was hit."""


class Unavailable(RecorderError):
    """The thing asked for is not to be had now; `retry_after` seconds is a fair guess."""

    def __init__(self, what: str, *, retry_after: float = 5.0, refused: bool = False) -> None:
        super().__init__(what)
        self.retry_after = retry_after
        self.refused = refused
        """The other side answered, and said no: trying again soon does not help."""
