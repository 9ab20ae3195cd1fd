"""`koppel config`: the effective settings, without secrets."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli.options import ConfigFile, DataDir, Json, effective, print_json, print_table

__all__ = ["register"]


def register(application: typer.Typer) -> None:
    """Add the command."""
    application.command(epilog="Example: koppel config --json")(config)


def config(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
    reference: Annotated[bool, typer.Option("--reference", help="Explain all settings, in Markdown.")] = False,
) -> None:
    """Print the effective settings and where each came from; secrets are shown as set, never as they are."""
    from relay import config_view  # noqa: PLC0415 - see relay.cli.application

    if reference:
        print(config_view.reference(), end="")
        return
    loaded = effective(config_file, data_dir)
    if json:
        print_json(
            {
                "config_file": str(loaded.config_file) if loaded.config_file else None,
                "settings": config_view.without_secrets(loaded.settings),
                "origins": loaded.origins,
            }
        )
        return
    rows = config_view.rows(loaded)
    print_table(["setting", "value", "from"], rows)
