"""Reads the torture messages of RFC 4475 from tests/vectors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[2] / "vectors" / "rfc4475.txt"


@dataclass(frozen=True)
class Vector:
    name: str
    section: str
    expected: str
    data: bytes


def vectors() -> list[Vector]:
    text = FILE.read_text(encoding="ascii").removesuffix("\n")
    found = []
    for part in text.split("\n### ")[1:]:
        head, _, message = part.partition("\n")
        name, section, expected = head.split(" ")
        data = f"{message}\n".replace("\n", "\r\n").encode("ascii")
        data = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), data)
        found.append(Vector(name, section, expected, data))
    return found


def vector(name: str) -> Vector:
    return next(each for each in vectors() if each.name == name)
