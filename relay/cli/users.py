"""`koppel users`: who may log in, and as what."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(application: typer.Typer) -> None:
    """Add the commands."""
