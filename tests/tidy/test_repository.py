"""What lies in the repository: no secrets, no blobs, nothing unfinished, and documents that match the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.source import ROOT, modules, shells, table, tracked

FILE_BYTES_MAX = 600_000
TEXT_SUFFIXES = {".py", ".md", ".toml", ".js", ".html", ".css", ".json", ".yml", ".yaml", ".txt", ".sh", ""}
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
SECRETS = [
    re.compile("-----BEGIN [A-Z ]*" + "PRIVATE KEY-----\n[A-Za-z0-9+/]{20}"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"\bghp_[A-Za-z0-9]{36}\b"),
    re.compile(r"\bkpl_[0-9a-f]{16}_(?!(.)\1{20})[A-Za-z0-9_-]{43}\b"),
]
BLOB = re.compile(r"[A-Za-z0-9+/=]{400,}")


def texts() -> list[Path]:
    return [path for path in tracked() if path.suffix in TEXT_SUFFIXES]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_source_to_look_at() -> None:
    assert {"pyproject.toml", "relay/config.py", "tests/tidy/test_repository.py"} <= {name(path) for path in tracked()}


def test_no_file_is_large() -> None:
    assert [name(path) for path in tracked() if path.stat().st_size > FILE_BYTES_MAX] == []


def test_nothing_is_unfinished() -> None:
    found = [f"{name(path)}: {hit[0]}" for path in texts() for hit in UNFINISHED.finditer(path.read_text())]
    assert found == []


def test_no_secret_was_committed() -> None:
    found = [name(path) for path in texts() if any(pattern.search(path.read_text()) for pattern in SECRETS)]
    assert found == []


def test_the_secret_patterns_find_secrets() -> None:
    key = "-----BEGIN PRIVATE" + " KEY-----\n" + "MIGHAgEAMBMGByqGSM49AgEG"
    token = "kpl_" + "00112233aabbccdd_" + "riRiMg7iUcZsbpncABktii5C5XxUo5kNRSuxhfFEep4"
    assert [bool(any(pattern.search(text) for pattern in SECRETS)) for text in (key, token, "AKIA" + "A" * 16)] == [
        True
    ] * 3


def test_no_blob_hides_in_source() -> None:
    assert [name(path) for path in texts() if path.suffix == ".py" and BLOB.search(path.read_text())] == []


def test_scripts_can_be_run() -> None:
    scripts = [path for path in tracked() if path.read_bytes()[:2] == b"#!"]
    assert [name(path) for path in scripts if not path.stat().st_mode & 0o100] == []


def test_every_shell_that_the_contract_names_exists() -> None:
    assert {shell for shell in shells() if shell.partition(".")[0] not in {"relay", "signaling", "recorder"}} == set()


ROW = re.compile(r"^\| `((?:relay|signaling|mixer|recorder)\.[\w.]+)`( \\?\*)? \| (.*?) *\|$", re.MULTILINE)


def test_the_table_of_modules_is_true() -> None:
    """Rows of ARCHITECTURE.md such as "| `relay.server` * | what it is. |", if it has any: all modules and no other."""
    written = {(row[1], bool(row[2]), row[3]) for row in ROW.finditer((ROOT / "ARCHITECTURE.md").read_text())}
    if written:
        true = {(row[1], bool(row[2]), row[3]) for row in ROW.finditer(table())}
        assert written == true, "run: python -m tests.tidy.source, and put it into ARCHITECTURE.md"


def test_the_table_is_made_of_all_modules() -> None:
    rows = {row[1]: bool(row[2]) for row in ROW.finditer(table())}
    assert rows.keys() == {one.name for one in modules() if one.path.name != "__init__.py"}
    assert rows["relay.config"] is False
    assert rows["relay.data_directory"] is True


LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("page", [path for path in texts() if path.suffix == ".md"], ids=name)
def test_links_of_documents_lead_somewhere(page: Path) -> None:
    targets = [hit[1] for hit in LINK.finditer(page.read_text())]
    assert [target for target in targets if not (page.parent / target).exists()] == []
