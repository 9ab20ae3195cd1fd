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
from relay.bench.work import LEGS_MAX, SETUPS_A_SECOND, BenchCodec, Work
from relay.errors import OperatorError

Progress = Callable[[str], None]
Result = dict[str, Any]

LOAD_LATE_MS_MAX: Final = 5.0
OTHERS_ON_CORE_MAX: Final = 0.05
SETUPS_MIN: Final = 0.95
"""Of the set-ups that are wanted, so many must have been made, or the result says so."""
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
    measured = _measured(work, progress)
    relay, load = measured.relay[-1], measured.load[-1]
    void, notes = _void(load), _notes(relay, load) + _shortfalls(work, measured)
    for problem in void:
        progress(f"VOID, this run measured nothing: {problem}")
    for note in notes:
        progress(note)
    result = {
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
        "worst_ticks": relay["worst_ticks"],
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
    if work.busy:
        result |= {"busy": relay["busy"], "idle": _idle(measured.relay[0], measured.load[0])}
    return result


def _idle(relay: Result, load: Result) -> Result:
    """What the same legs had before, while nothing came and went beside them."""
    names = ("cpu_ms_per_leg_second", "tick_late_ms", "tick_ms", "missed_ticks", "worst_ticks", "others_on_core")
    return {
        "delivered_ratio": round(load["received"] / max(load["sent"], 1), 6),
        "content_ok_legs": load["content_ok_legs"],
        "mouth_to_ear_ms": load["mouth_to_ear_ms"],
        **{name: relay[name] for name in names},
    }


def _yardstick(work: Work, progress: Progress) -> float:
    progress("yardstick: bare receive, unprotect, protect and send of as many packets")
    with ExitStack() as stack:
        process = BenchProcess("relay.bench.yardstick", work.relay_core, progress)
        stack.callback(process.stop)
        process.say({"work": work.to_json()})
        return float(process.hear("result"))


@dataclass(frozen=True, slots=True)
class Measured:
    """What each process found, by window."""

    relay: list[Result]
    load: list[Result]
    bustle: Result
    """What went wrong with what came and went; empty if nothing did."""


def _measured(work: Work, progress: Progress) -> Measured:
    with ExitStack() as stack:
        load = _process("relay.bench.telephones", work.load_core, progress, stack)
        relay = _process("relay.bench.relay_process", work.relay_core, progress, stack)
        for process in (load, relay):
            process.say({"work": work.to_json()})
        addresses = load.hear("addresses")
        load.hear("prepared")
        relay.say({"open": addresses})
        address = relay.hear("relay")
        bustle = None
        if work.busy:
            bustle = _process("relay.bench.bustle", work.load_core, progress, stack)
            bustle.say({"where": relay.hear("where")})
            bustle.hear("prepared")
        load.say({"relay": address})
        measured = Measured([], [], {})
        for number in range(work.windows):
            if number and bustle is not None:
                bustle.say({"begin": True})
            _window(work, relay, load, progress, measured)
        if bustle is not None:
            bustle.say({"end": True})
            measured.bustle.update(bustle.hear("result"))
        relay.say({"close": True})
        measured.relay[-1].update(relay.hear("closed"))
        return measured


def _process(module: str, core: int, progress: Progress, stack: ExitStack) -> BenchProcess:
    process = BenchProcess(module, core, progress)
    stack.callback(process.stop)
    return process


def _window(work: Work, relay: BenchProcess, load: BenchProcess, progress: Progress, measured: Measured) -> None:
    for edge in ("begin", "end"):
        load.hear("window")
        progress(f"{work.legs} legs, {work.seconds:g} s: {edge}")
        relay.say({"window": edge})
    measured.relay.append(relay.hear("result"))
    measured.load.append(load.hear("result"))


def _shortfalls(work: Work, measured: Measured) -> list[str]:
    """What was not done of what should keep the control plane busy."""
    if not work.busy:
        return []
    found: list[str] = []
    done, bustle = measured.relay[-1]["busy"], measured.bustle
    wanted = SETUPS_A_SECOND * work.seconds
    if done["setups"] < SETUPS_MIN * wanted or done["dtls_setups"] < SETUPS_MIN * wanted / 2:
        found.append(f"{done['setups']} of {wanted:g} set-ups were made, {done['dtls_setups']} of them DTLS")
    whose = ("calls", "softphones", "log-ins")
    for name, left_out, failed in zip(whose, bustle["left_out"], bustle["failed"], strict=True):
        if left_out or failed:
            found.append(f"{name}: {left_out} could not begin, {failed} failed")
    if bustle["problem"]:
        found.append(f"a softphone: {bustle['problem']}")
    return found


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


def _notes(relay: Result, load: Result) -> list[str]:
    """What whoever reads the figures must know."""
    found = [f"the plane refused: {what}" for what in relay["refusals"]]
    found += relay["notices"] + relay["recording_problems"]
    if load["refused"]:
        found.append(f"{load['refused']} packets did not authenticate, or were not what was negotiated")
    if relay["dropped"]:
        found.append(f"{relay['dropped']} datagrams found the relay's buffers full: raise net.core.rmem_max")
    if relay["others_on_core"] > OTHERS_ON_CORE_MAX:
        share = f"{relay['others_on_core']:.0%}"
        found.append(f"other programs had {share} of the relay's core: lateness is theirs, too")
    return found
