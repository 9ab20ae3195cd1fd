"""From the mixer to the sockets: what each listener hears, headed, encrypted and sent, all legs at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import Rate, Samples
from mixer.mix import Mixer
from mixer.resample import Resampler
from relay.plane.legs import OPUS, LegTable
from relay.plane.packets import SEND_STRIDE, Bytes, MediaSockets, PacketTable, Rows, socket_column
from relay.plane.payloads import Group, Payloads
from relay.plane.playout import Playout
from relay.plane.rtp import HEADER_BYTES, write_headers
from relay.plane.srtp import RowCrypto

_CONTROL_ROWS_MIN: Final = 256
_LEGS_A_CONTROL_ROW: Final = 16
"""Rows for RTCP beside those for media: a tick in which it is due has a twenty-fifth of all legs."""


@dataclass(frozen=True, slots=True)
class _Order:
    """Who is sent to, in the order of the table: by socket, then by encoding; made anew only when somebody changes."""

    heard: tuple[Rows, ...]
    """The listeners that the mixer named when this was made."""
    legs: Rows
    places: Rows
    """By leg, its row of the table; -1: not sent to."""
    encrypted: range | list[int]
    """Rows of the table whose leg has a key."""
    handles: list[Any]


class Transmission:
    """The send table, and the counters of what left."""

    def __init__(self, legs: LegTable, mixer: Mixer, playout: Playout, sockets: MediaSockets) -> None:
        self.rejected = 0
        """Packets that the system refused."""
        self._encrypt_failed = 0
        self.reports_dropped = 0
        self._legs = legs
        self._mixer = mixer
        self._sockets = sockets
        self._control_rows = max(_CONTROL_ROWS_MIN, legs.legs_max // _LEGS_A_CONTROL_ROW)
        self._table = PacketTable(legs.legs_max + self._control_rows, SEND_STRIDE)
        self._crypto = RowCrypto(self._table)
        self._payloads = Payloads(legs, mixer, playout, self._table)
        self._raised: Resampler | None = None
        self._stale = True
        self._steady = False
        """Whether the table holds what stays the same of the headers of this order."""
        self._order = _Order((), np.zeros(0, np.intp), np.full(legs.legs_max, -1, np.intp), [], [])
        self._reports: list[tuple[bytes, int]] = []

    @property
    def failed(self) -> int:
        """Packets that could not be encoded or encrypted."""
        return self._encrypt_failed + self._payloads.failed

    def reorder(self) -> None:
        """A leg came, went, moved or got its first address."""
        self._stale = True

    def queue_report(self, packet: bytes, endpoint: int) -> None:
        """Send an RTCP packet, already encrypted, with this tick's media."""
        if len(self._reports) < self._control_rows:
            self._reports.append((packet, endpoint))
        else:
            self.reports_dropped += 1

    def send(self) -> None:
        """Send a packet to every listener whose address is known, and the queued reports."""
        order = self._present_order()
        legs, count = order.legs, order.legs.size
        if count:
            self._payloads.write()
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
        frames = self._sent_wide(legs) if encoding == OPUS else self._payloads.codes[places]
        return frames, places < 0

    def end_tick(self, rows: Rows) -> None:
        """Timestamps go on for every open leg, whether it was sent to or not (RFC 3550 §5.1: a pause is no stop)."""
        self._legs.send_timestamp[rows] += self._legs.clock[rows]

    def _sent_wide(self, legs: Rows) -> Samples:
        """What was encoded in Opus, at 48,000 Hz whatever it was encoded at."""
        narrow = self._legs.listening_rate[legs] == _RATES[0]
        frames = self._mixer.heard(_RATES[1], legs)
        if narrow.any():
            rows = self._mixer.rows_max
            self._raised = self._raised or Resampler(_RATES[0], _RATES[1], rows)
            source, target = (np.zeros((rows, rate // 50), np.float32) for rate in _RATES)
            source[legs[narrow]] = self._mixer.heard(_RATES[0], legs[narrow])
            self._raised.process(source, legs[narrow], target)
            frames[narrow] = np.clip(np.rint(target[legs[narrow]]), -32768, 32767)
        return frames

    def _present_order(self) -> _Order:
        heard = tuple(self._mixer.listeners_at(rate) for rate in _RATES)
        known = self._order.heard
        if self._stale or len(known) != len(heard) or heard[0] is not known[0] or heard[1] is not known[1]:
            self._order = self._make_order(heard)
            self._stale = self._steady = False
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
        self._payloads.arrange(
            [Group(int(encodings[first]), first, end, legs[first:end]) for first, end in pairwise(bounds)]
        )
        handles = list(map(table.send_handles.__getitem__, legs.tolist()))
        encrypted = [row for row, handle in enumerate(handles) if handle is not None]
        places = np.full(table.legs_max, -1, np.intp)
        places[legs] = np.arange(legs.size)
        table.sending[places < 0] = False
        if len(encrypted) == len(handles):
            return _Order(heard, legs, places, range(len(handles)), handles)
        return _Order(heard, legs, places, encrypted, [handles[row] for row in encrypted])

    def _head(self, legs: Rows) -> None:
        table, header = self._legs, self._table.header[: legs.size]
        if self._steady:
            # What does not change from tick to tick stands there already: encrypting leaves headers as they are.
            header["sequence"] = table.send_sequence[legs]
            header["timestamp"] = table.send_timestamp[legs]
        else:
            self._head_anew(legs)
        table.send_sequence[legs] += np.uint16(1)
        table.packets_sent[legs] += 1
        table.octets_sent[legs] += self._table.length[: legs.size] - HEADER_BYTES

    def _head_anew(self, legs: Rows) -> None:
        table = self._legs
        sending = table.sending[legs]
        self._steady = bool(sending.all())
        # RFC 3551 §4.1: the marker bit says that a sound begins after a pause.
        marker = np.where(sending, 0, 0x80).astype(np.uint8)
        write_headers(
            self._table,
            legs.size,
            second=table.payload_type[legs] | marker,
            sequence=table.send_sequence[legs],
            timestamp=table.send_timestamp[legs],
            ssrc=table.send_ssrc[legs],
        )
        self._table.endpoint[: legs.size] = table.remote[legs]
        table.sending[legs] = True

    def _encrypt(self, order: _Order) -> int:
        """Encrypt in place; returns how many rows are left when what failed is taken out."""
        count = order.legs.size
        statuses = self._crypto.protect(order.encrypted, order.handles)
        if not any(statuses):
            return count
        failed = {row for row, status in zip(order.encrypted, statuses, strict=True) if status}
        self._encrypt_failed += len(failed)
        self._steady = False
        kept = np.array([row for row in range(count) if row not in failed], np.intp)
        for column in (self._table.data, self._table.length, self._table.endpoint):
            column[: kept.size] = column[kept]
        return int(kept.size)


_RATES: Final[tuple[Rate, ...]] = (8000, 48000)
