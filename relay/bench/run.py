"""One run of a benchmark: its processes from start to end, and what they found as one result."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from relay.bench import machine
from relay.bench.processes import BenchProcess
from relay.bench.search import find_max, shortcomings
from relay.bench.work import LEGS_MAX, BenchCodec, Work
from relay.errors import OperatorError

Progress = Callable[[str], None]
Result = dict[str, Any]

LOAD_LATE_MS_MAX: Final = 5.0
OTHERS_ON_CORE_MAX: Final = 0.05
DISTRIBUTIONS: Final = "distributions"
"""Beside the fields of `--json`, what stands behind the percentiles, for a picture."""
_CORES: Final = tuple(sorted(os.sched_getaffinity(0)))
"""Those that this program may use, before it moves itself to one of them."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is asked for, but for the number of legs."""

    conference: int
    """1 in a queue."""
    codec: BenchCodec = "pcmu"
    queue: bool = False
    srtp: bool = True
    record: bool = False
    busy: bool = False
    seconds: float = 10.0

    def work(self, legs: int) -> Work:
        """With fresh keys, on the first and the last core that this process may use."""
        return Work(**asdict(self), legs=legs, seed=secrets.token_hex(16), relay_core=_CORES[0], load_core=_CORES[-1])

    def run(self, legs: int, progress: Progress) -> Result:
        """One run; the result has the fields of `koppel bench --json`."""
        return _run(self.work(legs), progress)

    def find_max(self, legs: int, progress: Progress) -> Result:
        """The run with the largest number of legs that went well, and which were tried."""

        def measure(legs: int) -> Result:
            result = self.run(legs, progress)
            progress(f"{legs} legs: {', '.join(shortcomings(result)) or 'good'}")
            return result

        found = find_max(legs, self.conference, measure, LEGS_MAX)
        if found.best is None:
            raise OperatorError(f"not even {found.tried[-1]['legs']} legs go well: {', '.join(found.tried[-1]['why'])}")
        if found.limited_by == "load":
            progress("the load, not the relay, could not do more: the relay's own limit lies higher")
        return {
            **found.best,
            "max_legs": found.best["legs"],
            "limited_by": found.limited_by,
            "tried": found.tried,
        }


def _run(work: Work, progress: Progress) -> Result:
    if work.relay_core == work.load_core:
        progress("only one core: relay and load share it, and the figures are those of both together")
    # The relay gets its core to itself: whoever else works for the benchmark does so on the other one.
    os.sched_setaffinity(0, {work.load_core})
    yardstick = _yardstick(work, progress)
    relay, load = _measured(work, progress)
    void, notes = _void(load), _notes(work, relay, load)
    for problem in void:
        progress(f"VOID, this run measured nothing: {problem}")
    for note in notes:
        progress(note)
    return {
        "legs": work.legs,
        "seconds": work.seconds,
        "conference": work.conference,
        "queue": work.queue,
        "codec": work.codec,
        "opus": work.opus,
        "srtp": work.srtp,
        "record": work.record,
        "sent": load["sent"],
        "received": load["received"],
        "delivered_ratio": round(load["received"] / max(load["sent"], 1), 6),
        "content_ok_legs": load["content_ok_legs"],
        "cpu_ms_per_leg_second": relay["cpu_ms_per_leg_second"],
        "yardstick_cpu_ms_per_leg_second": yardstick,
        "tick_late_ms": relay["tick_late_ms"],
        "tick_ms": relay["tick_ms"],
        "missed_ticks": relay["missed_ticks"],
        "mouth_to_ear_ms": load["mouth_to_ear_ms"],
        "concealed_ratio": relay["concealed_ratio"],
        "recorded_tracks": relay["recorded_tracks"],
        "rss_mb": relay["rss_mb"],
        "refused": load["refused"],
        "authenticated_ratio": load["authenticated_ratio"],
        "load_late_ms": load["load_late_ms"],
        "load_cpu_ms_per_leg_second": load["load_cpu_ms_per_leg_second"],
        "void": void,
        "notes": notes,
        "others_on_core": relay["others_on_core"],
        "machine": machine.description(),
        DISTRIBUTIONS: {**relay["ticks"], "mouth_to_ear_ms": load["delays"]},
    }


def _yardstick(work: Work, progress: Progress) -> float:
    progress("yardstick: bare receive, unprotect, protect and send of as many packets")
    with ExitStack() as stack:
        process = BenchProcess("relay.bench.yardstick", work.relay_core, progress)
        stack.callback(process.stop)
        process.say({"work": work.to_json()})
        return float(process.hear("result"))


def _measured(work: Work, progress: Progress) -> tuple[Result, Result]:
    with ExitStack() as stack:
        load = BenchProcess("relay.bench.telephones", work.load_core, progress)
        stack.callback(load.stop)
        relay = BenchProcess("relay.bench.relay_process", work.relay_core, progress)
        stack.callback(relay.stop)
        for process in (load, relay):
            process.say({"work": work.to_json()})
        addresses = load.hear("addresses")
        load.hear("prepared")
        relay.say({"open": addresses})
        load.say({"relay": relay.hear("relay")})
        for edge in ("begin", "end"):
            load.hear("window")
            progress(f"{work.legs} legs, {work.seconds:g} s: {edge}")
            relay.say({"window": edge})
        measured = relay.hear("result")
        heard = load.hear("result")
        relay.say({"close": True})
        return {**measured, **relay.hear("closed")}, heard


def _void(load: Result) -> list[str]:
    """Why what was measured was the load, and not the relay."""
    found: list[str] = []
    late = load["load_late_ms"]["p99"]
    if late > LOAD_LATE_MS_MAX:
        found.append(f"the telephones sent up to {late} ms late (p99): their core does not suffice, or has other work")
    if load["dropped"]:
        found.append(f"{load['dropped']} datagrams found the telephones' buffers full: raise net.core.rmem_max")
    if load["unsent"]:
        found.append(f"the system did not take {load['unsent']} datagrams of the telephones")
    return found


def _notes(work: Work, relay: Result, load: Result) -> list[str]:
    """What whoever reads the figures must know."""
    found = [f"the plane refused: {what}" for what in relay["refusals"]]
    found += relay["notices"] + relay["recording_problems"]
    if load["refused"]:
        found.append(f"{load['refused']} packets did not authenticate, or were not what was negotiated")
    if relay["dropped"]:
        found.append(f"{relay['dropped']} datagrams found the relay's buffers full: raise net.core.rmem_max")
    if relay["others_on_core"] > OTHERS_ON_CORE_MAX:
        share = f"{relay['others_on_core']:.0%}"
        found.append(f"other programs had {share} of the relay's core {work.relay_core}: lateness is theirs, too")
    return found
