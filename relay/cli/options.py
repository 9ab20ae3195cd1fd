"""The options that all commands share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from relay.config_sources import Loaded
    from relay.data_directory import DataDirectory

__all__ = ["COULD_NOT", "NO", "ConfigFile", "DataDir", "Json", "effective", "existing", "print_json", "print_table"]

NO = 1
"""Exit code: the answer is no."""
COULD_NOT = 2
"""Exit code: the question could not be answered, or the thing not done."""

PIPE_COLUMNS = 400
"""Width of tables that no terminal shows: wide enough for one line a row."""

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory.", show_default="~/.local/share/koppel")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file.", show_default="koppel.toml in the data directory")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output, and nothing else there.")]


def effective(config_file: Path | None, data_dir: Path | None) -> Loaded:
    """The settings that a command works with."""
    from relay.config_sources import load  # noqa: PLC0415 - pydantic is not needed for --help

    return load(config_file=config_file, data_dir=data_dir)


def existing(loaded: Loaded) -> DataDirectory:
    """The data directory of a relay that has run before."""
    from relay.data_directory import DataDirectory  # noqa: PLC0415

    return DataDirectory.existing(loaded.settings.data_dir)


def print_json(value: object) -> None:
    """The one JSON value of a `--json` command."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The same for people; text from outside is never taken for markup."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)
