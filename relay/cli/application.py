"""All commands under one roof, and what becomes of their errors.

Commands import what they need when they run: `koppel verify` must not wait for the media stack.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from relay.cli import benching, evidence, serving, settings, users
from relay.cli.options import COULD_NOT
from relay.errors import RelayError

__all__ = ["application", "run"]

application = typer.Typer(
    name="koppel",
    help="A telephony media relay whose recordings prove themselves.",
    epilog="Example: koppel serve --demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serving, evidence, settings, users, benching):
    module.register(application)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; whatever goes wrong is a sentence that says what to do, not a traceback."""
    os.umask(0o077)  # nothing that a command writes is for others
    # The tick multiplies many small matrices: threads of a linear algebra library only get in its way. numpy reads this
    # when it is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        application(given)  # answers wrong usage by itself, with exit code 2
    except Exception as error:  # noqa: BLE001 - the outermost frame: nobody else can answer for it
        sys.exit(_could_not(error, as_json="--json" in given))
    sys.exit(0)


def _could_not(error: Exception, *, as_json: bool) -> int:
    said = str(error) or type(error).__name__
    if _is_ours(error):
        print(f"koppel: {said}", file=sys.stderr)
    else:
        traceback.print_exception(error)
        print("koppel: this is a defect of Koppel; please report it with the lines above", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": said}))
    return COULD_NOT


def _is_ours(error: Exception) -> bool:
    """Whether the error was raised on purpose, by any of the four packages: then its message says all there is."""
    if isinstance(error, RelayError | OSError):
        return True
    return any(base.__name__ in {"SignalingError", "RecorderError", "MixerError"} for base in type(error).__mro__)
