"""Where settings come from: defaults, one TOML file, the environment, the command line, each overriding the former.

A wrong setting is an `OperatorError` that names the source, the key, what is allowed there and, for an unknown key, the
nearest one. Values of text settings are never quoted: they may be secrets under a misspelt name.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from relay.config import Settings
from relay.errors import OperatorError

__all__ = ["CONFIG_FILE_NAME", "Loaded", "default_data_dir", "load", "origin_of", "validated"]

CONFIG_FILE_NAME = "koppel.toml"
CONFIG_BYTES_MAX = 1_048_576
PREFIX = "KOPPEL_"
NOT_SETTINGS = frozenset({"KOPPEL_CONFIG", "KOPPEL_REQUIRE_ALL"})
"""Environment variables with our prefix that are not settings: the configuration file, and the test suite's switch."""

_PYDANTIC_SUBJECT = re.compile(r"^(Input|String|Tuple) should ")

Table = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings, and which source each one that is not a default came from, by dotted name."""

    settings: Settings
    origins: dict[str, str]
    config_file: Path | None


def load(*, config_file: Path | None = None, data_dir: Path | None = None) -> Loaded:
    """Read file and environment; `config_file` and `data_dir` are what the command line says, if it does."""
    named = config_file or _path_from_environment("KOPPEL_CONFIG")
    chosen_dir = data_dir or _path_from_environment("KOPPEL_DATA_DIR")
    found = named or _file_in(chosen_dir or default_data_dir())
    tables = list(_environment())
    if found is not None:
        table = _read_toml(found)
        _refuse_open_secrets(found, table)
        tables.insert(0, (str(found), table))
    if data_dir is not None:
        tables.append(("--data-dir", {"data_dir": str(data_dir)}))
    merged: Table = {"data_dir": str(default_data_dir())}
    origins: dict[str, str] = {}
    for origin, part in tables:
        _merge(merged, part)
        origins.update(dict.fromkeys(_dotted(part), origin))
    settings = validated(merged, origins)
    settings = settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
    return Loaded(settings, origins, found)


def default_data_dir() -> Path:
    """`koppel` in the user's data folder (XDG base directory specification)."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".local/share") / "koppel"


def _path_from_environment(name: str) -> Path | None:
    value = os.environ.get(name, "")
    return Path(value).expanduser() if value else None


def _file_in(folder: Path) -> Path | None:
    file = folder / CONFIG_FILE_NAME
    return file if file.exists() else None


def _read_toml(file: Path) -> Table:
    try:
        with file.open("rb") as stream:
            data = stream.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise OperatorError(f"{file}: larger than {CONFIG_BYTES_MAX} bytes; this is not a Koppel configuration")
        return tomllib.loads(data.decode())
    except FileNotFoundError:
        raise OperatorError(f"{file}: there is no such configuration file") from None
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise OperatorError(f"{file}: not UTF-8 text, which TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{file}: not valid TOML: {error}") from None


def _refuse_open_secrets(file: Path, table: Table) -> None:
    """Group access stays the operator's choice: a service's configuration is often root's, with its group."""
    if file.stat().st_mode & stat.S_IROTH and any(_leaf(name) in _secret_names() for name in _dotted(table)):
        raise OperatorError(f"{file} holds secrets but everybody may read it: run  chmod o-r {file}")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _secret_names(section: type[BaseModel] = Settings) -> frozenset[str]:
    """Names of settings that are secrets, wherever they stand."""
    names: set[str] = set()
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None:
            names |= _secret_names(inner)
        elif SecretStr in (field.annotation, *get_args(field.annotation)):
            names.add(name)
    return frozenset(names)


def _environment() -> Iterator[tuple[str, Table]]:
    """One table for each variable, so that an error can name it."""
    known = Settings.model_fields
    for variable in sorted(os.environ):
        if not variable.upper().startswith(PREFIX) or variable.upper() in NOT_SETTINGS:
            continue
        section = variable[len(PREFIX) :].lower().split("__")[0]
        if section not in known:
            nearest = _nearest(section, known)
            hint = f"; did you mean {PREFIX}{nearest.upper()}…?" if nearest else ""
            raise OperatorError(f"environment {variable}: there is no such setting{hint}")
    try:
        table = EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise OperatorError(f"environment: {error}; lists and tables are written as JSON") from None
    yield from _each_variable(table, ())


def _each_variable(table: Table, above: tuple[str, ...]) -> Iterator[tuple[str, Table]]:
    for key, value in table.items():
        place = (*above, key)
        if isinstance(value, dict):
            yield from _each_variable(cast("Table", value), place)
        else:
            nested: Any = value
            for name in reversed(place):
                nested = {name: nested}
            yield "environment " + PREFIX + "__".join(place).upper(), nested


def _merge(into: Table, table: Table) -> None:
    for key, value in table.items():
        held = into.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            _merge(cast("Table", held), cast("Table", value))
        else:
            into[key] = value


def _dotted(value: object, above: str = "") -> Iterator[str]:
    """Names of all leaves: `sip.port`, `trunks[0].name`."""
    if isinstance(value, dict) and value:
        for key, inner in cast("Table", value).items():
            yield from _dotted(inner, f"{above}.{key}" if above else key)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _dotted(inner, f"{above}[{index}]")
    else:
        yield above


def validated(table: Table, origins: Mapping[str, str]) -> Settings:
    """The settings of a merged table; raises `OperatorError` with a line for each wrong one."""
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(cast("Table", found), origins) for found in error.errors(include_url=False))
        raise OperatorError("\n".join(lines)) from None


def _explain(error: Table, origins: Mapping[str, str]) -> str:
    """One line for one of pydantic's findings."""
    place: Place = error["loc"]
    name = _name(place)
    source = origin_of(name, origins)
    origin = f"{source}: " if source else ""
    if error["type"] == "extra_forbidden":
        nearest = _nearest(str(place[-1]), _fields_at(place[:-1]))
        hint = f"; did you mean {_name((*place[:-1], nearest))}?" if nearest else ""
        return f"{origin}{name}: there is no such setting{hint}"
    message = _PYDANTIC_SUBJECT.sub("must ", str(error["msg"]).removeprefix("Value error, "))
    value = error["input"]
    shown = f" = {value}" if isinstance(value, int | float) else ""
    return f"{origin}{name}{shown}: {message}" if name else f"{origin}{message}"


def _name(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def origin_of(name: str, origins: Mapping[str, str]) -> str | None:
    """Which source set `name`, a part of it, or the table that it is in; None: nobody, it is a default."""
    for known, origin in origins.items():
        if known and (_within(known, name) or _within(name, known)):
            return origin
    return None


def _within(name: str, table: str) -> bool:
    return name == table or name.startswith((f"{table}.", f"{table}["))


def _nearest(word: str, candidates: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return found[0] if found else None


def _fields_at(place: Place) -> list[str]:
    """The settings of the section at `place`."""
    section: type[BaseModel] = Settings
    for part in place:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_in(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section_in(annotation: object) -> type[BaseModel] | None:
    """The section class in `annotation`: itself, or inside a tuple or an optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)
