"""The telephones' end of the wire: thousands of addresses on a few UDP sockets, sent and received in batches.

All of 127.0.0.0/8 is this machine, so every leg has an address of its own without a socket of its own: the source
address of a packet stands in its control data (`IP_PKTINFO`), and sockets that are bound to no address hear all. Linux.
"""

from __future__ import annotations

import errno
import functools
import importlib
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.packets import Packets
from relay.errors import OperatorError
from relay.media import Address
from relay.plane.packets import PacketTable

BATCH: Final = 512
"""Packets that are received at once: a millisecond's work, so that sending need not wait for more."""
_BUFFER_BYTES: Final = 8 << 20
_SO_TIMESTAMPNS: Final = 35
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_DO: Final = 2
_CONTROL_BYTES: Final = 32
"""A `cmsghdr` (16) with a `timespec` (16), or with an `in_pktinfo` (12, padded)."""
_PKTINFO_LENGTH: Final = 28

_MESSAGE = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
"""`struct mmsghdr` where pointers have 64 bits."""
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_STAMP = np.dtype(
    {"names": ["seconds", "nanoseconds"], "formats": ["i8", "i8"], "offsets": [16, 24], "itemsize": _CONTROL_BYTES}
)
_SOURCE = np.dtype(
    {
        "names": ["length", "level", "type", "interface", "source", "destination"],
        "formats": ["u8", "i4", "i4", "i4", "V4", "V4"],
        "offsets": [0, 8, 12, 16, 20, 24],
        "itemsize": _CONTROL_BYTES,
    }
)


@dataclass(frozen=True, slots=True)
class Received:
    """One batch: rows 0 to `count` of the wire's `table` hold it, until the next; a full one is perhaps not all."""

    count: int
    arrivals_ns: NDArray[np.int64]
    """Unix nanoseconds, by the kernel: on loopback the moment in which the relay sent."""


class Wire:
    """The sockets of all telephones; the legs of a phase share one."""

    def __init__(self, sockets: int) -> None:
        if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
            raise OperatorError("koppel bench needs 64-bit Linux: batched system calls, many addresses, pinned cores")
        self.sockets = [_bind() for _ in range(sockets)]
        self._turn = 0
        self.table = PacketTable(BATCH, 512)
        self._ffi, self._library = _system_calls()
        self._messages = np.zeros(BATCH, _MESSAGE)
        self._stamps = np.zeros(BATCH, _STAMP)
        self._vectors = np.zeros(BATCH, _VECTOR)
        rows = np.arange(BATCH, dtype=np.uint64)
        self._vectors["base"] = self.table.data.ctypes.data + rows * np.uint64(self.table.stride)
        self._vectors["length"] = self.table.stride
        self._messages["iov"] = _column(self._vectors)
        self._messages["iovlen"] = 1
        self._messages["control"] = _column(self._stamps)
        self._pointer = self._ffi.cast("char *", self._messages.ctypes.data)

    def address(self, leg: int, number: int) -> Address:
        """A leg's address on socket `number`."""
        return f"127.{1 + (leg >> 14)}.{(leg >> 7) & 127}.{1 + (leg & 127)}", int(self.sockets[number].getsockname()[1])

    def receive(self) -> Received:
        """Up to a batch of what has come; the sockets have their turns."""
        count = 0
        self._messages["controllen"] = _CONTROL_BYTES
        for _ in self.sockets:
            got = self._library.recvmmsg(
                self.sockets[self._turn].fileno(),
                self._pointer + _MESSAGE.itemsize * count,
                BATCH - count,
                socket.MSG_DONTWAIT,
                self._ffi.NULL,
            )
            count += max(got, 0)
            if count == BATCH:
                break
            self._turn = (self._turn + 1) % len(self.sockets)
        self.table.length[:count] = self._messages["length"][:count]
        stamps = self._stamps[:count]
        return Received(count, stamps["seconds"] * 1_000_000_000 + stamps["nanoseconds"])

    def sender(self, packets: Packets, sources: list[Address], relay: Address) -> Sender:
        """Sends the packets of a tick, slot by slot; `sources` are the addresses of the slots."""
        return Sender(self, packets, sources, relay)

    def sendmmsg(self, number: int, pointer: object, count: int) -> int:
        """Send a batch on a socket; returns how many the kernel did not take."""
        descriptor, sent = self.sockets[number].fileno(), 0
        while sent < count:
            taken = self._library.sendmmsg(descriptor, pointer + _MESSAGE.itemsize * sent, count - sent, 0)  # type: ignore[operator] # cffi's arithmetic
            if taken <= 0 and self._ffi.errno != errno.EINTR:
                return count - sent
            sent += max(taken, 0)
        return 0

    def pointer(self, table: NDArray[np.void]) -> Any:  # noqa: ANN401 - cffi's
        """Where a table lies."""
        return self._ffi.cast("char *", table.ctypes.data)

    def close(self) -> None:
        """Give the ports back."""
        for opened in self.sockets:
            opened.close()


class Sender:
    """The message headers of all slots, which point at the packets of one tick after another."""

    def __init__(self, wire: Wire, packets: Packets, sources: list[Address], relay: Address) -> None:
        slots = len(sources)
        self.refused = 0
        self._wire = wire
        self._packets = packets
        self._name = np.frombuffer(
            struct.pack("=H", socket.AF_INET) + struct.pack(">H", relay[1]) + socket.inet_aton(relay[0]) + bytes(8),
            np.uint8,
        ).copy()
        self._control = np.zeros(slots, _SOURCE)
        self._control["length"] = _PKTINFO_LENGTH
        self._control["level"], self._control["type"] = socket.IPPROTO_IP, _IP_PKTINFO
        self._control["source"] = np.array([socket.inet_aton(host) for host, _ in sources], "V4")
        self._vectors = np.zeros(slots, _VECTOR)
        self._messages = np.zeros(slots, _MESSAGE)
        self._messages["name"] = self._name.ctypes.data
        self._messages["namelen"] = 16
        self._messages["iov"] = _column(self._vectors)
        self._messages["iovlen"] = 1
        self._messages["control"] = _column(self._control)
        self._messages["controllen"] = _CONTROL_BYTES
        self._pointer = wire.pointer(self._messages)
        self._offsets = np.arange(slots, dtype=np.uint64) * np.uint64(packets.data.shape[2])

    def begin_tick(self, tick: int) -> None:
        """From now on the packets of this tick are sent."""
        self._vectors["base"] = self._offsets + np.uint64(self._packets.data[tick].ctypes.data)
        self._vectors["length"] = self._packets.length[tick]

    def send(self, number: int, first: int, end: int) -> None:
        """Send slots on a socket."""
        pointer = self._pointer + _MESSAGE.itemsize * first
        self.refused += self._wire.sendmmsg(number, pointer, end - first)


@functools.cache
def _system_calls() -> tuple[Any, Any]:
    ffi: Any = importlib.import_module("cffi").FFI()
    ffi.cdef("int recvmmsg(int, void *, unsigned int, int, void *); int sendmmsg(int, void *, unsigned int, int);")
    return ffi, ffi.dlopen(None)


def _bind() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    # Never fragmented, so the kernel need not look up an identification for each packet: 5 % of what sending costs.
    opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    opened.bind(("0.0.0.0", 0))  # noqa: S104 - every address of loopback; what comes from elsewhere authenticates nowhere
    return opened


def _column(table: NDArray[np.void]) -> NDArray[np.uint64]:
    """The address of each row."""
    rows: NDArray[np.uint64] = np.arange(table.size, dtype=np.uint64) * np.uint64(table.itemsize)
    return rows + np.uint64(table.ctypes.data)
