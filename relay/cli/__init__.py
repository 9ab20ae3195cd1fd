"""The command line `koppel`: each command is a thin layer over what the packages offer."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run one command and leave with its exit code: 0 done, 1 the answer is no, 2 could not."""
    # Imported here, so that `import relay.cli` costs nothing to whoever only wants a submodule.
    from relay.cli.application import run  # noqa: PLC0415

    run()
