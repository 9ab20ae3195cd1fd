"""What is left of a plane's legs when all are closed: said in sentences, none if nothing is."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType

import numpy as np

from relay.plane.plane import Plane

_STATUS = Path("/proc/self/status")


def remains(plane: Plane) -> Iterator[str]:
    """Rows that did not come back, and whatever else still knows of a leg."""
    for part in (_legs, _intake, _mixing, _recording, _sending):
        for what, value in part(plane).items():
            if value if isinstance(value, int) else value is not None and len(value) > 0:  # type: ignore[arg-type]
                yield f"{what}: {value}"


def _legs(plane: Plane) -> dict[str, object]:
    legs = plane.stages.legs
    return {
        "legs open": list(legs.by_id),
        "rows lost": set(range(legs.legs_max)) - set(legs._free),
        "rows given back twice": len(legs._free) - len(set(legs._free)),
        "rows with a leg": [each.leg_id for each in legs.by_row if each],
        "rows with SRTP": [each for each in (*legs.receive_handles, *legs.send_handles) if each is not None],
        "rows open": np.flatnonzero(legs.open),
        "rows active": np.flatnonzero(legs.active),
        "rows with an address": np.flatnonzero(legs.remote),
        "a leg at work": legs.at_work,
        "steps": plane.steps_waiting,
        "rows that are ticked": [*plane._rows, *(row for _, rows in plane._groups for row in rows)],
    }  # fmt: skip


def _intake(plane: Plane) -> dict[str, object]:
    intake = plane.stages.intake
    return {
        "endpoints": len(intake.endpoints),
        "telephone events that go on": list(intake._sounding),
        "failed sources beyond their limit": max(0, len(intake.latching._failed) - intake.settings.latch.sources_max),
        "datagrams unaccounted for": plane.outcomes.unaccounted,
    }


def _mixing(plane: Plane) -> dict[str, object]:
    conferences = plane.stages.conferences
    matrix = conferences.mixer._matrix
    batches = [*matrix._copies.values(), *matrix._batches.values()]
    loudness = plane.stages.loudness
    said, heard = loudness._from, loudness._to
    return {
        "conferences": len(conferences),
        "memberships": np.flatnonzero(conferences.members),
        "conferences of the mixer": [*matrix._members, *matrix._places],
        "listeners": [*matrix._conference_of, *matrix._terms, *matrix._fading, *matrix._departed],
        "matrices": sum(batch.used + len(batch._slots) + len(batch._keys) for batch in batches),
        "planned": [row for plan in matrix._plans.values() for row in (*plan.order, *plan.speakers, *plan.listeners)],
        "rows that listen": np.flatnonzero(matrix.kind),
        "rows that hear one other": np.flatnonzero(matrix.source != -1),
        "rates other than the first": set(matrix._rates) - {8000},
        "gains turned down": np.flatnonzero(conferences.mixer._limiter.gain != 1),
        "loudness": [
            *np.flatnonzero(said._energy + said._ticks + said._hangover),
            *np.flatnonzero(heard._energy + heard._ticks),
            *np.flatnonzero(loudness._said[: plane.stages.legs.legs_max]),
        ],
    }  # fmt: skip


def _recording(plane: Plane) -> dict[str, object]:
    taps = plane.stages.taps
    buffers = list(taps._table._forms.values())
    return {
        "tracks": [*taps._taps, *taps._recordings],
        "tracks of what is sent": taps.sent,
        "captured and not collected": taps._captured,
        "rows of tracks": [row for each in buffers for row in set(range(len(each._ids))) - set(each._free)],
        "names of tracks": [name for each in buffers for name in each._ids if name],
        "phases of tracks": [*(row for each in buffers for phase in each._phases for row in phase)]
        + [row for each in buffers for row in each._phase_of],
    }


def _sending(plane: Plane) -> dict[str, object]:
    transmission = plane.stages.transmission
    order, payloads = transmission._order, transmission._payloads._plan
    return {
        "reports that wait": transmission._reports,
        "legs to send to": [*order.legs, *order.handles, *payloads.laws, *payloads.opus],
        "places to send from": np.flatnonzero(order.places >= 0),
    }  # fmt: skip


def row_by_row(plane: Plane) -> dict[str, np.ndarray]:
    """Every column that a leg finds when it opens, of every row; a column may keep what no leg reads before writing."""
    stages = plane.stages
    parts = {
        "legs": stages.legs,
        "jitter": stages.jitter,
        "reception": stages.intake.reception,
        "levels from": stages.loudness._from,
        "levels to": stages.loudness._to,
        "concealment": stages.playout._concealment,
    }
    return {
        f"{part}.{name}": value
        for part, one in parts.items()
        for name, value in vars(one).items()
        if isinstance(value, np.ndarray) and f"{part}.{name}" not in READ_AFTER_WRITING
    }


READ_AFTER_WRITING = {
    "legs.send_sequence": "random for each leg",
    "legs.send_timestamp": "random for each leg",
    "legs.send_ssrc": "the leg's own",
    "legs.active_since": "set when it becomes active",
    "jitter.slot": "counts on for ever, modulo 2^28",
    "jitter.timestamp": "set by the first packet, before which the buffer does not run",
    "jitter._owner": "scratch of one batch",
    "jitter._owner_of_slot": "the same, for whole slots",
    "jitter._score": "set by the first packet",
    "jitter._slacks": "windows of the ticks since it opened, and not heard",
    "jitter._scored_at": "set when a packet is late",
    "jitter._skip_at": "set when something is to be skipped",
    "jitter._began": "set by the first packet",
    "reception._base": "set by the first packet",
    "reception._highest": "set by the first packet",
    "reception._timestamp": "means nothing while no packet has arrived",
    "reception._last": "scratch of one batch",
    "concealment._fall": "a constant",
    "concealment._rise": "a constant",
    "concealment.run": "set when the leg becomes active",
    "concealment._kept": "set when the leg becomes active",
    "legs.counters": "a table of columns that are compared each",
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the process has."""

    resident_kb: int
    descriptors: int
    threads: int
    objects: Counter[str]

    @classmethod
    def taken(cls) -> Footprint:
        """After everything that can be given back has been."""
        for _ in range(3):
            gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        resident = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
        objects = Counter(type(each).__qualname__ for each in gc.get_objects())
        # The event loop's pool has as many as were ever wanted at once, and six at most.
        threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
        return cls(int(resident.split()[1]), len(os.listdir("/proc/self/fd")), len(threads), objects)  # noqa: PTH208

    def grown(self, before: Footprint, *, objects_max: int) -> dict[str, int]:
        """Kinds of objects of which there are many more than before."""
        more = self.objects - before.objects
        return {name: count for name, count in more.items() if count > objects_max}


def reachable(root: object) -> Counter[str]:
    """How many objects of each type hang on one: what it remembers, whatever that is called and wherever it lies."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType):
            seen[id(one)] = one
            waiting += gc.get_referents(one)
    return Counter(type(one).__qualname__ for one in seen.values())
