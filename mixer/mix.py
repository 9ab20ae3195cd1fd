"""The mixer: all conferences of a tick as a few batched multiplications, at every rate that somebody listens at.

A tick goes so:

1. `begin_tick`;
2. any number of `set_rate`, `set_conference`, `drop_conference`, `release_row`;
3. the plane fills `pcm[rate]` for the rows that `speakers_at(rate)` names (decoded, or resampled from another rate);
4. `mix`;
5. the plane encodes what the rows that `listeners_at(rate)` names hear: one of `Kind.GENERAL` hears `out[rate]`, one of
   `Kind.UNITY` what `source` says, as it stands in `pcm[rate]`, and one of `Kind.SILENCE` nothing. The latter two cost
   the mixer nothing, and may share an encoding or pass a payload through.

Gains that change cross-fade over the frame, and sums that would exceed full scale are limited; only the rows concerned
pay for either. A rate at which nobody listens costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixer.batch import Batch
from mixer.frame import RATES, SAMPLE_MAX, SAMPLE_MIN, SAMPLES_A_TICK, Pcm, Rate, Rows, Samples
from mixer.levels import mean_square
from mixer.limiter import Limiter
from mixer.matrix import Kind, Matrix, Plan, Terms


class Mixer:
    """The PCM tables of all rows, and the conferences among them.

    `pcm[rate]` and `out[rate]` have `rows_max` rows and one more, `silence_row`: zero in `pcm`, rubbish in `out`.
    Rows of `out` that the last `mix` did not write are rubbish, too.
    Sounds that the relay makes are rows like any other. A row listens in one conference at a time (the latest that
    named it) and may speak in any number.
    """

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.silence_row = rows_max
        self.pcm: dict[Rate, Pcm] = {r: np.zeros((rows_max + 1, SAMPLES_A_TICK[r]), np.float32) for r in RATES}
        self.out: dict[Rate, Samples] = {r: np.zeros((rows_max + 1, SAMPLES_A_TICK[r]), np.int16) for r in RATES}
        self.energy: Pcm = np.zeros(rows_max + 1, np.float32)
        """By row of `Kind.GENERAL`: the mean square of what it hears in this tick."""
        self._matrix = Matrix(rows_max)
        self._limiter = Limiter(rows_max + 1)
        self._sums: dict[Rate, Pcm] = {r: np.zeros((0, SAMPLES_A_TICK[r]), np.float32) for r in RATES}
        self._heard: dict[Rate, Pcm] = {r: np.zeros((0, SAMPLES_A_TICK[r]), np.float32) for r in RATES}
        self._fall = {r: np.linspace(1, 0, SAMPLES_A_TICK[r] + 1, dtype=np.float32)[1:] for r in RATES}

    @property
    def kind(self) -> NDArray[np.uint8]:
        """By row, a `Kind`: what it hears in this tick."""
        return self._matrix.kind

    @property
    def source(self) -> Rows:
        """By row, the one speaker that a row of `Kind.UNITY` hears; else -1."""
        return self._matrix.source

    def begin_tick(self) -> None:
        """Forget the cross-fades of the last tick."""
        self._matrix.begin_tick()

    def set_rate(self, row: int, rate: Rate) -> None:
        """Say at which rate a row listens; 8,000 until said."""
        self._matrix.set_rate(row, rate)

    def set_conference(
        self, key: Hashable, listeners: Sequence[int], speakers: Sequence[int], gains: ArrayLike
    ) -> None:
        """Replace the matrix of a conference: `gains[listener, speaker]`, linear. A listener of zeros hears silence."""
        table = np.asarray(gains, np.float32).reshape(len(listeners), len(speakers))
        self._matrix.set_conference(
            key, {int(row): _terms(speakers, heard) for row, heard in zip(listeners, table, strict=True)}
        )

    def drop_conference(self, key: Hashable) -> None:
        """End a conference; its listeners fade out over this tick. An unknown key is nothing to do."""
        self._matrix.set_conference(key, {})

    def release_row(self, row: int) -> None:
        """Forget a row whose leg closed, as listener and as speaker, at once and without a fade."""
        self._matrix.release_row(row)
        self._limiter.gain[row] = 1

    def speakers_at(self, rate: Rate) -> Rows:
        """The rows whose samples at this rate the coming `mix` reads, ascending."""
        return self._matrix.plan(rate).speakers

    def listeners_at(self, rate: Rate) -> Rows:
        """The rows whose samples at this rate the coming `mix` writes, ascending."""
        return self._matrix.plan(rate).listeners

    def mix(self) -> None:
        """Write to `out` what each listener of `Kind.GENERAL` hears of `pcm`."""
        for rate in RATES:
            plan = self._matrix.plan(rate)
            if plan.order.size:
                self._mix_at(rate, plan)

    def heard(self, rate: Rate, rows: Rows) -> Samples:
        """A copy of what listeners at a rate hear in this tick, whatever kind it is of."""
        sound: Samples = self.out[rate].take(rows, axis=0)
        single = np.flatnonzero(self.kind[rows] != Kind.GENERAL)
        if single.size:
            # -1, who hears nobody, is the last row: silence.
            sound[single] = to_samples(self.pcm[rate][self.source[rows[single]]])
        return sound

    def _mix_at(self, rate: Rate, plan: Plan) -> None:
        sums = self._scratch(self._sums, rate, plan.order.size)
        end = plan.copied.size
        np.take(self.pcm[rate], plan.copied, axis=0, out=sums[:end], mode="clip")
        for batch in plan.batches:
            start, end = end, end + batch.used * batch.listeners.shape[1]
            self._multiply(rate, batch, sums[start:end])
        for fade in plan.fades:
            before = fade.gains @ self.pcm[rate][fade.speakers]
            sums[fade.slot] += (before - sums[fade.slot]) * self._fall[rate]
        fading = np.array([fade.slot for fade in plan.fades], np.intp)
        self._limiter.apply(rate, sums, plan.order, copies=plan.copied.size, fading=fading)
        # What the limiter has seen stays within full scale; a copied voice may overshoot it, where it was resampled.
        to_samples(sums[: plan.copied.size])
        self.out[rate][plan.order] = np.rint(sums, out=sums)
        self.energy[plan.order] = mean_square(sums)

    def _multiply(self, rate: Rate, batch: Batch, sums: Pcm) -> None:
        speakers = batch.speakers[: batch.used]
        heard = self._scratch(self._heard, rate, speakers.size)
        np.take(self.pcm[rate], speakers.reshape(-1), axis=0, out=heard, mode="clip")
        samples = heard.shape[1]
        np.matmul(
            batch.gains[: batch.used],
            heard.reshape(*speakers.shape, samples),
            out=sums.reshape(batch.used, -1, samples),
        )

    @staticmethod
    def _scratch(tables: dict[Rate, Pcm], rate: Rate, rows: int) -> Pcm:
        if len(tables[rate]) < rows:
            tables[rate] = np.zeros((2 * rows, SAMPLES_A_TICK[rate]), np.float32)
        return tables[rate][:rows]


def to_samples(sound: Pcm) -> Pcm:
    """Round, in place, to what 16-bit samples can say."""
    np.rint(sound, out=sound)
    np.maximum(sound, SAMPLE_MIN, out=sound)
    return np.minimum(sound, SAMPLE_MAX, out=sound)


def _terms(speakers: Sequence[int], gains: Pcm) -> Terms:
    heard: dict[int, float] = {}
    for speaker, gain in zip(speakers, gains.tolist(), strict=True):
        if gain != 0:
            heard[int(speaker)] = heard.get(int(speaker), 0.0) + gain
    return Terms(tuple(heard), tuple(heard.values()))
