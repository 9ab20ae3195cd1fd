"""Where ticks spend their time: each stage of the present one, the sum of all, and the worst ticks kept whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

STAGES: Final = ("catch_up", "steps", "receive", "play", "mix", "report", "send", "capture", "hand_over")
"""In their order; `hand_over` is the notification of the control loop, after the plane's own work."""
WORST_MAX: Final = 5


class ThreadUsage(NamedTuple):
    """What the kernel has counted for a thread."""

    cpu_seconds: float
    waits: int
    """Times that it gave the processor up to wait: in a tick, for another thread that holds the interpreter."""
    preemptions: int
    """Times that the kernel took the processor away from it."""


@dataclass(frozen=True, slots=True)
class TickProfile:
    """One tick. Where `cpu_ms` is less than `tick_ms`, the thread waited, or another had the processor."""

    tick: int
    late_ms: float
    """From when it was due to when it began."""
    tick_ms: float
    cpu_ms: float
    waits: int
    preemptions: int
    steps: int
    """Steps that were carried out at its head."""
    packets: int
    """Datagrams that were taken from the sockets."""
    events: int
    """Media events that were handed over."""
    stage_ms: Mapping[str, float]
    beside: tuple[str, ...] = ()
    """Where other threads stood when it began, if it was late: whoever held the interpreter stands among them."""


class StageTimes:
    """How long the stages of a tick take. Made without a clock, it measures nothing."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        """Set by whoever has one: the plane itself reads none."""
        self.steps = 0
        """Carried out in this tick."""
        self.present: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        """Seconds of this tick, by stage."""
        self.totals: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        """Seconds of all ticks, by stage."""
        self._at = 0.0

    def begin(self) -> None:
        """A tick begins."""
        self.steps = 0
        self.present["catch_up"] = 0.0
        self._at = self.clock()

    def end(self, stage: str) -> None:
        """A stage ends, and the next one begins."""
        now = self.clock()
        spent = self.present[stage] = now - self._at
        self.totals[stage] += spent
        self._at = now

    def milliseconds(self) -> dict[str, float]:
        """This tick's stages; what took no time is left out."""
        return {stage: rounded for stage, spent in self.present.items() if (rounded := round(spent * 1000, 3)) > 0}


@dataclass(slots=True)
class WorstTicks:
    """The ticks that ended longest after they were due, the worst first. One thread writes, any may read `kept`."""

    kept: tuple[TickProfile, ...] = field(default=())

    def takes(self, late_ms: float, tick_ms: float) -> bool:
        """Whether such a tick is among the worst."""
        return len(self.kept) < WORST_MAX or late_ms + tick_ms > _ended_ms(self.kept[-1])

    def add(self, profile: TickProfile) -> None:
        """Keep a tick, if it is among the worst."""
        self.kept = tuple(sorted((*self.kept, profile), key=_ended_ms, reverse=True)[:WORST_MAX])

    def reset(self) -> None:
        """Forget them."""
        self.kept = ()


def _ended_ms(profile: TickProfile) -> float:
    return profile.late_ms + profile.tick_ms
