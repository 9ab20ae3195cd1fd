"""Every module is one thing, small, and says in a sentence what it is."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from tests.tidy.source import ROOT, Module, modules

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

every_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)


@every_module
def test_the_first_line_is_a_sentence(module: Module) -> None:
    assert re.fullmatch(r"\S.*[^.]\.", module.sentence), f"{module.path}: docstring begins with {module.sentence!r}"


@every_module
def test_it_is_small(module: Module) -> None:
    assert module.text.count("\n") <= MODULE_LINES_MAX
    assert [f"{name}: {lines} lines" for name, lines in functions(module.tree) if lines > FUNCTION_LINES_MAX] == []


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and length of every function, its docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            counted = (first.end_lineno or 0) - first.lineno + 1 if docstring else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - counted


@every_module
def test_what_it_exports_is_there(module: Module) -> None:
    if module.name.startswith("signaling.migrations"):
        return  # alembic runs these, in a context of its own
    loaded = importlib.import_module(module.name)
    assert [name for name in getattr(loaded, "__all__", []) if not hasattr(loaded, name)] == []


WORLD_CALLS = frozenset({"open", "input", "print", "exec", "eval", "breakpoint"})
WORLD_METHODS = frozenset(
    {
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
        "unlink",
        "mkdir",
        "iterdir",
        "touch",
        "now",
        "utcnow",
        "today",
    }
)
WORLD_FUNCTIONS = frozenset({"uuid.uuid1", "uuid.uuid4", "random.random", "random.randrange", "random.randint"})


@every_module
def test_cores_do_not_touch_the_world(module: Module) -> None:
    """What import-linter cannot see: files, clocks and randomness behind harmless imports."""
    if module.is_shell or module.name in READ_PACKAGED_FILES:
        return
    touched = [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _touches_the_world(node.func)
    ]
    assert touched == []


READ_PACKAGED_FILES = {"relay.codecs.libopus"}
"""Looks for the shared library that comes with the av wheel."""


def _touches_the_world(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id in WORLD_CALLS
    if isinstance(called, ast.Attribute):
        return called.attr in WORLD_METHODS or ast.unparse(called) in WORLD_FUNCTIONS
    return False


STANDARD_LIBRARY_OF_THE_MIXER = {"__future__", "collections", "dataclasses", "enum", "functools", "math", "typing"}


@pytest.mark.parametrize("module", [one for one in modules() if one.name.startswith("mixer")], ids=lambda one: one.name)
def test_the_mixer_is_numpy_and_nothing_else(module: Module) -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.walk(module.tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= {"mixer", "numpy"} | STANDARD_LIBRARY_OF_THE_MIXER


def test_every_module_has_its_test_folder() -> None:
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} >= {
        "relay",
        "signaling",
        "mixer",
        "recorder",
    }
