from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.audit import GENESIS, AuditEntry, Chain, append, check
from signaling.errors import LocalError

EMPTY = Chain("account", "instance")


def log(count: int) -> tuple[list[AuditEntry], Chain]:
    chain, entries = EMPTY, []
    for number in range(count):
        entry, chain = append(
            chain,
            f"user:u{number}",
            "recording.played",
            "contact:c1",
            wall=1_700_000_000.5 + number,
            details={"n": str(number)},
        )
        entries.append(entry)
    return entries, chain


def test_an_entry_says_who_did_what_when() -> None:
    (entry,), chain = log(1)
    assert entry.canonical() == (
        b'{"account_id":"account","action":"recording.played","actor":"user:u0","at":"2023-11-14T22:13:20.500+00:00",'
        b'"details":{"n":"0"},"instance_id":"instance","previous":"' + GENESIS.encode() + b'","sequence":0,'
        b'"subject":"contact:c1"}'
    )
    assert (chain.length, chain.head) == (1, entry.digest)
    assert entry.digest == hashlib.sha256(entry.canonical()).hexdigest()


def test_a_whole_log_has_no_findings() -> None:
    entries, chain = log(20)
    assert check(entries, chain) == []
    assert check([], EMPTY) == []


@pytest.mark.parametrize("cut", [0, 7, 19])
def test_a_removed_entry_is_found(cut: int) -> None:
    entries, chain = log(20)
    assert check(entries[:cut] + entries[cut + 1 :], chain) != []


def test_swapped_and_repeated_entries_are_found() -> None:
    entries, chain = log(5)
    entries[1], entries[2] = entries[2], entries[1]
    assert {finding.sequence for finding in check(entries, chain)} >= {1, 2}
    entries, chain = log(5)
    assert check([*entries, entries[-1]], chain) != []


@given(
    st.integers(0, 4),
    st.sampled_from(["at", "account_id", "instance_id", "actor", "action", "subject", "previous", "digest"]),
)
def test_any_changed_text_is_found(number: int, field: str) -> None:
    entries, chain = log(5)
    entries[number] = replace(entries[number], **{field: getattr(entries[number], field) + "x"})
    assert any(finding.sequence in {number, number + 1, 5} for finding in check(entries, chain))
    assert check(entries, chain)


def test_changed_details_and_numbers_are_found() -> None:
    entries, chain = log(3)
    for forged in (replace(entries[1], details={"n": "9"}), replace(entries[1], sequence=9)):
        findings = check([entries[0], forged, entries[2]], chain)
        assert any("content was changed" in finding.what for finding in findings)


def test_a_rewritten_tail_is_found_by_the_head() -> None:
    """Who can rewrite entries can rewrite the hashes that follow: the head kept elsewhere tells."""
    entries, chain = log(3)
    forged, shorter = append(
        Chain("account", "instance", 2, entries[1].digest), "user:x", "nothing", "contact:c1", wall=0
    )
    assert check([*entries[:2], forged], shorter) == []
    (finding,) = check([*entries[:2], forged], chain)
    assert (finding.sequence, finding.what) == (3, "the log does not end where it must")


def test_an_entry_of_another_instance_is_found() -> None:
    entry, chain = append(Chain("account", "other"), "system", "x", "y", wall=0)
    findings = check([entry], Chain("account", "instance", chain.length, chain.head))
    assert [finding.what for finding in findings] == ["belongs to another instance"]


def test_entries_are_bounded() -> None:
    with pytest.raises(LocalError):
        append(EMPTY, "a" * 257, "b", "c", wall=0)
    with pytest.raises(LocalError):
        append(EMPTY, "a", "b", "c", wall=0, details={str(n): "" for n in range(17)})


def test_details_cannot_be_changed_afterwards() -> None:
    (entry,), _ = log(1)
    with pytest.raises(TypeError):
        entry.details["n"] = "1"  # type: ignore[index]
