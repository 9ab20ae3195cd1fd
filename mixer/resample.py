"""Resampling between the rates of a tick: linear-phase polyphase filters over all rows at once.

One prototype low-pass filter serves each pair of rates, whichever way. It runs at the higher rate, is 24 periods of the
lower rate long, and is down 6 dB just below the lower rate's Nyquist frequency: at 8,000 Hz it is flat within 0.1 dB to
3.4 kHz, and more than 60 dB down from 4.6 kHz. (What lies from 4 to 4.6 kHz folds back to between 3.4 and 4 kHz, above
the telephone band: the price of 1.5 ms of delay instead of 5.)

A frame is cut into blocks; the samples that a block of outputs depends on are one short window, and the filter is one
small matrix from window to outputs, the same for all blocks of all rows. So a tick is one gather and one matrix
multiplication.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mixer.frame import RATES, SAMPLES_A_TICK, Pcm, Rate, Rows

_SPAN = 24
"""Length of the filter, in periods of the lower rate."""
_CUTOFF = 0.99
"""Of the lower rate's Nyquist frequency."""
_KAISER_BETA = 6.0
_BLOCKS: Final = 10
"""Blocks a frame: long blocks multiply more zeros, short ones copy more overlap."""


class Resampler:
    """One direction between two rates, with the past of every row."""

    def __init__(self, source_rate: Rate, target_rate: Rate, rows_max: int) -> None:
        self.source_rate: Rate = source_rate
        self.target_rate: Rate = target_rate
        self.delay_seconds = _SPAN / 2 / min(source_rate, target_rate)
        self._matrix = _window_to_block(source_rate, target_rate)
        self._past: Pcm = np.zeros((rows_max, _past_samples(source_rate, target_rate)), np.float32)
        self._rows: Rows = np.zeros(0, np.intp)

    def process(self, source: Pcm, rows: Rows, target: Pcm) -> None:
        """Write `target[rows]` from `source[rows]`, tables of all rows at the two rates.

        A row that was not among the last tick's begins out of silence. Rows are distinct; pass the same array object
        for as long as they stay the same, which saves the comparison.
        """
        self._begin_new(rows)
        if rows.size == 0:
            return
        frames = np.concatenate([self._past[rows], source[rows]], axis=1)
        self._past[rows] = frames[:, -self._past.shape[1] :]
        target[rows] = self._filter(frames)

    def forget(self, row: int) -> None:
        """A row is another's from now on, and may be passed in the next tick: nothing of its past is heard."""
        self._past[row] = 0

    def _filter(self, frames: Pcm) -> Pcm:
        step = SAMPLES_A_TICK[self.source_rate] // _BLOCKS
        windows = np.lib.stride_tricks.sliding_window_view(frames, len(self._matrix), axis=1)[:, ::step]
        blocks: Pcm = np.matmul(windows.reshape(-1, len(self._matrix)), self._matrix)
        return blocks.reshape(len(frames), -1)

    def _begin_new(self, rows: Rows) -> None:
        if rows is not self._rows:
            self._past[np.setdiff1d(rows, self._rows)] = 0
            self._rows = rows


class Resamplers:
    """All directions; fills what listeners at one rate need of speakers at another."""

    def __init__(self, rows_max: int) -> None:
        self._resamplers = {
            (source, target): Resampler(source, target, rows_max)
            for source in RATES
            for target in RATES
            if source != target
        }

    def process(self, source_rate: Rate, target_rate: Rate, pcm: dict[Rate, Pcm], rows: Rows) -> None:
        """Write `pcm[target_rate][rows]` from `pcm[source_rate][rows]`; call it every tick, with no rows too."""
        self._resamplers[source_rate, target_rate].process(pcm[source_rate], rows, pcm[target_rate])

    def forget(self, row: int) -> None:
        """In all directions."""
        for resampler in self._resamplers.values():
            resampler.forget(row)

    def delay_seconds(self, source_rate: Rate, target_rate: Rate) -> float:
        """How much later a sound comes out."""
        return 0.0 if source_rate == target_rate else self._resamplers[source_rate, target_rate].delay_seconds


def prototype(source_rate: Rate, target_rate: Rate) -> Pcm:
    """The low-pass filter at the higher rate, symmetric, with unity gain at 0 Hz."""
    ratio = max(source_rate, target_rate) // min(source_rate, target_rate)
    at = np.arange(-_SPAN * ratio // 2, _SPAN * ratio // 2 + 1)
    taps = np.sinc(at * _CUTOFF / ratio) * np.kaiser(at.size, _KAISER_BETA)
    unity: Pcm = (taps / taps.sum()).astype(np.float32)
    return unity


def _past_samples(source_rate: Rate, target_rate: Rate) -> int:
    return _SPAN * max(source_rate // target_rate, 1)


def _window_to_block(source_rate: Rate, target_rate: Rate) -> Pcm:
    """The matrix from the source samples of a window, its past first, to the target samples of a block.

    Output `n` of a block stands at `n / up * down` of the source, and the filter reaches back from there.
    """
    taps = prototype(source_rate, target_rate)
    up, down = max(target_rate // source_rate, 1), max(source_rate // target_rate, 1)
    past, sources, targets = (
        _SPAN * down,
        SAMPLES_A_TICK[source_rate] // _BLOCKS,
        SAMPLES_A_TICK[target_rate] // _BLOCKS,
    )
    source_at = (np.arange(-past, sources) * up)[:, None]
    target_at = (np.arange(targets) * down)[None, :]
    lag = target_at - source_at
    inside = (lag >= 0) & (lag < taps.size)
    return np.where(inside, taps[np.clip(lag, 0, taps.size - 1)] * up, 0).astype(np.float32)
