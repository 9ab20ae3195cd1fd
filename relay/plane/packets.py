"""The packet table: one row a datagram, filled and sent for all legs at once.

A row is one contiguous stretch of memory with room for any datagram up to the Ethernet MTU and an SRTP trailer, so that
libsrtp works on it in place. The stride is an odd number of cache lines: with a power of two the headers of all rows
would fall into a few sets of the first-level cache. (A short row with an overflow area measured no faster: 0.31–0.44 µs
a packet against 0.31–0.41.)
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relay.media import Address

if TYPE_CHECKING:
    from relay.plane.hosts import PeerHosts

Bytes = NDArray[np.uint8]
Rows = NDArray[np.intp]

RECEIVE_STRIDE: Final = 25 * 64
SEND_STRIDE: Final = 5 * 64
DATAGRAM_BYTES_MAX: Final = 1500
OVERSIZED: Final = -1
"""Length of a row whose datagram was longer than the row: it is nothing that we read."""
UNREADABLE: Final = -2
"""Length of a row whose peer cannot be told from another (see `relay.plane.hosts`)."""

IPV6: Final = 0x8000
"""In the socket's half of an endpoint key: the host is a word of `relay.plane.hosts`."""

RTP_HEADER = np.dtype(
    {
        "names": ["first", "second", "sequence", "timestamp", "ssrc"],
        "formats": ["u1", "u1", ">u2", ">u4", ">u4"],
        "offsets": [0, 1, 2, 4, 8],
        "itemsize": 12,
    }
)
"""The fixed header of RFC 3550 §5.1; `first` holds V, P, X and CC, `second` M and PT."""


class PacketTable:
    """Datagrams with their lengths, peers and times of arrival, as columns."""

    def __init__(self, rows: int, stride: int = RECEIVE_STRIDE) -> None:
        self.rows = rows
        self.stride = stride
        self.data: Bytes = _aligned(rows, stride)
        self.header = _columns(self.data, RTP_HEADER)
        self.length = np.zeros(rows, np.int32)
        self.endpoint = np.zeros(rows, np.uint64)
        """Socket index and peer address of each row: see `endpoint_key`."""
        self.arrival = np.zeros(rows, np.float64)
        """Monotonic seconds."""

    def datagram(self, row: int) -> bytes:
        """A copy of one row's bytes."""
        return self.data[row, : int(self.length[row])].tobytes()

    def put(self, row: int, datagram: bytes, endpoint: int, arrival: float = 0.0) -> None:
        """Write one row; for the few packets that do not come or go in batches."""
        self.data[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        self.length[row] = len(datagram)
        self.endpoint[row] = endpoint
        self.arrival[row] = arrival


class MediaSockets(Protocol):
    """What the plane needs of the network: the real one is `relay.plane.sockets`, simulations bring their own.

    Each local address has two sockets: index 2k is its RTP socket (multiplexed RTCP included), index 2k + 1 the RTCP
    socket one port higher, for peers without RFC 5761.
    """

    @property
    def addresses(self) -> Sequence[Address]:
        """The local addresses of the RTP sockets."""
        ...

    @property
    def hosts(self) -> PeerHosts:
        """Turns endpoint keys into peers' addresses and back."""
        ...

    def receive(self, table: PacketTable, now: float) -> int:
        """Fill rows from 0 on with what has come, with endpoint and arrival; return how many."""
        ...

    def send(self, table: PacketTable, count: int) -> int:
        """Send rows 0 to `count`, each to its endpoint; return how many the system did not take."""
        ...


def endpoint_key(socket_index: int, address: Address) -> int:
    """An IPv4 peer as seen by one socket, as one word: what `sockaddr_in` begins with, the socket for the family."""
    host, port = address
    packed = struct.pack("=H", socket_index) + struct.pack(">H", port) + ipaddress.IPv4Address(host).packed
    return int.from_bytes(packed, sys.byteorder)


def endpoint_address(key: int) -> Address:
    """The address of an IPv4 peer's key."""
    packed = key.to_bytes(8, sys.byteorder)
    return str(ipaddress.IPv4Address(packed[4:])), int.from_bytes(packed[2:4], "big")


def endpoint_socket(key: int) -> int:
    """The socket index of a key."""
    return int.from_bytes(key.to_bytes(8, sys.byteorder)[:2], sys.byteorder) & ~IPV6


def is_ipv6(key: int) -> bool:
    """Whether a key is an IPv6 peer's."""
    return bool(int.from_bytes(key.to_bytes(8, sys.byteorder)[:2], sys.byteorder) & IPV6)


def ipv6_column(endpoints: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys of a column are IPv6 peers'."""
    ipv6: NDArray[np.bool_] = endpoints.view(np.uint16).reshape(-1, 4)[:, 0] >= IPV6
    return ipv6


def socket_column(endpoints: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The socket indexes of a column of keys."""
    return endpoints.view(np.uint16).reshape(-1, 4)[:, 0] & np.uint16(~IPV6 & 0xFFFF)


def host_column(endpoints: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The hosts of a column of keys, to be compared with one another: IPv4 addresses, or words of IPv6 ones."""
    return endpoints.view(np.uint32).reshape(-1, 2)[:, 1]


def ranks(keys: NDArray[np.integer[Any]]) -> Rows:
    """How many equal keys come before each: what is below a limit is as many of each as the limit allows."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.ones(keys.size, np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    at = np.arange(keys.size)
    rank: Rows = np.empty(keys.size, np.intp)
    rank[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return rank


def _aligned(rows: int, stride: int) -> Bytes:
    """libsrtp demands words at word boundaries; cache lines are better still."""
    memory = np.zeros(rows * stride + 64, np.uint8)
    offset = -memory.ctypes.data % 64
    return memory[offset : offset + rows * stride].reshape(rows, stride)


def _columns(data: Bytes, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """The first bytes of each row as named columns, without copying."""
    return np.ndarray((data.shape[0],), dtype, buffer=data.data, strides=(data.strides[0],))
