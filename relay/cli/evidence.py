"""`koppel recordings`, `koppel export` and `koppel verify`: what was recorded, and whether it is whole."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(application: typer.Typer) -> None:
    """Add the commands."""
