"""The project's own source, for the tests in this folder; run as a program it prints ARCHITECTURE.md's table of modules."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("relay", "signaling", "mixer", "recorder")


@dataclass(frozen=True, slots=True)
class Module:
    """One file of a package."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.path)

    @property
    def sentence(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @property
    def is_shell(self) -> bool:
        return self.name in shells()


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the four packages, packages themselves included."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return tuple(found)


@cache
def shells() -> frozenset[str]:
    """The modules that may touch the world, from the import contract that names them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if "shells" in one["name"])
    named = {rule.partition(" ->")[0] for rule in contract["ignore_imports"]}
    names: set[str] = set()
    for pattern in named:
        folder = pattern.removesuffix(".**")
        names |= {one.name for one in modules() if one.name == folder or one.name.startswith(f"{folder}.")}
    return frozenset(names)


@cache
def tracked() -> tuple[Path, ...]:
    """Every file under version control; without git, every file that is not hidden."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts)]
    return tuple(path for path in paths if path.is_file())


def table() -> str:
    """Every module with its sentence; a star marks a shell."""
    rows = [
        f"| `{one.name}`{' *' if one.is_shell else ''} | {one.sentence} |"
        for one in modules()
        if one.path.name != "__init__.py"
    ]
    return "\n".join(["| module | |", "|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(table())
