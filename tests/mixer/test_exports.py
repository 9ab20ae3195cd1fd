import ast
from pathlib import Path

import mixer


def test_every_name_is_there():
    assert [name for name in mixer.__all__ if not hasattr(mixer, name)] == []


def test_the_mixer_is_numpy_and_plain_values():
    allowed = {"numpy", "mixer", "__future__", "collections", "dataclasses", "enum", "math", "typing"}
    for module in Path(mixer.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, module.name
