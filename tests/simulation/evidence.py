"""What a run left, brought into the form in which checkers compare it with the story: ticks, and frames as spectra."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.simulation import tones
from tests.simulation.phone import Phone
from tests.simulation.relay_process import RelayProcess
from tests.simulation.story import Segment, Stretch, Talk
from tests.simulation.world import World

CLEAR: Final = 2000.0
"""A code tone of this amplitude, well above the next one, is trusted."""


_GAP_SECONDS: Final = 0.09
"""Four packets lost in a row: nothing can make up for them."""


class Ticks:
    """The ticks of one life of the relay."""

    def __init__(self, relay: RelayProcess) -> None:
        self._times = [time for time, _ in relay.ticks]
        self._numbers = [number for _, number in relay.ticks]
        self.time = dict(zip(self._numbers, self._times, strict=True))
        self.next = self._numbers[-1] + 1 if self._numbers else 0
        """The number after the last one."""

    def after(self, time: float) -> int:
        """The first tick that can know of what happened then; of what came too late for all, the next that was due."""
        index = bisect.bisect_left(self._times, time)
        return self._numbers[index] if index < len(self._numbers) else self.next

    def done(self, first: int, end: int) -> list[int]:
        """The ticks that took place in a range: a stalled relay passes over some."""
        return self._numbers[bisect.bisect_left(self._numbers, first) : bisect.bisect_left(self._numbers, end)]


@dataclass(frozen=True, slots=True)
class Spectra:
    """What one listener was sent within one life and connection, or one track holds: a row a frame."""

    ticks: npt.NDArray[np.int64]
    sound: tones.Sound
    amplitudes: tones.Sound

    @classmethod
    def of(cls, ticks: list[int], sound: tones.Sound) -> Spectra:
        return cls(np.array(ticks, np.int64), sound, tones.amplitudes(sound))

    def voice(self, phone: Phone) -> tones.Sound:
        column: tones.Sound = self.amplitudes[:, tones.bin_of(phone.hertz)]
        return column

    @property
    def loudness(self) -> tones.Sound:
        """Root mean square of each frame."""
        rms: tones.Sound = np.sqrt(np.mean(self.sound**2, axis=1))
        return rms

    def said_at(self, phone: Phone, times: npt.NDArray[np.float64]) -> tones.Sound:
        """How old what the phone said is in each frame, modulo 480 ms; NaN where its code is not clear."""
        first = tones.bin_of(tones.CODES_HZ[0])
        codes = self.amplitudes[:, first : first + tones.CODES]
        ordered = np.sort(codes, axis=1)
        clear = (ordered[:, -1] > CLEAR) & (ordered[:, -2] < 0.6 * ordered[:, -1]) & (self.voice(phone) > CLEAR)
        age = np.mod(times - phone.phase - 0.02 * np.argmax(codes, axis=1), 0.02 * tones.CODES)
        return np.where(clear, age, np.nan)


@dataclass(frozen=True, slots=True)
class Placed:
    """A segment of a talk in ticks."""

    talk: Talk
    segment: Segment
    first: int
    end: int


class Run:
    """A finished run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.script = world.script
        self.ticks = [Ticks(relay) for relay in world.lives]

    def segments(self, talk: Talk) -> list[Placed]:
        """Of what a call was, tick by tick; what did not last until a tick is nothing."""
        ticks = self.ticks[talk.life]
        placed = (Placed(talk, each, ticks.after(each.first), ticks.after(each.end)) for each in talk.segments())
        return [each for each in placed if each.first < each.end]

    @functools.cached_property
    def listened(self) -> dict[str, list[tuple[int, Spectra]]]:
        """By peer: what it was sent, life by life and connection by connection."""
        return {name: list(self._listened(phone)) for name, phone in self.world.phones.items()}

    def _listened(self, phone: Phone) -> Iterator[tuple[int, Spectra]]:
        for (life, connection), group in groupby(phone.overheard, key=lambda each: (each.life, each.connection)):
            packets = list(group)
            encoding = phone.connections[connection].encoding
            sound = tones.decoded([each.payload for each in packets], encoding)
            yield life, Spectra.of([each.tick for each in packets], sound)

    @property
    def delay_max(self) -> float:
        """The longest that a link takes on a good day."""
        media = self.script.media
        return media.delay_s + media.jitter_s

    @property
    def clean(self) -> bool:
        """Whether the links lose, swap and delay nothing to speak of."""
        media = self.script.media
        return not (media.loss or media.bursts or media.reorder) and media.jitter_s <= 0.005

    @property
    def age_max(self) -> float:
        """How old sound may be at the tick that sends or records it."""
        media = self.script.media
        held_back = media.reorder_s if media.reorder else 0.0
        return min(self.delay_max + held_back + (0.085 if self.clean else 0.16), 0.44)

    def encoding(self, phone: Phone) -> str:
        return phone.connections[-1].encoding if phone.connections else "PCMU"

    def settling(self, phone: Phone) -> float:
        """How long after somebody begins to listen to a phone it must be understood: Opus swings in."""
        return self.delay_max + (0.25 if self.encoding(phone) == "opus" else 0.12)

    def undisturbed(self, phone: Phone, times: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """At which times a phone must be understood: it has been speaking for a while, and nothing was wrong lately."""
        margin = self.settling(phone)
        speaking = np.zeros(times.size, np.bool_)
        for each in phone.spoken:
            end = np.inf if each.end is None else each.end
            speaking |= (times > each.first + margin) & (times < end)
        for each in phone.disturbed:
            speaking &= ~((times > each.first) & (times < _end(each) + margin + 0.2))
        arrivals = self.world.wire.arrivals.get(phone.name, [])
        for before, after in pairwise(arrivals):
            if after - before > _GAP_SECONDS:
                speaking &= ~((times > before) & (times < after + margin + 0.2))
        return speaking


def _end(stretch: Stretch) -> float:
    return float("inf") if stretch.end is None else stretch.end
