"""A limiter for sums of voices: rows that would exceed full scale are turned down, and nothing else is touched."""

from __future__ import annotations

import numpy as np

from mixer.frame import RATES, SAMPLE_MAX, SAMPLES_A_TICK, Pcm, Rate, Rows

THRESHOLD = 29204.0
"""Peaks up to here (-1 dB of full scale) pass unchanged; what a falling gain does not catch in time bends from here."""
ATTACK_MS = 2.5
RELEASE_DB_A_TICK = 0.6

_NO_SLOTS: Rows = np.zeros(0, np.intp)
_HEADROOM = SAMPLE_MAX - THRESHOLD
_RELEASE = np.float32(10 ** (RELEASE_DB_A_TICK / 20))


class Limiter:
    """One gain a listener row, 1.0 at rest, carried from tick to tick so that no frame begins with a step."""

    def __init__(self, rows_max: int) -> None:
        self.gain: Pcm = np.ones(rows_max, np.float32)
        self._any_turned_down = False
        self._attack = {rate: _attack_ramp(rate) for rate in RATES}
        self._release = {rate: np.linspace(0, 1, SAMPLES_A_TICK[rate] + 1, dtype=np.float32)[1:] for rate in RATES}

    def apply(self, rate: Rate, sums: Pcm, rows: Rows, *, copies: int = 0, fading: Rows = _NO_SLOTS) -> None:
        """Limit, in place, the sums of a tick; `rows` names the listener of each.

        The first `copies` are single voices, which cannot exceed full scale and are left exactly as they are; but in
        the tick in which a slot fades to one (it is `fading`), its gain comes back to 1.
        """
        loud = _loud(sums[copies:]) + copies
        turned_down = self._any_turned_down and self.gain[rows[copies:]] < 1
        if loud.size or fading.size or np.any(turned_down):
            slots = np.flatnonzero(turned_down) + copies if self._any_turned_down else _NO_SLOTS
            self._turn_down(rate, sums, rows, np.unique(np.concatenate([slots, loud, fading])), copies)
            self._any_turned_down = bool((self.gain < 1).any())

    def _turn_down(self, rate: Rate, sums: Pcm, rows: Rows, slots: Rows, copies: int) -> None:
        before, sound = self.gain[rows[slots]], sums[slots]
        wanted = np.minimum(1, THRESHOLD / np.maximum(np.abs(sound).max(axis=1), 1))
        limited = np.minimum(wanted, before * _RELEASE)
        after = np.where(slots < copies, 1, np.minimum(limited, 1)).astype(np.float32)
        ramp = np.where((after < before)[:, None], self._attack[rate], self._release[rate])
        sound *= (before[:, None] + (after - before)[:, None] * ramp).astype(np.float32, copy=False)
        _bend(sound)
        sums[slots] = sound
        self.gain[rows[slots]] = after


def _loud(sums: Pcm) -> Rows:
    """The rows with a peak over the threshold; most ticks have none, which one pass over all samples tells."""
    if not sums.size or (sums.max() <= THRESHOLD and sums.min() >= -THRESHOLD):
        return _NO_SLOTS
    return np.flatnonzero((sums.max(axis=1) > THRESHOLD) | (sums.min(axis=1) < -THRESHOLD))


def _bend(sound: Pcm) -> None:
    """Leave what lies within the threshold; bend what lies above it smoothly, so that it never exceeds full scale."""
    above = np.abs(sound) > THRESHOLD
    if above.any():
        loud = sound[above]
        excess = (np.abs(loud) - np.float32(THRESHOLD)) / np.float32(_HEADROOM)
        sound[above] = np.copysign(np.float32(THRESHOLD) + np.float32(_HEADROOM) * np.tanh(excess), loud)


def _attack_ramp(rate: Rate) -> Pcm:
    samples = SAMPLES_A_TICK[rate]
    attack = int(rate * ATTACK_MS / 1000)
    return np.minimum(np.arange(1, samples + 1, dtype=np.float32) / attack, 1).astype(np.float32)
