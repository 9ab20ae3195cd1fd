"""`koppel bench`: how many legs this machine carries, and what each costs, with the content of every stream checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from relay.cli.options import Json, print_json, print_table
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
    json: Json = False,
) -> None:
    """Measure CPU time, lateness and delay of a relay on one core, under telephones on another.

    Every leg says a tone of its own and must hear exactly the others, or the music of its queue, all the time. Needs
    Linux and two cores; the figures are those of this machine in this minute: compare them with the yardstick beside
    them. A run of which the load was the bottleneck is void, and says so.
    """
    if (conference is not None) + pairs + queue != 1:
        raise OperatorError("say one of --conference N, --pairs and --queue")
    from relay.bench import plot as drawing  # noqa: PLC0415 - see relay.cli.application
    from relay.bench.run import DISTRIBUTIONS, Bench  # noqa: PLC0415

    if plot is not None:
        drawing.check(plot)
    work = Bench(
        conference=1 if queue else conference or 2,
        codec=codec,
        queue=queue,
        srtp=srtp,
        record=record,
        busy=busy,
        seconds=seconds,
    )
    result = work.find_max(legs, _progress) if find_max else work.run(legs, _progress)
    distributions = result.pop(DISTRIBUTIONS)
    if plot is not None:
        drawing.draw(result, distributions, plot)
    if json:
        print_json(result)
    else:
        print_table(["figure", "value"], [(name, _shown(value)) for name, value in result.items()])


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in cast("dict[str, object]", value).items())
    return str(value)


def _progress(said: str) -> None:
    print(said, file=sys.stderr, flush=True)
