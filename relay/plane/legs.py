"""The rows of legs: what the tick needs of each, as columns, and what only rare work needs, as one object a leg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.codecs.opus import OpusEncoder
from relay.errors import Exhausted
from relay.media import LegId, OpenLeg
from relay.plane.dtmf import EventReceiver
from relay.plane.opus_stream import OpusStream
from relay.plane.packets import Rows
from relay.plane.srtp import SrtpContext

PCMU: Final = 0
PCMA: Final = 1
OPUS: Final = 2
ENCODINGS: Final = {"PCMU": PCMU, "PCMA": PCMA, "opus": OPUS}
LAWS: Final = ("PCMU", "PCMA")
NO_EVENTS: Final = 255
"""No payload type: they have seven bits."""


@dataclass(slots=True)
class Leg:
    """One leg, beside its row."""

    row: int
    leg_id: LegId
    opened: OpenLeg
    socket: int
    """Index of its RTP socket."""
    inbound: SrtpContext | None
    outbound: SrtpContext | None
    events: EventReceiver
    opus: OpusStream | None = None
    encoder: OpusEncoder | None = None
    endpoint: int = 0
    """Key of the address that its packets come from; 0: none has been authenticated yet."""
    report_endpoint: int = 0
    """Key of where its RTCP goes, if not multiplexed; 0: where its RTP goes."""
    ssrcs: frozenset[int] = frozenset()
    """SSRCs that it left."""
    opened_at: float = 0.0
    latch_said: bool = False
    """Whether its first authenticated packet was told."""
    last_report: tuple[int, float] = (0, 0.0)
    """Middle NTP of the peer's last sender report, and when it came."""
    round_trip_ms: float | None = None
    peer_loss_ratio: float | None = None
    packets_reported: int = 0
    """Packets sent when our last report went."""


class LegTable:
    """Free rows, open legs, and the columns of both."""

    def __init__(self, legs_max: int) -> None:
        self.legs_max = legs_max
        self.by_id: dict[LegId, Leg] = {}
        self.by_row: list[Leg | None] = [None] * legs_max
        self.receive_handles: list[Any] = [None] * legs_max
        self.send_handles: list[Any] = [None] * legs_max
        self._free = list(range(legs_max - 1, -1, -1))

        self.at_work: Leg | None = None
        """The leg that work on single legs is at: whoever catches a defect there knows whose sound it is."""

        self.open = np.zeros(legs_max, np.bool_)
        self.active = np.zeros(legs_max, np.bool_)
        """In a conference or with a track: only then are its packets decoded."""
        self.active_since = np.zeros(legs_max, np.float64)
        self.encoding = np.zeros(legs_max, np.uint8)
        self.payload_type = np.zeros(legs_max, np.uint8)
        self.event_type = np.full(legs_max, NO_EVENTS, np.uint8)
        self.encrypted = np.zeros(legs_max, np.bool_)
        """Whether what comes is SRTP."""
        self.heard = np.zeros(legs_max, np.float64)
        """When something authentic came last; minus infinity: never."""
        self.silences_said = np.zeros(legs_max, np.int64)
        """How often the present silence was told."""
        self.ssrc = np.zeros(legs_max, np.int64)
        """SSRC that comes; -1: none yet."""
        self.send_ssrc = np.zeros(legs_max, np.uint32)
        self.send_sequence = np.zeros(legs_max, np.uint16)
        self.send_timestamp = np.zeros(legs_max, np.uint32)
        """Timestamp of the present tick; it goes on while nothing is sent."""
        self.sending = np.zeros(legs_max, np.bool_)
        """Whether the last tick sent: if not, the next packet carries the marker bit."""
        self.latching = np.zeros(legs_max, np.bool_)
        """Whether the leg's address follows authenticated packets."""
        self.socket = np.zeros(legs_max, np.int32)
        self.named = np.zeros(legs_max, np.uint64)
        """The remote address that signalling or ICE named last, as an endpoint key; 0: none."""
        self.remote = np.zeros(legs_max, np.uint64)
        """Where to send, as an endpoint key; 0: nowhere yet."""
        self.counters = np.zeros((6, legs_max), np.int64)
        self.packets_sent, self.octets_sent, self.concealed = self.counters[:3]
        self.unauthenticated, self.replayed, self.off_contact = self.counters[3:]

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Leg]:
        return iter(self.by_id.values())

    def take_row(self) -> int:
        """A free row; raises `Exhausted`."""
        if not self._free:
            raise Exhausted(f"all {self.legs_max} rows of legs are taken")
        row = self._free.pop()
        self.counters[:, row] = 0
        return row

    def add(self, leg: Leg) -> None:
        """Put a leg into its row."""
        row, opened = leg.row, leg.opened
        self.by_id[leg.leg_id] = leg
        self.by_row[row] = leg
        self.receive_handles[row] = leg.inbound.handle if leg.inbound else None
        self.send_handles[row] = leg.outbound.handle if leg.outbound else None
        self.encoding[row] = ENCODINGS[opened.codec.encoding]
        self.payload_type[row] = opened.codec.payload_type
        self.event_type[row] = NO_EVENTS if opened.telephone_event is None else opened.telephone_event
        self.encrypted[row] = leg.inbound is not None
        self.latching[row] = opened.latch
        self.socket[row] = leg.socket
        self.named[row] = 0
        self.heard[row] = -np.inf
        self.silences_said[row] = 0
        self.ssrc[row] = -1
        self.send_ssrc[row] = opened.ssrc
        self.sending[row] = self.active[row] = False
        self.remote[row] = 0
        self.open[row] = True

    def remove(self, leg: Leg) -> None:
        """Give a row back."""
        row = leg.row
        del self.by_id[leg.leg_id]
        self.by_row[row] = self.receive_handles[row] = self.send_handles[row] = None
        self.open[row] = self.active[row] = False
        self.remote[row] = 0
        self._free.append(row)

    def endpoints(self) -> NDArray[np.uint64]:
        """Every endpoint key that a leg has."""
        single = [key for leg in self for key in (leg.endpoint, leg.report_endpoint)]
        return np.concatenate([np.array(single, np.uint64), self.named[self.open], self.remote[self.open]])

    def rows_of(self, encoding: int) -> Rows:
        """Active legs of one encoding, ascending."""
        return np.flatnonzero(self.active & (self.encoding == encoding))

    def leg(self, row: int) -> Leg:
        """The leg in a row that is known to be open."""
        leg = self.by_row[row]
        assert leg is not None, "columns name open rows only"
        return leg
