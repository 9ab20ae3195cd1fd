"""The rows of legs: what the tick needs of each, as columns, and what only rare work needs, as one object a leg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay.codecs.g711 import Law
from relay.codecs.opus import OpusEncoder
from relay.errors import Exhausted
from relay.media import LegId, OpenLeg
from relay.plane.dtmf import EventReceiver
from relay.plane.opus_stream import OpusStream
from relay.plane.packets import Rows
from relay.plane.rtp import CLOCK_RATE_PER_TICK
from relay.plane.srtp import REPORT_SSRCS_MAX, SSRCS_MAX, SrtpContext

PCMU: Final = 0
PCMA: Final = 1
OPUS: Final = 2
ENCODINGS: Final = {"PCMU": PCMU, "PCMA": PCMA, "opus": OPUS}
LAWS: Final[tuple[Law, ...]] = ("PCMU", "PCMA")
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
    encoders: dict[int, OpusEncoder] = field(default_factory=dict[int, OpusEncoder])
    """Its own, by the rate of what they encode; made when they are first needed."""
    encoding_with: OpusEncoder | None = None
    """The one that spoke to it last, its own or one that many share."""
    endpoint: int = 0
    """Key of the address that its packets come from; 0: none has been authenticated yet."""
    report_endpoint: int = 0
    """Key of where its RTCP goes, if not multiplexed; 0: where its RTP goes."""
    ssrcs: frozenset[int] = frozenset()
    """SSRCs that it left."""
    report_ssrcs: frozenset[int] = frozenset()
    """SSRCs that its RTCP came from, and no RTP."""
    opened_at: float = 0.0
    latch_said: bool = False
    """Whether its first authenticated packet was told."""
    last_report: tuple[int, float] = (0, 0.0)
    """Middle NTP of the peer's last sender report, and when it came."""
    round_trip_ms: float | None = None
    peer_loss_ratio: float | None = None
    description: bytes = b""
    """Its part of every RTCP packet, made when it is first needed."""
    packets_reported: int = 0
    """Packets sent when our last report went."""


class LegTable:
    """Free rows, open legs, and the columns of both."""

    def __init__(self, legs_max: int) -> None:
        self.legs_max = legs_max
        self.by_id: dict[LegId, Leg] = {}
        self.by_row: list[Leg | None] = [None] * legs_max
        self.ids: list[LegId] = [LegId("")] * legs_max
        """By row; of a free row, whoever had it last."""
        self.receive_handles: list[Any] = [None] * legs_max
        self.send_handles: list[Any] = [None] * legs_max
        self._free = list(range(legs_max - 1, -1, -1))

        self.at_work: Leg | None = None
        """The leg that work on single legs is at: whoever catches a defect there knows whose sound it is."""

        self.open, self.active, self.encrypted, self.latching, self.sending = np.zeros((5, legs_max), np.bool_)
        """Active: in a conference or with a track, only then are its packets decoded. Encrypted: what comes is SRTP.
        Latching: its address follows authenticated packets. Sending: the last tick sent; if not, the next packet
        carries the marker bit."""
        self.active_since = np.zeros(legs_max, np.float64)
        self.encoding = np.zeros(legs_max, np.uint8)
        self.clock = np.zeros(legs_max, np.uint32)
        """RTP clock ticks in 20 ms."""
        self.listening_rate = np.zeros(legs_max, np.int32)
        """In hertz: what it hears is mixed, and for Opus encoded, at this rate."""
        self.payload_type = np.zeros(legs_max, np.uint8)
        self.event_type = np.full(legs_max, NO_EVENTS, np.uint8)
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
        self.socket = np.zeros(legs_max, np.int32)
        self.named = np.zeros(legs_max, np.uint64)
        """The remote address that signalling or ICE named last, as an endpoint key; 0: none."""
        self.remote = np.zeros(legs_max, np.uint64)
        """Where to send, as an endpoint key; 0: nowhere yet."""
        self.counters = np.zeros((6, legs_max), np.int64)
        (
            self.packets_sent, self.octets_sent, self.concealed, self.unauthenticated, self.replayed, self.off_contact
        ) = self.counters  # fmt: skip

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
        self.ids[row] = leg.leg_id
        self.receive_handles[row] = leg.inbound.handle if leg.inbound else None
        self.send_handles[row] = leg.outbound.handle if leg.outbound else None
        self.encoding[row] = ENCODINGS[opened.codec.encoding]
        self.clock[row] = CLOCK_RATE_PER_TICK[opened.codec.encoding]
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

    def knows(self, row: int, ssrc: int) -> bool:
        """Whether a leg's RTP comes or came from an SSRC."""
        return ssrc == self.ssrc[row] or ssrc in self.leg(row).ssrcs

    def has_room(self, row: int, ssrc: int, others: int = 0) -> bool:
        """Whether a leg's SRTP context may come to know an SSRC, beside so many others that are new."""
        return self.knows(row, ssrc) or len(self.leg(row).ssrcs) + others < SSRCS_MAX - 1

    def has_room_for_reports(self, row: int, ssrc: int) -> bool:
        """The same of an SSRC that RTCP comes from."""
        reporting = self.leg(row).report_ssrcs
        return self.knows(row, ssrc) or ssrc in reporting or len(reporting) < REPORT_SSRCS_MAX

    def leg(self, row: int) -> Leg:
        """The leg in a row that is known to be open."""
        leg = self.by_row[row]
        assert leg is not None, "columns name open rows only"
        return leg
