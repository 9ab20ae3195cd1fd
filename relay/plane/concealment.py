"""What a G.711 leg sounds like when packets are missing: the last frame, mirrored and faded, without a click.

A frame played backwards begins with the sample on which the last one ended, so that mirroring joins without a step.
Over three ticks it fades to silence; the first real frame afterwards fades in from wherever the concealment stood.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import Pcm
from relay.plane.packets import Rows

CONCEALED_TICKS: Final = 3
_JOIN_SAMPLES: Final = 40
"""5 ms over which a real frame takes over."""


class Concealment:
    """How long each leg has been without sound, and the frame that stands in for it."""

    def __init__(self, legs_max: int, samples: int = 160) -> None:
        self.run = np.full(legs_max, CONCEALED_TICKS, np.int32)
        """Ticks since the last real frame, `CONCEALED_TICKS` at most; a new leg begins in silence."""
        self._kept: Pcm = np.zeros((legs_max, samples), np.float32)
        self._fall = np.zeros((CONCEALED_TICKS + 1, samples), np.float32)
        levels = np.linspace(1.0, 0.0, CONCEALED_TICKS + 1)
        for k in range(CONCEALED_TICKS):
            self._fall[k] = np.linspace(levels[k], levels[k + 1], samples)
        self._rise = np.linspace(0.0, 1.0, _JOIN_SAMPLES + 1, dtype=np.float32)[1:]

    def open(self, leg: int) -> None:
        """A leg begins, or begins anew: in silence."""
        self.run[leg] = CONCEALED_TICKS
        self._kept[leg] = 0

    def conceal(self, legs: Rows, last: Pcm) -> tuple[Pcm, NDArray[np.bool_]]:
        """Frames for legs without a packet, and which of them are more than silence; `last` is what played before."""
        run = self.run[legs]
        first = np.flatnonzero(run == 0)
        self._kept[legs[first]] = last[first]
        frames = self._stand_in(legs, run)
        self.run[legs] = np.minimum(run + 1, CONCEALED_TICKS)
        return frames, run < CONCEALED_TICKS

    def recover(self, legs: Rows, frames: Pcm) -> None:
        """Blend the beginning of real frames, in place, with what concealment would have gone on with."""
        gone_on = self._stand_in(legs, self.run[legs])[:, :_JOIN_SAMPLES]
        frames[:, :_JOIN_SAMPLES] = gone_on + (frames[:, :_JOIN_SAMPLES] - gone_on) * self._rise
        self.run[legs] = 0

    def _stand_in(self, legs: Rows, run: NDArray[np.int32]) -> Pcm:
        kept = self._kept[legs]
        mirrored = np.where((run & 1 == 0)[:, None], kept[:, ::-1], kept)
        return (mirrored * self._fall[run]).astype(np.float32)
