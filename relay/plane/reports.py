"""What is told of each leg: RTCP to its peer and from it, counters and loudness to the control plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import Pcm, Rate, Samples
from mixer.levels import REPORT_TICKS, Levels, Meter, mean_square
from mixer.matrix import Kind
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
    description,
    middle,
    ntp_time,
    parse,
    round_trip_seconds,
)

RTCP_TICKS: Final = 250
"""5 s, the least interval of RFC 3550 §6.2, for legs on a contact."""
RTCP_TICKS_IDLE: Final = 750
"""15 s for legs that hear nothing: also what keeps address translators open (RFC 6263 §4.6)."""
_RTCP_BATCH_TICKS: Final = 10
_RTCP_GROUPS: Final = RTCP_TICKS // _RTCP_BATCH_TICKS
_IDLE_ROUNDS: Final = RTCP_TICKS_IDLE // RTCP_TICKS
LEG_REPORT_TICKS: Final = 50
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

    def due(self, tick: int, rows: Rows) -> Rows:
        """Open legs whose RTCP is due in a tick: by turns, and some at once, since few and large batches cost least."""
        group, rest = divmod(tick, _RTCP_BATCH_TICKS)
        if rest:
            return rows[:0]
        due: Rows = rows[(rows - group) % _RTCP_GROUPS == 0]
        idle_turn = (due - group) // _RTCP_GROUPS % _IDLE_ROUNDS == 0
        turn: Rows = due[self._legs.sending[due] | idle_turn]
        return turn

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
        """The RTCP packet to send for one leg, encrypted if its media is."""
        ((_, packet),) = self.compounds(np.array([leg.row], np.intp), now, goodbye=goodbye)
        return packet

    def compounds(self, rows: Rows, now: float, *, goodbye: bool = False) -> Iterator[tuple[Leg, bytes]]:
        """The RTCP packets to send for legs."""
        table, reception = self._legs, self._reception
        ntp = ntp_time(self._wall(now))
        expected, received = reception.intervals(rows)
        missing = expected - received
        fraction = np.where(missing > 0, missing * 256 // np.maximum(expected, 1), 0)
        sending = (table.send_ssrc, table.packets_sent, table.send_timestamp, table.octets_sent)
        hearing = (
            table.ssrc[rows],
            np.minimum(fraction, 255),
            reception.losses(rows),
            reception.highest_sequences(rows),
            reception.jitter_ticks(rows),
        )
        columns = [column.tolist() for column in (rows, *(column[rows] for column in sending), *hearing)]
        for row, ssrc, sent, timestamp, octets, *heard in zip(*columns, strict=True):
            table.at_work = leg = table.leg(row)
            sender = None
            if sent != leg.packets_reported:
                sender = SenderInfo(ntp, timestamp, sent & 0xFFFFFFFF, octets & 0xFFFFFFFF)
            leg.packets_reported = sent
            blocks = (self._block(leg, heard, now),) if heard[0] >= 0 else ()
            packet = build(Report(ssrc, sender, blocks), _described(leg), goodbye=goodbye)
            yield leg, packet if leg.outbound is None else leg.outbound.protect_rtcp(packet)
        table.at_work = None

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

    @staticmethod
    def _block(leg: Leg, heard: Sequence[int], now: float) -> ReportBlock:
        ssrc, fraction, lost, highest, jitter = heard
        last, came = leg.last_report
        return ReportBlock(ssrc, fraction, lost, highest, jitter, last, int((now - came) * 65_536) if last else 0)


class Loudness:
    """How loud legs are, both ways, every 200 ms."""

    def __init__(self, legs: LegTable, mixer: Mixer) -> None:
        self._legs = legs
        self._from = Levels(legs.legs_max)
        self._to = Meter(mixer.rows_max + 1)
        self._said: Pcm = np.zeros(mixer.rows_max + 1, np.float32)
        """Mean squares of this tick, by row of the mixer; the last is silence."""
        self._mixer = mixer

    def measure_from(self, rows: Rows, sound: Pcm | Samples) -> None:
        """What legs said in this tick."""
        self._said[rows] = energy = mean_square(sound)
        self._from.count(rows, energy)

    def measure_heard(self, sounds: Mapping[Rate, Sequence[int]]) -> None:
        """What listeners heard in this tick; `sounds` are the rows of the relay's own that play at each rate."""
        mixer = self._mixer
        for rate, rows in sounds.items():
            for row in rows:
                self._said[row] = mean_square(mixer.pcm[rate][row : row + 1])[0]
        for rate in sounds:
            listeners = mixer.listeners_at(rate)
            if listeners.size:
                kind = mixer.kind.take(listeners)
                energy = mixer.energy.take(listeners)
                if kind.min() != Kind.GENERAL:
                    # -1, nobody, is the last row.
                    energy = np.where(kind == Kind.GENERAL, energy, self._said[mixer.source.take(listeners)])
                self._to.count(listeners, energy)

    def forget(self, row: int) -> None:
        """A leg closed."""
        self._from.reset(row)
        self._to.reset(row)
        self._said[row] = 0

    def report(self, tick: int, members: NDArray[np.int32]) -> media.Levels | None:
        """Every tenth tick, the levels of the legs that are in any conference: `members` says in how many each is."""
        if tick % REPORT_TICKS:
            return None
        rows = np.flatnonzero(members > 0)
        if not rows.size:
            return None
        said, talking = self._from.report(rows)
        heard = self._to.read(rows)
        return media.Levels(
            leg_ids=tuple(map(self._legs.ids.__getitem__, rows.tolist())),
            from_leg=tuple(said.tolist()),
            to_leg=tuple(heard.tolist()),
            talking=tuple(talking.tolist()),
        )


def _described(leg: Leg) -> bytes:
    """A CNAME that is persistent for the leg, and tells nothing (RFC 7022 §4.2): its SSRC stands for it."""
    if not leg.description:
        leg.description = description(leg.opened.ssrc, f"{leg.opened.ssrc:08x}@koppel".encode())
    return leg.description
