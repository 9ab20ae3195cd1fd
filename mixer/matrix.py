"""Who hears what in this tick: the matrices of all conferences, laid out for batched multiplication.

What a listener hears is one of three kinds. Silence, and a single speaker at unity, need no arithmetic: who wants to
know what such a listener hears looks at the speaker's own row, so that many listeners of one music are one signal.
Everything else goes, together with the other such listeners of its conference and rate, into the `Batch` of its padded
size. Both change only when conferences do; a tick in which nothing changed finds its plan ready.

A listener whose terms changed in this tick fades from the old ones to the new, for which even a single speaker is
copied into the sums (silence is a speaker too: the `silence_row`, always zero); one that left its conference listens
on for this one tick, to silence.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mixer.batch import Batch, size_class
from mixer.frame import RATES, Pcm, Rate, Rows


class Kind(IntEnum):
    """What a row hears in this tick."""

    NOT_LISTENING = 0
    SILENCE = 1
    UNITY = 2
    """Exactly one speaker, `source[row]`, at gain 1: its payload may be passed through, or its encoding shared."""
    GENERAL = 3
    """A sum, another gain, or a cross-fade."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one listener hears: speakers, at gains that are not zero."""

    speakers: tuple[int, ...] = ()
    gains: tuple[float, ...] = ()

    @property
    def kind(self) -> Kind:
        """The kind of what is heard, cross-fades aside."""
        if not self.speakers:
            return Kind.SILENCE
        return Kind.UNITY if self.gains == (1.0,) else Kind.GENERAL

    def without(self, row: int) -> Terms:
        """The same, but for one speaker."""
        kept = [(speaker, gain) for speaker, gain in zip(self.speakers, self.gains, strict=True) if speaker != row]
        return Terms(tuple(speaker for speaker, _ in kept), tuple(gain for _, gain in kept))


NOTHING = Terms()


@dataclass(frozen=True, slots=True)
class Fade:
    """The terms from which the listener in a slot of the sums fades away."""

    slot: int
    speakers: Rows
    gains: Pcm


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do at one rate: the sums are the copies, then batch by batch the products, padding included."""

    order: Rows
    """The listener of each slot of the sums: all of `Kind.GENERAL`, and padding."""
    copied: Rows
    """The speaker of each slot at the head of the sums whose listener fades to or from a single one, or to silence."""
    batches: tuple[Batch, ...]
    fades: tuple[Fade, ...]
    listeners: Rows
    speakers: Rows


class Matrix:
    """The conferences, by key; a row listens in one at a time, the latest that named it, and may speak in any."""

    def __init__(self, rows_max: int) -> None:
        self.silence_row = rows_max
        self.kind: NDArray[np.uint8] = np.zeros(rows_max + 1, np.uint8)
        self.source: Rows = np.full(rows_max + 1, -1, np.intp)
        self._rates: list[Rate] = [RATES[0]] * rows_max
        self._members: dict[Hashable, tuple[int, ...]] = {}
        self._conference_of: dict[int, Hashable] = {}
        self._terms: dict[int, Terms] = {}
        self._fading: dict[int, Terms] = {}
        self._departed: set[int] = set()
        self._copies: dict[Rate, Batch] = {rate: Batch(1, 1) for rate in RATES}
        self._batches: dict[tuple[Rate, int, int], Batch] = {}
        self._places: dict[Hashable, list[tuple[Batch, Hashable]]] = {}
        self._plans: dict[Rate, Plan] = {}

    def begin_tick(self) -> None:
        """Forget the fades of the last tick."""
        if not self._fading:
            return
        for row in tuple(self._departed):
            self._forget_departed(row)
        fading, self._fading = self._fading, {}
        for row in fading:
            self._classify(row)
        self._plans.clear()

    def set_rate(self, row: int, rate: Rate) -> None:
        """Say at which rate a row listens; 8,000 until said."""
        if self._rates[row] == rate:
            return
        key = self._conference_of.get(row)
        self._forget_departed(row)
        if key is None:
            self._rates[row] = rate
        else:
            self._lift(key)
            self._rates[row] = rate
            self._place(key)
        self._plans.clear()

    def set_conference(self, key: Hashable, terms: Mapping[int, Terms]) -> None:
        """Replace what the listeners of a conference hear; none ends it."""
        if {row: self._terms[row] for row in self._members.get(key, ())} == terms:
            return
        others = {self._conference_of.get(row) for row in terms} - {None, key}
        for other in others:
            self._replace(other, {row: self._terms[row] for row in self._members[other] if row not in terms})
        self._replace(key, terms)

    def release_row(self, row: int) -> None:
        """Forget a row whose leg closed: it hears nobody and nobody hears it, from this very tick, without a fade."""
        for key, members in tuple(self._members.items()):
            if any(listener == row or row in self._terms[listener].speakers for listener in members):
                self._replace(key, {other: self._terms[other].without(row) for other in members if other != row})
        self._forget_departed(row)
        self._fading = {listener: old.without(row) for listener, old in self._fading.items() if listener != row}
        self._rates[row] = RATES[0]
        self._classify(row)
        self._plans.clear()

    def plan(self, rate: Rate) -> Plan:
        """What to do at a rate in this tick."""
        plan = self._plans.get(rate)
        if plan is None:
            plan = self._plans[rate] = self._plan(rate)
        return plan

    def _replace(self, key: Hashable, terms: Mapping[int, Terms]) -> None:
        self._lift(key)
        for row in self._members.pop(key, ()):
            if row not in terms:
                self._depart(row)
        for row, heard in terms.items():
            self._forget_departed(row)
            self._fade_from(row, self._terms.get(row, NOTHING), heard)
            self._terms[row] = heard
            self._conference_of[row] = key
            self._classify(row)
        if terms:
            self._members[key] = tuple(terms)
            self._place(key)
        self._plans.clear()

    def _depart(self, row: int) -> None:
        self._fade_from(row, self._terms.pop(row), None)
        del self._conference_of[row]
        self._departed.add(row)
        self._copy(row, self.silence_row)
        self._classify(row)

    def _forget_departed(self, row: int) -> None:
        if row in self._departed:
            self._departed.remove(row)
            self._copies[self._rates[row]].remove(row)

    def _fade_from(self, row: int, before: Terms, after: Terms | None) -> None:
        if before != after:
            self._fading.setdefault(row, before)

    def _classify(self, row: int) -> None:
        terms = self._terms.get(row)
        settled = Kind.NOT_LISTENING if terms is None else terms.kind
        kind = Kind.GENERAL if row in self._fading else settled
        self.kind[row] = kind
        self.source[row] = terms.speakers[0] if terms is not None and kind is Kind.UNITY else -1

    def _lift(self, key: Hashable) -> None:
        for batch, place in self._places.pop(key, ()):
            batch.remove(place)

    def _place(self, key: Hashable) -> None:
        members = self._members[key]
        places = self._places[key] = []
        for rate in RATES:
            here = [row for row in members if self._rates[row] == rate]
            summed = [row for row in here if self._terms[row].kind is Kind.GENERAL]
            for row in here:
                if row not in summed:
                    self._copy(row, *self._terms[row].speakers)
                    places.append((self._copies[rate], row))
            if summed:
                places.append((self._put(key, rate, summed), key))

    def _copy(self, row: int, speaker: int | None = None) -> None:
        source = self.silence_row if speaker is None else speaker
        self._copies[self._rates[row]].put(row, np.array([row]), np.array([source]), np.ones((1, 1), np.float32))

    def _put(self, key: Hashable, rate: Rate, summed: Sequence[int]) -> Batch:
        speakers = sorted({speaker for row in summed for speaker in self._terms[row].speakers})
        shape = size_class(len(summed)), size_class(len(speakers))
        gains = np.zeros(shape, np.float32)
        for i, row in enumerate(summed):
            terms = self._terms[row]
            gains[i, [speakers.index(speaker) for speaker in terms.speakers]] = terms.gains
        batch = self._batches.setdefault((rate, *shape), Batch(*shape))
        batch.put(key, self._padded(summed, shape[0]), self._padded(speakers, shape[1]), gains)
        return batch

    def _padded(self, rows: Sequence[int], size: int) -> Rows:
        return np.array([*rows, *[self.silence_row] * (size - len(rows))], np.intp)

    def _plan(self, rate: Rate) -> Plan:
        copies = self._copies[rate]
        single, single_speakers = copies.listeners[: copies.used, 0], copies.speakers[: copies.used, 0]
        fading = self.kind[single] == Kind.GENERAL
        batches = tuple(batch for (at, _, _), batch in self._batches.items() if at == rate and batch.used)
        summed = [batch.listeners[: batch.used] for batch in batches]
        order = _joined([single[fading], *summed])
        fades = tuple(self._fades(order))
        speakers = [batch.speakers[: batch.used] for batch in batches] + [fade.speakers for fade in fades]
        return Plan(
            order=order,
            copied=single_speakers[fading],
            batches=batches,
            fades=fades,
            listeners=self._without_padding(_joined([single, *summed])),
            speakers=self._without_padding(_joined([single_speakers, *speakers])),
        )

    def _fades(self, order: Rows) -> Iterator[Fade]:
        slots = np.full(self.silence_row + 1, -1)
        slots[order] = np.arange(order.size)
        for row, terms in self._fading.items():
            if slots[row] >= 0:
                yield Fade(int(slots[row]), np.array(terms.speakers, np.intp), np.array(terms.gains, np.float32))

    def _without_padding(self, rows: Rows) -> Rows:
        named = np.zeros(self.silence_row + 1, np.bool_)
        named[rows] = True
        return np.flatnonzero(named[:-1])


def _joined(tables: Iterable[Rows]) -> Rows:
    return np.concatenate([table.ravel() for table in tables])
