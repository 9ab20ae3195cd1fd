"""What is told of each leg: RTCP to its peer and from it, counters and loudness to the control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from mixer.frame import RATES, Pcm, Samples
from mixer.levels import REPORT_TICKS, Levels
from mixer.mix import Mixer
from relay import media
from relay.plane.jitter import JitterBuffers
from relay.plane.legs import Leg, LegTable
from relay.plane.packets import Rows
from relay.plane.reception import Reception
from relay.plane.rtcp import (
    Goodbye,
    Report,
    ReportBlock,
    SenderInfo,
    build,
    middle,
    ntp_time,
    parse,
    round_trip_seconds,
)

RTCP_TICKS: Final = 250
"""5 s, the least interval of RFC 3550 §6.2, for legs on a contact."""
RTCP_TICKS_IDLE: Final = 750
"""15 s for legs that hear nothing: also what keeps address translators open (RFC 6263 §4.6)."""
LEG_REPORT_TICKS: Final = 50
_SPREAD: Final = 97
"""Prime to the interval: legs of neighbouring rows, which were opened together, report in different ticks."""
_LEG_REPORT_GROUPS: Final = 5
_LEG_REPORT_PHASE: Final = 5
"""Between the ticks that report levels."""


class Reports:
    """RTCP of all legs, spread over ticks by row."""

    def __init__(
        self, legs: LegTable, reception: Reception, jitter: JitterBuffers, wall: Callable[[float], float]
    ) -> None:
        self._legs = legs
        self._reception = reception
        self._jitter = jitter
        self._wall = wall
        self._rows: Rows = np.zeros(0, np.intp)
        self._phases: Rows = self._rows

    def due(self, tick: int, rows: Rows) -> Iterator[Leg]:
        """Open legs whose RTCP is due in a tick."""
        if rows is not self._rows:
            self._rows, self._phases = rows, -rows * _SPREAD % RTCP_TICKS
        for row in rows[self._phases == tick % RTCP_TICKS].tolist():
            if self._legs.sending[row] or (row * _SPREAD + tick) % RTCP_TICKS_IDLE == 0:
                yield self._legs.leg(row)

    def due_leg_reports(self, tick: int, rows: Rows) -> Rows:
        """Open legs whose counters are due in a tick, a fifth of them at once: few and large batches cost least."""
        group, rest = divmod(tick, LEG_REPORT_TICKS // _LEG_REPORT_GROUPS)
        if rest != _LEG_REPORT_PHASE:
            return rows[:0]
        due: Rows = rows[rows % _LEG_REPORT_GROUPS == group % _LEG_REPORT_GROUPS]
        return due

    def leg_reports(self, rows: Rows) -> Iterator[media.LegReport]:
        """What the counters of legs say."""
        legs = [self._legs.leg(row) for row in rows.tolist()]
        for leg, statistics in zip(legs, self._statistics(legs, rows), strict=True):
            yield media.LegReport(leg.leg_id, statistics)

    def compound(self, leg: Leg, now: float, *, goodbye: bool = False) -> bytes:
        """The RTCP packet to send for a leg, encrypted if its media is."""
        row, table = leg.row, self._legs
        sent = int(table.packets_sent[row])
        sender = None
        if sent != leg.packets_reported:
            sender = SenderInfo(
                ntp=ntp_time(self._wall(now)),
                timestamp=int(table.send_timestamp[row]),
                packets=sent & 0xFFFFFFFF,
                octets=int(table.octets_sent[row]) & 0xFFFFFFFF,
            )
        leg.packets_reported = sent
        blocks = (self._block(leg, now),) if table.ssrc[row] >= 0 else ()
        report = Report(int(table.send_ssrc[row]), sender, blocks)
        packet = build(report, _cname(leg), goodbye=goodbye)
        return packet if leg.outbound is None else leg.outbound.protect_rtcp(packet)

    def receive(self, leg: Leg, packet: bytes, arrival: float) -> bool:
        """An authentic compound packet of a leg's peer; False: there is no report in it.

        A BYE does not end the call: signalling does.
        """
        known = False
        for part in parse(packet):
            known = True
            if isinstance(part, Goodbye):
                continue
            if part.sender is not None:
                leg.last_report = middle(part.sender.ntp), arrival
            for block in part.blocks:
                if block.ssrc == int(self._legs.send_ssrc[leg.row]):
                    self._learn(leg, block, arrival)
        return known

    def statistics(self, leg: Leg) -> media.LegStatistics:
        """A leg's counters."""
        return self._statistics([leg], np.array([leg.row], np.intp))[0]

    def _statistics(self, legs: Sequence[Leg], rows: Rows) -> list[media.LegStatistics]:
        jitter, reception = self._jitter, self._reception
        sent, _, concealed, unauthenticated, replayed, off_contact = self._legs.counters[:, rows]
        columns = (
            reception.received[rows],
            sent,
            reception.losses(rows),
            jitter.late[rows],
            jitter.duplicates[rows] + replayed,
            unauthenticated,
            concealed,
            off_contact,
            np.array([leg.events.count for leg in legs]),
            (reception.jitter[rows] * 1000).round(3),
            np.array([leg.round_trip_ms for leg in legs]),
            np.array([leg.peer_loss_ratio for leg in legs]),
            jitter.depths_ms(rows),
        )
        return [media.LegStatistics(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]

    def _learn(self, leg: Leg, block: ReportBlock, arrival: float) -> None:
        leg.peer_loss_ratio = block.fraction_lost / 256
        seconds = round_trip_seconds(block, self._wall(arrival))
        if seconds is not None:
            leg.round_trip_ms = round(seconds * 1000, 3)

    def _block(self, leg: Leg, now: float) -> ReportBlock:
        row = leg.row
        interval = self._reception.interval(row)
        missing = interval.expected - interval.received
        fraction = missing * 256 // interval.expected if interval.expected > 0 and missing > 0 else 0
        clock_rate = int(self._jitter.clock[row]) * 50
        last, came = leg.last_report
        return ReportBlock(
            ssrc=int(self._legs.ssrc[row]),
            fraction_lost=min(fraction, 255),
            cumulative_lost=self._reception.lost(row),
            highest_sequence=self._reception.highest_sequence(row),
            jitter=int(float(self._reception.jitter[row]) * clock_rate),
            last_sender_report=last,
            delay=int((now - came) * 65_536) if last else 0,
        )


class Loudness:
    """How loud legs are, both ways, every 200 ms."""

    def __init__(self, legs: LegTable) -> None:
        self._legs = legs
        self._from = Levels(legs.legs_max)
        self._to = Levels(legs.legs_max)

    def measure_from(self, rows: Rows, sound: Pcm | Samples) -> None:
        """What legs said in this tick."""
        self._from.measure(rows, sound)

    def measure_heard(self, mixer: Mixer) -> None:
        """What listeners heard in this tick."""
        for rate in RATES:
            rows = mixer.listeners_at(rate)
            if rows.size:
                self._to.measure(rows, mixer.out[rate][rows])

    def forget(self, row: int) -> None:
        """A leg closed."""
        self._from.reset(row)
        self._to.reset(row)

    def report(self, tick: int, rows: Rows) -> media.Levels | None:
        """Every tenth tick, the levels of the legs in conferences."""
        if tick % REPORT_TICKS or not rows.size:
            return None
        said, talking = self._from.report(rows)
        heard, _ = self._to.report(rows)
        return media.Levels(
            leg_ids=tuple(self._legs.leg(row).leg_id for row in rows.tolist()),
            from_leg=tuple(said.tolist()),
            to_leg=tuple(heard.tolist()),
            talking=tuple(talking.tolist()),
        )


def _cname(leg: Leg) -> bytes:
    """Persistent for the leg, and telling nothing (RFC 7022 §4.2): its SSRC stands for it."""
    return f"{leg.opened.ssrc:08x}@koppel".encode()
