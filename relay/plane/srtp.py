"""SRTP through libsrtp, in place on the rows of a packet table: one context a leg and direction.

pylibsrtp's public methods copy each packet twice. Its binding works in place at 0.75 µs a packet, but is private: its
names are looked up at import, and where they are gone the public methods do the work, a microsecond dearer.
RFC 3711 §3.3.1: a context lives as long as its leg, so that the roll-over counter of an SSRC survives hold, silence, a
change of address and a new key; a new SSRC begins at zero beside the old one.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import pylibsrtp

from relay.errors import RemoteError, Unavailable
from relay.media import SrtpKey, SrtpSuite
from relay.plane.packets import PacketTable

OK: Final = 0
FAILED: Final = 1
REPLAYED: Final = frozenset({9, 10})
"""`srtp_err_status_t` of libsrtp 2: replay_fail (seen before), replay_old (before the window)."""

REPLAY_WINDOW: Final = 1024
"""Packets; RFC 3711 §3.3.2 asks for at least 64, which is less than a jitter buffer holds of 10 ms packets."""
SSRCS_MAX: Final = 64
"""SSRCs that one inbound context knows: each costs memory, and forgetting one would let its packets be replayed."""
REPORT_SSRCS_MAX: Final = 8
"""The same of SSRCs that RTCP alone comes from: a peer that has not spoken yet reports from one."""

_SRTP: Any = pylibsrtp
"""The library as it is: its types say little, and what is private in it is looked up with care."""

_PROFILES: Final[dict[SrtpSuite, int]] = {
    "AES_CM_128_HMAC_SHA1_80": _SRTP.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": _SRTP.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": _SRTP.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": _SRTP.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
"""Under `_32` libsrtp keeps the 80-bit tag for SRTCP, as RFC 3711 §5.2 has it."""

_log = logging.getLogger(__name__)


class SrtpContext:
    """One direction of a leg: RTP and RTCP of whatever SSRCs it carries."""

    def __init__(self, key: SrtpKey, *, inbound: bool) -> None:
        self._inbound = inbound
        self._session: Any = _SRTP.Session(_policy(key, inbound=inbound))
        self.handle: Any = self._session._srtp[0] if _BINDING else self._session  # noqa: SLF001
        """What `RowCrypto` takes."""

    def renew(self, key: SrtpKey) -> None:
        """Change the key; SSRCs keep their roll-over counters (RFC 3711 §3.3.1)."""
        if _update is None:
            raise Unavailable("this pylibsrtp does not show srtp_update: a leg's key cannot be changed")
        policy = _policy(key, inbound=self._inbound)
        if status := _update(_address(self.handle), _address(policy._policy)):  # noqa: SLF001
            raise RemoteError(f"libsrtp refuses the new key: status {status}")

    def protect_rtcp(self, packet: bytes) -> bytes:
        """A compound RTCP packet as SRTCP."""
        protected: bytes = self._session.protect_rtcp(packet)
        return protected

    def unprotect_rtcp(self, packet: bytes) -> tuple[int, bytes]:
        """A status as of libsrtp, and the compound packet of an authentic SRTCP packet."""
        try:
            compound: bytes = self._session.unprotect_rtcp(packet)
        except (pylibsrtp.Error, ValueError) as error:
            return _status(error), b""
        return OK, compound

    def unprotect(self, packet: bytes) -> bytes | None:
        """The RTP packet of an authentic SRTP packet, else None: for those that are tried against several legs."""
        with contextlib.suppress(pylibsrtp.Error, ValueError):
            plain: bytes = self._session.unprotect(packet)
            return plain
        return None


class RowCrypto:
    """Protects and unprotects rows of one packet table, each in a context of its own."""

    def __init__(self, table: PacketTable) -> None:
        self._table = table
        if _BINDING is None:
            return
        data = _BINDING.ffi.cast("char *", table.data.ctypes.data)
        lengths = _BINDING.ffi.cast("int *", table.length.ctypes.data)
        self._pointers = [data + row * table.stride for row in range(table.rows)]
        self._lengths = [lengths + row for row in range(table.rows)]

    def unprotect(self, rows: Sequence[int], handles: Iterable[Any]) -> list[int]:
        """Decrypt rows in place, shorten their lengths, and return libsrtp's statuses."""
        if _BINDING is None:
            return [self._apply(row, handle.unprotect) for row, handle in zip(rows, handles, strict=True)]
        return self._map(_BINDING.lib.srtp_unprotect, rows, handles)

    def protect(self, rows: Sequence[int], handles: Iterable[Any]) -> list[int]:
        """Encrypt rows in place, lengthen their lengths, and return libsrtp's statuses."""
        if _BINDING is None:
            return [self._apply(row, handle.protect) for row, handle in zip(rows, handles, strict=True)]
        return self._map(_BINDING.lib.srtp_protect, rows, handles)

    def _map(self, function: Callable[[Any, Any, Any], int], rows: Sequence[int], handles: Iterable[Any]) -> list[int]:
        """A call a row without a line of Python between two calls; a stretch of the table is not even looked up."""
        pointers, lengths = self._pointers, self._lengths
        if isinstance(rows, range) and rows.step == 1:
            stretch = slice(rows.start, rows.stop)
            return list(map(function, handles, pointers[stretch], lengths[stretch]))
        return list(map(function, handles, map(pointers.__getitem__, rows), map(lengths.__getitem__, rows)))

    def _apply(self, row: int, transform: Callable[[bytes], bytes]) -> int:
        try:
            packet = transform(self._table.datagram(row))
        except (pylibsrtp.Error, ValueError) as error:
            return _status(error)
        self._table.data[row, : len(packet)] = np.frombuffer(packet, np.uint8)
        self._table.length[row] = len(packet)
        return OK


def _status(error: Exception) -> int:
    """The public methods say in words what the binding says in numbers."""
    return min(REPLAYED) if "replay" in str(error) else FAILED


def _policy(key: SrtpKey, *, inbound: bool) -> Any:  # noqa: ANN401 - as `_SRTP`
    ssrcs = _SRTP.Policy.SSRC_ANY_INBOUND if inbound else _SRTP.Policy.SSRC_ANY_OUTBOUND
    try:
        policy = _SRTP.Policy(key=key.master, ssrc_type=ssrcs, srtp_profile=_PROFILES[key.suite])
    except (KeyError, ValueError) as error:
        raise RemoteError(f"no SRTP key of suite {key.suite}") from error
    policy.window_size = REPLAY_WINDOW
    return policy


def _binding() -> Any:  # noqa: ANN401 - a module without types
    """The private names that in-place work needs, or None."""
    try:
        binding = importlib.import_module("pylibsrtp._binding")
        session = _SRTP.Session()
        needed = (binding.ffi.cast, binding.lib.srtp_protect, binding.lib.srtp_unprotect, session._srtp[0])  # noqa: SLF001
    except (ImportError, AttributeError, TypeError):
        _log.warning("pylibsrtp's binding has changed: SRTP runs through its public methods, a microsecond dearer")
        return None
    return binding if needed else None


def _update_function() -> Callable[[int, int], int] | None:
    """`srtp_update`, which the binding does not declare, but its shared object shows."""
    if _BINDING is None:
        return None
    try:
        update = ctypes.CDLL(_BINDING.__file__).srtp_update
    except (OSError, AttributeError):
        return None
    update.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    update.restype = ctypes.c_int
    return update


def _address(pointer: object) -> int:
    return int(_BINDING.ffi.cast("uintptr_t", pointer))


_BINDING: Any = _binding()
_update = _update_function()
