"""A contact's events as canonical JSON, the form in which recordings and the database keep the log.

An entry is one JSON object: `version`, `type` (the event's name), and the event's fields. Canonical means: keys sorted,
no white space, ASCII only, numbers as Python's `repr` writes them. `decode` takes nothing else, so that an event has
exactly one spelling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Literal, TypeAlias, get_args, get_origin, get_type_hints

from signaling.contact.events import ContactEvent
from signaling.errors import LocalError, RemoteError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

VERSION = 1
ENTRY_BYTES_MAX = 1_048_576
"""What `decode` looks at; events are made of identifiers and two numbers, which signalling bounds."""

_TYPES: dict[str, Callable[..., ContactEvent]] = {each.__name__: each for each in get_args(ContactEvent)}
_HINTS = {each.__name__: get_type_hints(each) for each in get_args(ContactEvent)}


def encode(event: ContactEvent) -> bytes:
    """Write an event; raises `LocalError` where it holds what its type does not allow."""
    name = type(event).__name__
    try:
        values = {key: float(value) if _HINTS[name][key] is float else value for key, value in asdict(event).items()}
        entry = {"version": VERSION, "type": name, **values}
        return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError):
        raise LocalError(f"a {name} for the log holds a value that it cannot have") from None


def decode(data: bytes) -> ContactEvent:
    """Read an event; raises `RemoteError` for anything that `encode` does not write."""
    if len(data) > ENTRY_BYTES_MAX:
        raise RemoteError("log entry: too long")
    try:
        entry: Json = json.loads(data)
    except (ValueError, RecursionError):
        raise RemoteError("log entry: not JSON") from None
    if not isinstance(entry, dict) or type(entry.get("version")) is not int or entry.pop("version") != VERSION:
        raise RemoteError("log entry: not an object of a known version")
    event = _event(entry)
    if encode(event) != data:
        raise RemoteError("log entry: not canonical")
    return event


def _event(entry: dict[str, Json]) -> ContactEvent:
    name = entry.pop("type", None)
    if not isinstance(name, str) or name not in _TYPES:
        raise RemoteError("log entry: unknown type")
    hints = _HINTS[name]
    if entry.keys() != hints.keys():
        raise RemoteError(f"log entry: not the fields of {name}")
    return _TYPES[name](**{key: _value(hints[key], value, key) for key, value in entry.items()})


def _value(hint: object, value: Json, key: str) -> object:
    """A field's value if it is of its type; tuples are arrays in JSON."""
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], each, key) for each in value)
    if not _fits(hint, value):
        raise RemoteError(f"log entry: wrong value of {key}")
    return value


def _fits(hint: object, value: Json) -> bool:
    if hint is float:
        return type(value) is float and math.isfinite(value)
    if hint is str:
        return type(value) is str
    if get_origin(hint) is tuple:
        return False
    assert get_origin(hint) is Literal, "events are made of times, names, choices and tuples of choices"
    return type(value) is str and value in get_args(hint)
