"""The plane: one tick every 20 ms over all legs.

    sockets → srtp → rtp → jitter → codecs → tap → mixer → codecs → rtp → srtp → sockets

Legs are rows of tables; the stages are batch operations over them, each in a module of its own, and this module says in
which order they run. A tick takes `now` and returns media events; what it captured goes to `sink`, in order.

Ticks are numbered by the clock: tick `n` is due at `origin + n * 20 ms`. A tick that was missed is neither mixed nor
sent (its packets would come in a burst, and too late), but its slots are played into the taps, so that the recording
keeps what came; a pause of more than `catch_up_ticks` leaves a hole that the recorder states as an overflow. Listeners
lose the missed sound, and no delay stays behind.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np

from recorder.capture import Captured
from relay.media import (
    TICK_SECONDS,
    CommandRefused,
    LegSilent,
    MediaEvent,
    MoveLeg,
    OpenLeg,
    OpenRecording,
    OpenTrack,
    RekeyLeg,
    Step,
)
from relay.plane.commands import Commands
from relay.plane.intake import telephone_event
from relay.plane.legs import OPUS, PCMA, PCMU, Leg
from relay.plane.outcomes import Outcomes
from relay.plane.packets import MediaSockets, Rows
from relay.plane.playout import Played
from relay.plane.stages import PlaneSettings, Stages
from relay.plane.taps import SENT
from relay.plane.tick_profile import StageTimes

_log = logging.getLogger(__name__)

_ADDING = (OpenLeg, MoveLeg, RekeyLeg, OpenRecording, OpenTrack)
Sink = Callable[[list[Captured]], None]


class Plane:
    """All legs of a process. `apply` is for any thread; everything else belongs to the thread that calls `tick`.

    `wall` turns monotonic seconds into Unix seconds; `entropy(n)` gives `n` random bytes.
    """

    def __init__(
        self,
        settings: PlaneSettings,
        sockets: MediaSockets,
        sink: Sink,
        *,
        entropy: Callable[[int], bytes],
        wall: Callable[[float], float],
    ) -> None:
        self.settings = settings
        self.stages = Stages(settings, sockets, wall)
        self.tick_number = -1
        """Of the last tick; the first is 0."""
        self.counters: Counter[str] = Counter()
        self.times = StageTimes()
        """How long the stages take; whoever ticks gives it a clock."""
        self._commands = Commands(self.stages, entropy)
        self._sink = sink
        self._steps: deque[Step] = deque()
        self._refused: deque[Step] = deque(maxlen=settings.steps_max)
        self._origin: float | None = None
        self._events: list[MediaEvent] = []
        self._rows: Rows = np.zeros(0, np.intp)
        self._groups: tuple[tuple[int, Rows], ...] = ()
        self._tapped = np.zeros(settings.legs_max, np.bool_)
        """By leg: whether it has a track, its gate open or not."""
        self._said: set[str] = set()

    def apply(self, step: Step) -> None:
        """Carry out a step at the head of the next tick; beyond `steps_max` waiting ones, one that adds is refused.

        What only closes, withholds or changes who hears whom is always taken: it is bounded by what was opened before.
        """
        adds = any(isinstance(command, _ADDING) for command in step.commands)
        if not adds or len(self._steps) < self.settings.steps_max:
            self._steps.append(step)
        else:
            self._refused.append(step)

    @property
    def steps_waiting(self) -> int:
        """Steps that no tick has carried out yet."""
        return len(self._steps)

    def tick_at(self, now: float) -> int:
        """The number of the tick that is due at `now`: the last that is not later."""
        if self._origin is None:
            return 0
        return int((now - self._origin) / TICK_SECONDS + 1e-6)

    def tick(self, now: float) -> list[MediaEvent]:
        """One tick; `now` is monotonic seconds. Whatever goes wrong in a stage is counted, and the others go on."""
        if self._origin is None:
            self._origin = now
        number = max(self.tick_at(now), self.tick_number + 1)
        self._events = []
        times = self.times
        times.begin()
        missed = number - self.tick_number - 1
        if missed:
            self._guard(self._catch_up, number, now)
            times.end("catch_up")
        self.tick_number = number
        self._guard(self.stages.conferences.begin_tick)
        self._guard(self._apply_steps, now)
        times.end("steps")
        self._guard(self._receive, now, self.due(number))
        times.end("receive")
        self._guard(self._play, number)
        times.end("play")
        self._guard(self._mix, number)
        times.end("mix")
        self._guard(self._report, now)
        times.end("report")
        self._guard(self._send, number)
        self._guard(self.stages.transmission.end_tick, self._rows)
        times.end("send")
        self._guard(self._capture)
        times.end("capture")
        return self._events

    def statistics(self) -> dict[str, int]:
        """Everything that is counted since the start or is there at present, under one name each."""
        stages, outcomes = self.stages, self.outcomes
        return {
            "received": outcomes.received,
            "table_full": outcomes.table_full,
            "unaccounted": outcomes.unaccounted,
            **{f"taken_{name}": count for name, count in asdict(outcomes.taken).items()},
            **asdict(outcomes.dropped),
            **{f"latch_{name}": count for name, count in asdict(stages.intake.latching.counters).items()},
            **{f"unsent_{name}": count for name, count in self.unsent().items()},
            "legs": len(stages.legs),
            "conferences": len(stages.conferences),
            "tracks": len(stages.taps),
            "steps_waiting": self.steps_waiting,
            **self.counters,
        }

    @property
    def outcomes(self) -> Outcomes:
        """What became of the datagrams that came."""
        return self.stages.intake.outcomes

    def unsent(self) -> dict[str, int]:
        """Packets that did not leave, by reason."""
        transmission = self.stages.transmission
        return {
            "rejected": transmission.rejected,
            "failed": transmission.failed,
            "reports_dropped": transmission.reports_dropped,
        }

    def due(self, number: int) -> float:
        """When a tick should begin; known once the first has."""
        assert self._origin is not None, "set by the first tick"
        return self._origin + number * TICK_SECONDS

    def _catch_up(self, number: int, now: float) -> None:
        """Play what was missed into the taps, as far as the buffers hold it."""
        first = self.tick_number + 1
        self.counters["missed_ticks"] += number - first
        played = max(first, number - self.settings.catch_up_ticks)
        self.counters["skipped_ticks"] += played - first
        self._receive(now, self.due(first))
        if played > first:
            self.stages.taps.miss(first, played - first)
        if number > played and self.stages.taps.sent:
            self.stages.taps.miss(played, number - played, SENT)
        for _ in range(first, played):
            self._pass_over()
        for tick in range(played, number):
            self._play(tick)
            self.stages.transmission.end_tick(self._rows)

    def _pass_over(self) -> None:
        for _, rows in self._groups:
            self.stages.jitter.take(rows)
        self.stages.transmission.end_tick(self._rows)

    def _apply_steps(self, now: float) -> None:
        while self._refused:
            step = self._refused.popleft()
            self.counters["steps_refused"] += 1
            leg_id = next((command.leg_id for command in step.commands if isinstance(command, OpenLeg)), None)
            self._events.append(CommandRefused(step.contact_id, leg_id, "too many steps wait for the plane"))
        if not self._steps:
            return
        for _ in range(min(len(self._steps), self.settings.steps_per_tick_max)):
            step = self._steps.popleft()
            self._guard(self._apply_step, step, now)
            self.times.steps += 1
        self._regroup(now)

    def _apply_step(self, step: Step, now: float) -> None:
        self._events.extend(self._commands.apply(step, self.tick_number, now, self.due(self.tick_number)))

    def _regroup(self, now: float) -> None:
        """Who is on a contact may have changed: those who came begin with an empty buffer."""
        stages = self.stages
        legs = stages.legs
        self._tapped[:] = False
        self._tapped[stages.taps.tapped()] = True
        active = (stages.conferences.members > 0) | self._tapped
        for row in np.flatnonzero(active & ~legs.active).tolist():
            stages.intake.begin_playout(legs.leg(row))
            stages.playout.open(row)
            legs.active_since[row] = now
        legs.active[:] = active
        self._rows = np.flatnonzero(legs.open)
        self._groups = tuple((encoding, legs.rows_of(encoding)) for encoding in (PCMU, PCMA, OPUS))
        stages.transmission.reorder()

    def _receive(self, now: float, due: float) -> None:
        self.stages.intake.receive(now, due, self._events)

    def _play(self, tick: int) -> None:
        """A slot of every leg on a contact: to the mixer's tables, the taps and the meters."""
        stages = self.stages
        needed = stages.conferences.heard() | self._tapped
        for encoding, rows in self._groups:
            if rows.size:
                played = stages.playout.play(encoding, rows, needed)
                stages.taps.write(encoding, played, tick)
                self._measure(played, tick)
        stages.jitter.end_tick(self._rows)

    def _measure(self, played: Played, tick: int) -> None:
        self.stages.loudness.measure_from(played.legs, played.sound)

    def _mix(self, tick: int) -> None:
        stages = self.stages
        stages.conferences.mix(tick)
        stages.loudness.measure_heard(stages.conferences.sounds)
        levels = stages.loudness.report(tick, stages.conferences.members)
        if levels is not None:
            self._events.append(levels)

    def _report(self, now: float) -> None:
        stages = self.stages
        for leg, ended in stages.intake.expire_events(now):
            self._events.append(telephone_event(leg, ended, int(stages.jitter.clock[leg.row])))
        due = stages.reports.due(self.tick_number, self._rows)
        if due.size:
            for leg, packet in stages.reports.compounds(due, now):
                remote = leg.report_endpoint or int(stages.legs.remote[leg.row])
                if remote:
                    stages.transmission.queue_report(packet, remote)
        due = stages.reports.due_leg_reports(self.tick_number, self._rows)
        if due.size:
            self._events.extend(stages.reports.leg_reports(due))
            self._events.extend(self._silences(due, now))

    def _send(self, tick: int) -> None:
        """To the sockets, and into the taps of what goes to legs."""
        stages = self.stages
        stages.transmission.send()
        if stages.taps.sent:
            stages.taps.write_sent(stages.transmission, tick)

    def _silences(self, rows: Rows, now: float) -> Iterator[LegSilent]:
        """Say which legs on a contact have gone silent, and again each time that as long has passed."""
        legs = self.stages.legs
        seconds = now - np.maximum(legs.heard[rows], legs.active_since[rows])
        times = np.where(legs.active[rows], seconds // self.settings.silent_seconds, 0).astype(np.int64)
        for i in np.flatnonzero(times > legs.silences_said[rows]).tolist():
            yield LegSilent(legs.leg(int(rows[i])).leg_id, float(seconds[i]))
        legs.silences_said[rows] = times

    def _capture(self) -> None:
        captured = self.stages.taps.collect(self.tick_number)
        if captured:
            self._sink(captured)

    def _guard(self, stage: Callable[..., None], *arguments: object) -> None:
        try:
            stage(*arguments)
        except Exception:  # noqa: BLE001 - whatever it is, the other legs' sound must go on
            name = stage.__name__.lstrip("_")
            self.counters[f"failed_{name}"] += 1
            if name not in self._said:
                self._said.add(name)
                _log.exception("a stage of the tick failed; from now on it is only counted: %s", name)
            self._end_leg_at_work()

    def _end_leg_at_work(self) -> None:
        """If the failed work was on one leg, that leg ends, so that the next tick goes well for the others."""
        leg, self.stages.legs.at_work = self.stages.legs.at_work, None
        if leg is not None and leg.leg_id in self.stages.legs.by_id:
            self.counters["legs_ended"] += 1
            self._guard(self._end_leg, leg)

    def _end_leg(self, leg: Leg) -> None:
        now = self.due(self.tick_number)
        self._events.append(self._commands.close_leg(leg, self.tick_number, now))
        self._regroup(now)
