"""`koppel serve` and `koppel demo`: the relay itself."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.options import ConfigFile, DataDir, Json, effective
from relay.errors import OperatorError

__all__ = ["register"]


def register(application: typer.Typer) -> None:
    """Add the commands."""
    application.command(epilog="Example: koppel serve --demo --data-dir /var/lib/koppel")(serve)
    application.command(epilog="Example: koppel demo --headless --json")(demo)


def serve(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    demo: Annotated[bool, typer.Option("--demo", help="Let a demo customer ring a demo agent.")] = False,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Write addresses to this file (0600) once all is up.")
    ] = None,
) -> None:
    """Run the relay until Ctrl-C or SIGTERM."""
    loaded = effective(config_file, data_dir)
    from relay import server  # noqa: PLC0415 - after the settings: a wrong one is told at once

    raise typer.Exit(server.serve(loaded.settings, demo=demo, ready_file=ready_file))


def demo(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    headless: Annotated[bool, typer.Option("--headless", help="Without a browser: an agent made of code.")] = False,
    json: Json = False,
) -> None:
    """Make one whole call, from a customer's ring to the proof of its recording, and say what was heard."""
    if not headless:
        raise OperatorError("only the headless demo runs by itself: add --headless, or try  koppel serve --demo")
    loaded = effective(config_file, data_dir or _folder_of_its_own())
    from relay.demo import headless as headless_demo  # noqa: PLC0415 - see relay.cli.application

    raise typer.Exit(headless_demo.run(loaded.settings, config_file=config_file, as_json=json))


def _folder_of_its_own() -> Path | None:
    """A demo does not touch a real instance unless told to; its folder stays, for its recording lies in it."""
    return None if "KOPPEL_DATA_DIR" in os.environ else Path(tempfile.mkdtemp(prefix="koppel-demo-"))
