"""Conferences as rows of the mixer: who takes part in each, and the sounds that the relay makes for them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from mixer.frame import Rate
from mixer.mix import Mixer
from mixer.resample import Resamplers
from mixer.sources import Source, SourceName
from relay.errors import LocalError
from relay.media import ConferenceId, LegId, SetCrosspoints, SourceId
from relay.plane.legs import OPUS, LegTable
from relay.plane.packets import Rows

RATES: Final[tuple[Rate, ...]] = (8000, 48000)
SOURCES: Final[tuple[SourceName, ...]] = get_args(SourceName)


class Conferences:
    """The matrices of all contacts, over rows of legs and, after them, rows of sources."""

    def __init__(self, legs: LegTable) -> None:
        self.mixer = Mixer(legs.legs_max + len(SOURCES))
        self.members = np.zeros(legs.legs_max, np.int32)
        """In how many conferences each leg is."""
        self._legs = legs
        self._resamplers = Resamplers(self.mixer.rows_max + 1)
        self._sources = _sources()
        self._source_rows = {SourceId(name): legs.legs_max + i for i, name in enumerate(SOURCES)}
        self._rows: dict[ConferenceId, frozenset[int]] = {}
        self.sounds: dict[Rate, list[int]] = {rate: [] for rate in RATES}
        """The relay's own sounds that somebody hears at each rate in this tick, as rows of the mixer."""
        self._heard_legs: tuple[tuple[Rows, ...], NDArray[np.bool_]] = (), np.zeros(self.mixer.rows_max, np.bool_)
        self._heard: dict[Rate, tuple[Rows, list[int], Rows]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def begin_tick(self) -> None:
        """Before the steps of a tick: what faded in the last one has arrived."""
        self.mixer.begin_tick()

    def set(self, command: SetCrosspoints) -> None:
        """Replace a conference's matrix; raises `LocalError` for a leg or source that is not there."""
        gains = {(self._leg(gain.listener), self._row(gain.speaker)): gain.gain for gain in command.gains}
        members = {self._leg(leg_id) for leg_id in command.members}
        listeners = sorted(members | {listener for listener, _ in gains})
        speakers = sorted({speaker for _, speaker in gains})
        matrix = np.zeros((len(listeners), len(speakers)), np.float32)
        for (listener, speaker), gain in gains.items():
            matrix[listeners.index(listener), speakers.index(speaker)] = gain
        for listener, heard in zip(listeners, matrix, strict=True):
            self._set_rate(listener, [speakers[i] for i in np.flatnonzero(heard).tolist()])
        rows = frozenset(row for row in (*listeners, *speakers) if row < self._legs.legs_max)
        self._count(command.conference_id, rows)
        if listeners:
            self.mixer.set_conference(command.conference_id, listeners, speakers, matrix)
        else:
            self.mixer.drop_conference(command.conference_id)

    def open_leg(self, row: int) -> None:
        """A leg begins to listen at the rate of its codec."""
        self._set_rate(row, ())

    def _set_rate(self, row: int, speakers: Sequence[int]) -> None:
        """Opus listeners hear 48,000 Hz; but of telephones alone they miss nothing at 8,000, for half the work."""
        legs = self._legs
        narrow = legs.encoding[row] != OPUS or (
            bool(speakers) and all(each < legs.legs_max and legs.encoding[each] != OPUS for each in speakers)
        )
        rate: Rate = 8000 if narrow else 48000
        legs.listening_rate[row] = rate
        self.mixer.set_rate(row, rate)

    def forget_leg(self, row: int) -> None:
        """A leg closes: it leaves every conference at once."""
        for conference_id, rows in tuple(self._rows.items()):
            if row in rows:
                self._count(conference_id, rows - {row})
        self.mixer.release_row(row)
        self._resamplers.forget(row)

    def heard(self) -> NDArray[np.bool_]:
        """By leg: whether the coming `mix` needs its sound."""
        speakers = tuple(self.mixer.speakers_at(rate) for rate in RATES)
        known, heard = self._heard_legs
        if len(known) != len(speakers) or any(one is not other for one, other in zip(known, speakers, strict=True)):
            heard = np.zeros(self.mixer.rows_max, np.bool_)
            heard[np.concatenate(speakers)] = True
            self._heard_legs = speakers, heard
        return heard[: self._legs.legs_max]

    def mix(self, tick: int) -> None:
        """Bring what is heard at each rate to that rate, and mix."""
        for rate in RATES:
            sources, resampled = self._needed(rate)
            self.sounds[rate] = sources
            for row in sources:
                self.mixer.pcm[rate][row] = self._sources[row - self._legs.legs_max].frame(tick, rate)
            other: Rate = 48000 if rate == 8000 else 8000
            self._resamplers.process(other, rate, self.mixer.pcm, resampled)
        self.mixer.mix()

    def _needed(self, rate: Rate) -> tuple[list[int], Rows]:
        """Rows of sources, and of legs of the other rate, that somebody hears at this one."""
        speakers = self.mixer.speakers_at(rate)
        known = self._heard.get(rate)
        if known is None or known[0] is not speakers:
            legs_max = self._legs.legs_max
            legs = speakers[speakers < legs_max]
            narrow: NDArray[np.bool_] = self._legs.encoding[legs] != OPUS
            known = self._heard[rate] = (
                speakers, speakers[speakers >= legs_max].tolist(), legs[narrow if rate == 48000 else ~narrow]
            )  # fmt: skip
        return known[1], known[2]

    def _count(self, conference_id: ConferenceId, rows: frozenset[int]) -> None:
        before = self._rows.pop(conference_id, frozenset[int]())
        self.members[list(before - rows)] -= 1
        self.members[list(rows - before)] += 1
        if rows:
            self._rows[conference_id] = rows

    def _row(self, speaker: LegId | SourceId) -> int:
        row = self._source_rows.get(SourceId(speaker))
        return self._leg(LegId(speaker)) if row is None else row

    def _leg(self, leg_id: LegId) -> int:
        leg = self._legs.by_id.get(leg_id)
        if leg is None:
            raise LocalError("a crosspoint names a leg that is not open")
        return leg.row


@functools.cache
def _sources() -> tuple[Source, ...]:
    """They never change, and take a moment to make."""
    return tuple(Source(name, RATES) for name in SOURCES)
