"""The media sockets: a pair of UDP ports a local address, read and written a whole tick at a time.

On Linux `recvmmsg` and `sendmmsg` (called through cffi) work straight on the packet table: numpy arrays laid out as
`struct mmsghdr` point at its rows, so that Python runs once a batch and not once a packet. Elsewhere `recvmsg_into` and
`sendto` do the same, several times dearer. Times of arrival come from the kernel (`SO_TIMESTAMPNS`), since the tick
itself looks only every 20 ms.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from relay.errors import OperatorError
from relay.media import Address
from relay.plane.hosts import PeerHosts
from relay.plane.packets import OVERSIZED, UNREADABLE, PacketTable, endpoint_key, host_column, socket_column

_SO_TIMESTAMPNS: Final = 35
_CONTROL_BYTES: Final = 32
"""One `cmsghdr` (16) with a `timespec` (16)."""
_PORT_ATTEMPTS: Final = 64


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Where media listens."""

    hosts: tuple[str, ...] = ("127.0.0.1",)
    """Numeric addresses, IPv4 and IPv6, one pair of ports each."""
    port: int = 0
    """RTP port on every address, RTCP one above; 0: an even one that is free on all."""
    receive_buffer_bytes: int = 4 << 20
    """Kernel buffer of a socket: 4 MB hold 100 ms of 1,500 legs."""
    batch_max: int = 1024
    """Datagrams that one system call takes."""


class UdpSockets:
    """`MediaSockets` of the real world; index 2k is the RTP socket of address k, 2k + 1 its RTCP socket."""

    def __init__(self, settings: SocketSettings | None = None, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._settings = settings or SocketSettings()
        self._sockets = _open_sockets(self._settings)
        self.addresses: Sequence[Address] = tuple(each.name for each in self._sockets[::2])
        self.hosts = PeerHosts(entropy)
        self.rejected = 0
        """Datagrams that the system refused to send."""
        self._turn = 0
        self._selector = selectors.DefaultSelector()
        for each in self._sockets:
            self._selector.register(each.opened, selectors.EVENT_READ, each)
        self._driver: _Driver = _driver(self._settings.batch_max, self.hosts)
        self._by_address = {each.name: each.opened for each in self._sockets}

    @property
    def receive_buffer_bytes(self) -> int:
        """What the kernel granted; less than asked where `net.core.rmem_max` is lower."""
        return min(each.opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 for each in self._sockets)

    def receive(self, table: PacketTable, now: float) -> int:
        """Fill rows with what has come; a full table leaves the rest in the kernel, and another socket goes first."""
        self.hosts.begin_batch()
        # Most have nothing: RTCP comes multiplexed, and of many addresses a relay uses few.
        ready: list[_Socket] = [key.data for key, _ in self._selector.select(0)]
        if len(ready) > 1:
            ready.sort(key=lambda each: (each.index + self._turn) % len(self._sockets))
        self._turn += 1
        count = 0
        for each in ready:
            count += self._driver.receive(each, table, count, now)
        return count

    def send(self, table: PacketTable, count: int) -> int:
        """Send rows 0 to `count`; consecutive rows of one socket go in one system call."""
        column = socket_column(table.endpoint[:count])
        ends = [*(np.flatnonzero(column[1:] != column[:-1]) + 1).tolist(), count] if count else []
        rejected = first = 0
        for end in ends:
            rejected += self._driver.send(self._sockets[int(column[first])], table, first, end)
            first = end
        self.rejected += rejected
        return rejected

    def send_control(self, local: Address, data: bytes, remote: Address) -> None:
        """Send one STUN or DTLS datagram, from any thread; the network may lose it, and so may we."""
        opened = self._by_address.get(local)
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.sendto(data, remote)

    def close(self) -> None:
        """Give the ports back."""
        self._selector.close()
        _close(self._sockets)


@dataclass(frozen=True, slots=True)
class _Socket:
    """One of the sockets, with what the tick would else ask of it again and again."""

    opened: socket.socket
    index: int
    name: Address
    is_ipv6: bool


class _Driver(Protocol):
    def receive(self, source: _Socket, table: PacketTable, first: int, now: float) -> int: ...

    def send(self, source: _Socket, table: PacketTable, first: int, end: int) -> int: ...


class _Batched:
    """`recvmmsg` and `sendmmsg`."""

    def __init__(self, batch_max: int, hosts: PeerHosts) -> None:
        ffi, library = _system_calls()
        self._ffi = ffi
        self._library = library
        self._batch_max = batch_max
        self._hosts = hosts
        self._messages: dict[int, _Messages] = {}

    def receive(self, source: _Socket, table: PacketTable, first: int, now: float) -> int:
        """Drain one socket into the rows from `first` on."""
        messages = self._messages_of(table)
        descriptor, count = source.opened.fileno(), first
        while count < table.rows:
            asked = min(self._batch_max, table.rows - count)
            messages.expect()
            pointer = messages.pointer(count)
            got = self._library.recvmmsg(descriptor, pointer, asked, socket.MSG_DONTWAIT, self._ffi.NULL)
            count += max(got, 0)
            if got < asked:
                break
        if count > first:
            messages.read(first, count, now)
            if source.is_ipv6:
                messages.read_ipv6_names(first, count, source.index, self._hosts)
            else:
                messages.read_ipv4_names(first, count, source.index)
        return count - first

    def send(self, source: _Socket, table: PacketTable, first: int, end: int) -> int:
        """Send rows; one that the system refuses is skipped, a full send buffer drops the rest."""
        messages = self._messages_of(table)
        messages.write(first, end)
        if source.is_ipv6:
            messages.write_ipv6_names(first, end, self._hosts)
        else:
            messages.write_ipv4_names(first, end)
        descriptor, rejected = source.opened.fileno(), 0
        while first < end:
            asked = min(self._batch_max, end - first)
            sent = self._library.sendmmsg(descriptor, messages.pointer(first), asked, socket.MSG_DONTWAIT)
            if sent > 0:
                first += sent
            elif self._ffi.errno in {errno.EAGAIN, errno.ENOBUFS}:
                return rejected + end - first
            else:
                rejected += 1
                first += 1
        return rejected

    def _messages_of(self, table: PacketTable) -> _Messages:
        messages = self._messages.get(id(table))
        if messages is None:
            messages = self._messages[id(table)] = _Messages(table)
        return messages


class _Messages:
    """The kernel's view of a packet table: `mmsghdr`, `iovec`, `sockaddr_in(6)`, control data of each row."""

    HEADER = np.dtype(
        {
            "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "length"],
            "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
            "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
            "itemsize": 64,
        }
    )
    NAME = np.dtype(
        {
            # `key` is what IPv4 has of it, the rest is IPv6's.
            "names": ["family", "key", "port", "flow", "address", "scope"],
            "formats": ["u2", "u8", "u2", "u4", ("u8", 2), "u4"],
            "offsets": [0, 0, 2, 4, 8, 24],
            "itemsize": 32,
        }
    )
    CONTROL = np.dtype(
        {
            "names": ["length", "seconds", "nanoseconds"],
            "formats": ["u8", "i8", "i8"],
            "offsets": [0, 16, 24],
            "itemsize": _CONTROL_BYTES,
        }
    )

    def __init__(self, table: PacketTable) -> None:
        rows = table.rows
        self._table = table  # its memory is pointed at
        self._headers = np.zeros(rows, self.HEADER)
        self._vectors = np.zeros(rows, np.dtype([("base", "u8"), ("length", "u8")]))
        self._names = np.zeros(rows, self.NAME)
        self._control = np.zeros(rows, self.CONTROL)
        row = np.arange(rows, dtype=np.uint64)
        self._vectors["base"] = table.data.ctypes.data + row * np.uint64(table.stride)
        self._headers["name"] = self._names.ctypes.data + row * np.uint64(self.NAME.itemsize)
        self._headers["namelen"] = self.NAME.itemsize
        self._headers["iov"] = self._vectors.ctypes.data + row * np.uint64(16)
        self._headers["iovlen"] = 1
        self._controls = self._control.ctypes.data + row * np.uint64(_CONTROL_BYTES)
        self._used = rows
        """Rows up to here may have other sizes than receiving wants."""
        self._base: Any = _system_calls()[0].cast("char *", self._headers.ctypes.data)

    def pointer(self, row: int) -> object:
        """The address of a row's `mmsghdr`."""
        return self._base + self.HEADER.itemsize * row

    def expect(self) -> None:
        """Make ready for receiving what was used since the last time: the kernel, or sending, overwrote its sizes."""
        used, self._used = slice(0, self._used), 0
        if used.stop:
            self._vectors["length"][used] = self._table.stride
            self._headers["namelen"][used] = self.NAME.itemsize
            self._headers["control"][used] = self._controls[used]
            self._headers["controllen"][used] = _CONTROL_BYTES

    def read(self, first: int, end: int, now: float) -> None:
        """Turn what the kernel wrote into columns of the table, but for the peers' names."""
        rows, table = slice(first, end), self._table
        self._used = max(self._used, end)
        headers, control = self._headers[rows], self._control[rows]
        table.length[rows] = np.where(headers["flags"] & socket.MSG_TRUNC, OVERSIZED, headers["length"])
        # The kernel stamps wall time; the offset is taken anew each time, since wall clocks are set and slewed.
        offset_ns = time.time_ns() - time.monotonic_ns()
        stamps = (control["seconds"] * 1_000_000_000 + control["nanoseconds"] - offset_ns) * 1e-9
        stamped = headers["controllen"] >= _CONTROL_BYTES
        table.arrival[rows] = np.where(stamped, stamps, now)

    def read_ipv4_names(self, first: int, end: int, index: int) -> None:
        """An IPv4 peer's key is the beginning of its name, with the socket's index for the family."""
        rows = slice(first, end)
        self._names["family"][rows] = index
        self._table.endpoint[rows] = self._names["key"][rows]

    def read_ipv6_names(self, first: int, end: int, index: int, hosts: PeerHosts) -> None:
        """An IPv6 peer's key is looked up; what none can be given to is nothing that we read."""
        names = self._names[first:end]
        keys, unlike = hosts.read(index, names["port"], np.ascontiguousarray(names["address"]))
        self._table.endpoint[first:end] = keys
        if unlike.any():
            self._table.length[first:end][unlike] = UNREADABLE

    def write(self, first: int, end: int) -> None:
        """Prepare rows for sending, but for the peers' names."""
        rows = slice(first, end)
        self._used = max(self._used, end)
        self._vectors["length"][rows] = self._table.length[rows]
        self._headers["control"][rows] = 0
        self._headers["controllen"][rows] = 0

    def write_ipv4_names(self, first: int, end: int) -> None:
        """Where rows go, to IPv4 peers; the system does not mind that there is room behind a name."""
        rows = slice(first, end)
        self._names["key"][rows] = self._table.endpoint[rows]
        self._names["family"][rows] = socket.AF_INET

    def write_ipv6_names(self, first: int, end: int, hosts: PeerHosts) -> None:
        """Where rows go, to IPv6 peers; to one that is not known nothing can be sent: port 0 is refused."""
        names, keys = self._names[first:end], self._table.endpoint[first:end]
        addresses, known = hosts.find(host_column(keys))
        names["family"] = socket.AF_INET6
        names["port"] = keys.view(np.uint16).reshape(-1, 4)[:, 1] * known
        names["address"] = addresses
        names["flow"] = names["scope"] = 0
        self._headers["namelen"][first:end] = self.NAME.itemsize


class _Portable:
    """One system call a datagram, for systems without the batched ones."""

    def __init__(self, hosts: PeerHosts) -> None:
        self._hosts = hosts

    def receive(self, source: _Socket, table: PacketTable, first: int, now: float) -> int:
        """Drain one socket into the rows from `first` on."""
        for row in range(first, table.rows):
            try:
                length, name = source.opened.recvfrom_into(memoryview(table.data[row]))
            except OSError:  # nothing more, or an ICMP error of what was sent: the rest waits a tick
                return row - first
            table.length[row] = length if length < table.stride else OVERSIZED
            table.arrival[row] = now
            if not source.is_ipv6:
                table.endpoint[row] = endpoint_key(source.index, (name[0], name[1]))
                continue
            address = np.frombuffer(socket.inet_pton(socket.AF_INET6, name[0].partition("%")[0]), np.uint64)
            port = np.array([name[1]], ">u2").view(np.uint16)
            keys, unlike = self._hosts.read(source.index, port, address.reshape(1, 2))
            table.endpoint[row] = keys[0]
            if unlike[0]:
                table.length[row] = UNREADABLE
        return table.rows - first

    def send(self, source: _Socket, table: PacketTable, first: int, end: int) -> int:
        """Send rows, one by one."""
        rejected = 0
        for row in range(first, end):
            try:
                source.opened.sendto(table.datagram(row), self._hosts.address(int(table.endpoint[row])))
            except OSError:
                rejected += 1
        return rejected


def _driver(batch_max: int, hosts: PeerHosts) -> _Driver:
    """The batched calls, where the system has them and lays structures out as we do."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return _Portable(hosts)
    return _Batched(batch_max, hosts) if hasattr(_system_calls()[1], "recvmmsg") else _Portable(hosts)


@functools.cache
def _system_calls() -> tuple[Any, Any]:
    """The foreign function interface, and the C library of this process."""
    ffi: Any = importlib.import_module("cffi").FFI()
    ffi.cdef("int recvmmsg(int, void *, unsigned int, int, void *); int sendmmsg(int, void *, unsigned int, int);")
    return ffi, ffi.dlopen(None)


def _open_sockets(settings: SocketSettings) -> list[_Socket]:
    """RTP and RTCP sockets of every address, all on the same two ports."""
    for _ in range(_PORT_ATTEMPTS if settings.port == 0 else 1):
        opened: list[_Socket] = []
        try:
            port = settings.port
            for host in settings.hosts:
                opened.append(_bind(host, port, len(opened), settings))
                port = opened[-1].name[1]
                if port % 2 and settings.port == 0:
                    break  # RFC 3550 §11: RTP on an even port
                opened.append(_bind(host, port + 1, len(opened), settings))
            else:
                return opened
        except OSError as error:
            if settings.port != 0:
                _close(opened)
                raise OperatorError(
                    f"cannot listen for media on {', '.join(settings.hosts)} at UDP port {settings.port}: {error}"
                ) from error
        _close(opened)
    raise OperatorError(f"no pair of free UDP ports for media on {', '.join(settings.hosts)}")


def _bind(host: str, port: int, index: int, settings: SocketSettings) -> _Socket:
    is_ipv6 = ":" in host
    opened = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.receive_buffer_bytes)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.receive_buffer_bytes)
        if sys.platform.startswith("linux"):
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if is_ipv6:
            # No IPv4 peer in disguise (::ffff:192.0.2.1): it would have two keys.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    name = opened.getsockname()
    return _Socket(opened, index, (str(name[0]), int(name[1])), is_ipv6)


def _close(sockets: list[_Socket]) -> None:
    for each in sockets:
        each.opened.close()
