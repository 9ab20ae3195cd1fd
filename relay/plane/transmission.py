"""From the mixer to the sockets: what each listener hears, encoded, headed, encrypted and sent, all legs at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import Rate, Samples
from mixer.mix import Mixer
from relay.codecs import g711
from relay.plane.legs import LAWS, OPUS, LegTable
from relay.plane.packets import SEND_STRIDE, Bytes, MediaSockets, PacketTable, Rows, socket_column
from relay.plane.rings import SLOT_BYTES
from relay.plane.rtp import HEADER_BYTES, write_headers
from relay.plane.srtp import RowCrypto

_CONTROL_ROWS: Final = 256
"""Rows for RTCP beside those for media."""
_TRAILER_BYTES: Final = 20
OPUS_BYTES_MAX: Final = SEND_STRIDE - HEADER_BYTES - _TRAILER_BYTES
"""What fits a row: 115 kbit/s at 20 ms, far above what voice is coded with."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Consecutive rows of the table with listeners of one encoding."""

    encoding: int
    first: int
    end: int
    legs: Rows


@dataclass(frozen=True, slots=True)
class _Order:
    """Who is sent to, in the order of the table: by socket, then by encoding; made anew only when somebody changes."""

    heard: tuple[Rows, ...]
    """The listeners that the mixer named when this was made."""
    legs: Rows
    groups: tuple[_Group, ...]
    places: Rows
    """By leg, its row of the table; -1: not sent to."""
    encrypted: list[int]
    handles: list[Any]


class Transmission:
    """The send table, and the counters of what left."""

    def __init__(self, legs: LegTable, mixer: Mixer, sockets: MediaSockets) -> None:
        self.rejected = 0
        """Packets that the system refused."""
        self.failed = 0
        """Packets that could not be encoded or encrypted."""
        self.reports_dropped = 0
        self._legs = legs
        self._mixer = mixer
        self._sockets = sockets
        self._table = PacketTable(legs.legs_max + _CONTROL_ROWS, SEND_STRIDE)
        self._crypto = RowCrypto(self._table)
        self._codes = np.zeros((legs.legs_max, SLOT_BYTES), np.uint8)
        self._payloads = self._table.data[:, HEADER_BYTES:]
        self._stale = True
        self._order = _Order((), np.zeros(0, np.intp), (), np.full(legs.legs_max, -1, np.intp), [], [])
        self._reports: list[tuple[bytes, int]] = []

    def reorder(self) -> None:
        """A leg came, went, moved or got its first address."""
        self._stale = True

    def queue_report(self, packet: bytes, endpoint: int) -> None:
        """Send an RTCP packet, already encrypted, with this tick's media."""
        if len(self._reports) < _CONTROL_ROWS:
            self._reports.append((packet, endpoint))
        else:
            self.reports_dropped += 1

    def send(self) -> None:
        """Send a packet to every listener whose address is known, and the queued reports."""
        order = self._present_order()
        legs, count = order.legs, order.legs.size
        if count:
            for group in order.groups:
                self._encode(group)
            self._head(legs)
            count = self._encrypt(order)
        for packet, endpoint in self._reports:
            self._table.put(count, packet, endpoint)
            count += 1
        self._reports.clear()
        if count:
            self.rejected += self._sockets.send(self._table, count)

    def sent(self, encoding: int, legs: Rows) -> tuple[Bytes | Samples, NDArray[np.bool_]]:
        """What the last `send` said to legs of an encoding, as recordings keep it, and to which it said nothing."""
        places = self._order.places[legs]
        frames = self._mixer.out[48000][legs] if encoding == OPUS else self._codes[places]
        return frames, places < 0

    def end_tick(self, rows: Rows) -> None:
        """Timestamps go on for every open leg, whether it was sent to or not (RFC 3550 §5.1: a pause is no stop)."""
        legs = self._legs
        legs.send_timestamp[rows] += np.where(legs.encoding[rows] == OPUS, 960, 160).astype(np.uint32)

    def _present_order(self) -> _Order:
        heard = tuple(self._mixer.listeners_at(rate) for rate in _RATES)
        unchanged = len(heard) == len(self._order.heard) and all(
            one is other for one, other in zip(heard, self._order.heard, strict=True)
        )
        if self._stale or not unchanged:
            self._order = self._make_order(heard)
            self._stale = False
        return self._order

    def _make_order(self, heard: tuple[Rows, ...]) -> _Order:
        table = self._legs
        listeners = np.concatenate(heard)
        listeners = listeners[listeners < table.legs_max]
        legs = listeners[table.open[listeners] & (table.remote[listeners] != 0)]
        sockets = socket_column(table.remote[legs])
        legs = legs[np.lexsort((legs, table.encoding[legs], sockets))]
        sockets, encodings = socket_column(table.remote[legs]), table.encoding[legs]
        changes = np.flatnonzero((sockets[1:] != sockets[:-1]) | (encodings[1:] != encodings[:-1])) + 1
        bounds = [0, *changes.tolist(), legs.size] if legs.size else [0]
        groups = tuple(_Group(int(encodings[first]), first, end, legs[first:end]) for first, end in pairwise(bounds))
        handles = [table.send_handles[leg] for leg in legs.tolist()]
        encrypted = [row for row, handle in enumerate(handles) if handle is not None]
        places = np.full(table.legs_max, -1, np.intp)
        places[legs] = np.arange(legs.size)
        table.sending[places < 0] = False
        return _Order(heard, legs, groups, places, encrypted, [handles[row] for row in encrypted])

    def _encode(self, group: _Group) -> None:
        rows = slice(group.first, group.end)
        if group.encoding == OPUS:
            self._encode_opus(group)
            return
        codes = self._codes[rows]
        g711.encode(LAWS[group.encoding], self._mixer.out[8000][group.legs], codes)
        self._payloads[rows, :SLOT_BYTES] = codes
        self._table.length[rows] = HEADER_BYTES + SLOT_BYTES

    def _encode_opus(self, group: _Group) -> None:
        for row, leg in enumerate(group.legs.tolist(), group.first):
            self._legs.at_work = self._legs.leg(leg)
            encoder = self._legs.at_work.encoder
            assert encoder is not None, "legs of this encoding have one"
            size = encoder.encode(self._mixer.out[48000][leg], self._payloads[row, :OPUS_BYTES_MAX])
            if size <= 0:
                self.failed += 1
            self._table.length[row] = HEADER_BYTES + max(size, 0)
        self._legs.at_work = None

    def _head(self, legs: Rows) -> None:
        table = self._legs
        # RFC 3551 §4.1: the marker bit says that a sound begins after a pause.
        marker = np.where(table.sending[legs], 0, 0x80).astype(np.uint8)
        write_headers(
            self._table,
            legs.size,
            second=table.payload_type[legs] | marker,
            sequence=table.send_sequence[legs],
            timestamp=table.send_timestamp[legs],
            ssrc=table.send_ssrc[legs],
        )
        self._table.endpoint[: legs.size] = table.remote[legs]
        table.send_sequence[legs] += np.uint16(1)
        table.sending[legs] = True
        table.packets_sent[legs] += 1
        table.octets_sent[legs] += self._table.length[: legs.size] - HEADER_BYTES

    def _encrypt(self, order: _Order) -> int:
        """Encrypt in place; returns how many rows are left when what failed is taken out."""
        count = order.legs.size
        statuses = self._crypto.protect(order.encrypted, order.handles)
        if not any(statuses):
            return count
        failed = {row for row, status in zip(order.encrypted, statuses, strict=True) if status}
        self.failed += len(failed)
        kept = np.array([row for row in range(count) if row not in failed], np.intp)
        for column in (self._table.data, self._table.length, self._table.endpoint):
            column[: kept.size] = column[kept]
        return int(kept.size)


_RATES: Final[tuple[Rate, ...]] = (8000, 48000)
