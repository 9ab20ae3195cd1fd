"""What the mixer costs a leg-frame: `python -m benchmarks.mixer [--ticks 10]`."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections.abc import Callable
from time import perf_counter

import numpy as np

from mixer.frame import SAMPLES_A_TICK, Rate
from mixer.levels import Levels
from mixer.mix import Mixer
from mixer.resample import Resampler

LEGS = 300
PAIRS: tuple[tuple[Rate, Rate], ...] = (
    (8000, 48000),
    (48000, 8000),
    (16000, 48000),
    (48000, 16000),
    (8000, 16000),
    (16000, 8000),
)


def main() -> None:
    """Print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=10, help="of a series")
    ticks = parser.parse_args().ticks

    def report(name: str, tick: Callable[[], object], legs: int = LEGS) -> None:
        print(f"{name:45} {least(tick, ticks) / legs * 1e6:7.3f}")

    print(f"{LEGS} legs, µs a leg-frame, the best of 20 series; the idle tick in µs")
    for size in (2, 3, 4, 8):
        report(f"mix, conferences of {size}, 8 kHz", settled(mixer_of(size, 8000)))
    report("mix, conferences of 3, 48 kHz", settled(mixer_of(3, 48000)))
    report("mix, conferences of 3, every sum limited", settled(mixer_of(3, 8000, loudness=20000)))
    report("mix, one of a hundred conferences changing", changing(mixer_of(3, 8000)))
    for source, target in PAIRS:
        report(f"resample {source} to {target}", resampling(source, target))
    report("levels, 8 kHz", levels(8000))
    report("levels, 48 kHz", levels(48000))
    report("idle tick (µs in all)", settled(Mixer(LEGS)), legs=1)


def least(tick: Callable[[], object], ticks: int) -> float:
    """Seconds a tick of the best series."""
    tick()
    series = []
    for _ in range(20):
        begin = perf_counter()
        for _ in range(ticks):
            tick()
        series.append(perf_counter() - begin)
    return min(series) / ticks


def mixer_of(size: int, rate: Rate, loudness: float = 2000) -> Mixer:
    """All legs in conferences of one size, everyone talking."""
    mixer = Mixer(LEGS)
    mixer.pcm[rate][:LEGS] = np.random.default_rng(1).normal(0, loudness, (LEGS, SAMPLES_A_TICK[rate]))
    for row in range(LEGS):
        mixer.set_rate(row, rate)
    for first in range(0, LEGS - size + 1, size):
        rows = range(first, first + size)
        mixer.set_conference(first, rows, rows, 1 - np.eye(size))
    mixer.mix()
    return mixer


def settled(mixer: Mixer) -> Callable[[], object]:
    """Ticks in which nothing changes."""

    def tick() -> None:
        mixer.begin_tick()
        mixer.mix()

    return tick


def changing(mixer: Mixer) -> Callable[[], object]:
    """Ticks in each of which one conference goes from talk to hold or back."""
    hold = iter(range(10**9))

    def tick() -> None:
        mixer.begin_tick()
        mixer.set_conference(0, range(3), range(3), (1 - np.eye(3)) * (next(hold) % 2))
        mixer.mix()

    return tick


def resampling(source_rate: Rate, target_rate: Rate) -> Callable[[], object]:
    """All legs from one rate to another."""
    resampler, rows = Resampler(source_rate, target_rate, LEGS), np.arange(LEGS)
    source = np.random.default_rng(1).normal(0, 2000, (LEGS, SAMPLES_A_TICK[source_rate])).astype(np.float32)
    target = np.zeros((LEGS, SAMPLES_A_TICK[target_rate]), np.float32)
    return lambda: resampler.process(source, rows, target)


def levels(rate: Rate) -> Callable[[], object]:
    """The energy and activity of all legs."""
    meter, rows = Levels(LEGS), np.arange(LEGS)
    frames = np.random.default_rng(1).normal(0, 2000, (LEGS, SAMPLES_A_TICK[rate])).astype(np.float32)
    return lambda: meter.measure(rows, frames)


if __name__ == "__main__":
    main()
