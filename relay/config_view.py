"""Settings shown to people: the effective ones without secrets, and the reference of all of them."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast, get_args
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from relay import config as settings_module
from relay.config import Settings
from relay.config_sources import Loaded, origin_of

__all__ = ["Row", "reference", "rows", "without_secrets"]

HIDDEN = "(set)"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the reference."""

    name: str
    default: str
    explanation: str


def without_secrets(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values; a secret that is set reads `(set)`, a URL loses its password."""
    return cast("dict[str, Any]", _shown(settings))


def _shown(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, BaseModel):
        return {name: _shown(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return _shown_secret(value)
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in cast("tuple[object, ...]", value)]
    if isinstance(value, dict):
        return {str(key): _shown(inner) for key, inner in cast("dict[object, object]", value).items()}
    if isinstance(value, str):
        return _without_password(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _shown_secret(value: SecretStr) -> str:
    """A URL that holds a password is worth showing without it."""
    text = value.get_secret_value()
    return _without_password(text) if "://" in text else HIDDEN


def _without_password(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    shown = f"{name}:{HIDDEN}@{host}" if ":" in user else parts.netloc
    return urlunsplit((parts.scheme, shown, parts.path, "", ""))


def rows(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Name, value and origin of every setting."""
    flat = _flat(without_secrets(loaded.settings), "")
    return [(name, _written(value), origin_of(name, loaded.origins) or "default") for name, value in flat]


def _flat(value: object, above: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, object]", value).items():
            yield from _flat(inner, f"{above}.{key}" if above else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in cast("list[object]", value)):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _flat(inner, f"{above}[{index}]")
    else:
        yield above, value


def _written(value: object) -> str:
    """A value as TOML has it; what is not set is a dash."""
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def reference() -> str:
    """All settings with their defaults, as Markdown tables."""
    parts = ["| setting | default | |\n|---|---|---|\n"]
    parts += [f"| `{row.name}` | {row.default} | {row.explanation} |\n" for row in _reference_rows(Settings, "")]
    return "".join(parts)


def _reference_rows(section: type[BaseModel], above: str) -> Iterator[Row]:
    explanations = _attribute_docstrings(section.__name__)
    for name, field in section.model_fields.items():
        inner, suffix = _section_in(field.annotation)
        if inner is None:
            yield Row(above + name, _default(field.get_default(call_default_factory=True)), explanations[name])
        else:
            yield from _reference_rows(inner, f"{above}{name}{suffix}.")


def _section_in(annotation: object) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for inner in get_args(annotation):
        found, _ = _section_in(inner)
        if found is not None:
            return found, "[]" if ... in get_args(annotation) else ""
    return None, ""


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "must be set"
    shown = _shown(value)
    return "unset" if shown is None else f"`{json.dumps(shown)}`"


@cache
def _attribute_docstrings(class_name: str) -> dict[str, str]:
    """The string below each attribute, which Python itself forgets."""
    tree = ast.parse(inspect.getsource(settings_module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    found: dict[str, str] = {}
    for attribute, below in itertools.pairwise(body):
        if isinstance(attribute, ast.AnnAssign) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(attribute.target, ast.Name):
                found[attribute.target.id] = " ".join(str(value.value).split())
    return found
