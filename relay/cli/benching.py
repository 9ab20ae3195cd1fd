"""`koppel bench`: how many legs this machine carries, and what each costs, with the content of every stream checked."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from relay.cli.options import NO, DataDir, Json, print_json, print_table
from relay.errors import OperatorError

__all__ = ["register"]

BenchCodec = Literal["pcmu", "pcma", "opus", "opus+pcmu"]


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command(epilog="Example: koppel bench --conference 3 --legs 300 --codec pcmu --srtp --json")(bench)


def bench(  # noqa: PLR0913, PLR0917 - the options of the contract
    legs: Annotated[int, typer.Option("--legs", help="Media legs.", show_default=False)],
    conference: Annotated[
        int | None, typer.Option("--conference", metavar="N", help="Mix conferences of N legs.", show_default=False)
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Calls of two legs.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Callers who wait and hear music, each alone.")] = False,
    codec: Annotated[
        BenchCodec,
        typer.Option("--codec", help="What all legs speak; opus+pcmu: the first of each call Opus, the others G.711."),
    ] = "pcmu",
    srtp: Annotated[bool, typer.Option("--srtp/--no-srtp", help="Encrypt, as AES_CM_128_HMAC_SHA1_80.")] = True,
    record: Annotated[bool, typer.Option("--record", help="Record both directions of every leg, sealed.")] = False,
    busy: Annotated[
        bool,
        typer.Option(
            "--busy",
            help="Measure idle, then beside 20 set-ups a second (half DTLS), log-ins, full log, slow store.",
        ),
    ] = False,
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Begin with --legs and find the largest number that goes well.")
    ] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="How long is measured, after a warm-up of 2 s.")] = 10.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="OUT.png", help="Draw the result.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure CPU time, lateness and delay of a relay on one core, under telephones on another.

    Every leg says a tone of its own and must hear exactly the others, or the music of its queue, all the time. Needs
    Linux and two cores; the figures are those of this machine in this minute: compare them with the yardstick beside
    them. A run of which the load was the bottleneck is void, and says so. The relay of a benchmark has a data directory
    of its own for as long as it runs, within --data-dir (else among the system's temporary files): its recordings go to
    that disk. Exit code 1: somebody did not hear what he should.
    """
    if (conference is not None) + pairs + queue != 1:
        raise OperatorError("say one of --conference N, --pairs and --queue")
    _end_in_order()
    _within(data_dir)
    from relay.bench import plot as drawing  # noqa: PLC0415 - see relay.cli.application
    from relay.bench.run import DISTRIBUTIONS, Bench  # noqa: PLC0415

    if plot is not None:
        drawing.check(plot)
    work = Bench(
        conference=1 if queue else 2 if conference is None else conference,
        codec=codec,
        queue=queue,
        srtp=srtp,
        record=record,
        busy=busy,
        seconds=seconds,
    )
    try:
        result = work.find_max(legs, _progress) if find_max else work.run(legs, _progress)
    except KeyboardInterrupt:
        _progress("interrupted")
        raise typer.Exit(128 + signal.SIGINT) from None
    distributions = result.pop(DISTRIBUTIONS)
    if plot is not None:
        drawing.draw(result, distributions, plot)
    _print(result, as_json=json)
    if result["content_ok_legs"] < result["legs"] and not result["void"]:
        raise typer.Exit(NO)


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        print_table(["figure", "value"], [(name, _shown(value)) for name, value in _readable(result).items()])


def _within(data_dir: Path | None) -> None:
    """The data directories of the benchmark's relays are made there."""
    if data_dir is not None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["TMPDIR"] = str(data_dir.absolute())


def _end_in_order() -> None:
    """SIGTERM ends the benchmark as an error does: its processes with it, and their files."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """What fits a table; the profiles of the worst ticks do not."""
    worst = result["worst_ticks"]
    shown = {"void": "; ".join(result["void"]) or "no", **{name: result[name] for name in result if name != "void"}}
    shown["notes"] = "; ".join(result["notes"]) or "none"
    shown["worst_ticks"] = f"{len(worst)} in --json, the latest ended {_worst_ms(worst):g} ms after it was due"
    if "idle" in result:
        shown["idle"] = {name: value for name, value in result["idle"].items() if name != "worst_ticks"}
    return shown


def _worst_ms(worst: list[dict[str, Any]]) -> float:
    return round(max((each["late_ms"] + each["tick_ms"] for each in worst), default=0.0), 1)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in cast("dict[str, object]", value).items())
    return str(value)


def _progress(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
