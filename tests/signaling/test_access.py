from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.access import PERMISSIONS, Permission, Role, Token, hash_secret_of, may, mint, parse, parse_user_name
from signaling.errors import RemoteError

SEEDED = random.Random(1).randbytes


def test_a_token_is_what_it_reveals() -> None:
    token = mint(SEEDED)
    assert parse(token.reveal()) == token
    assert len(token.secret) == 32
    assert token.reveal().startswith(f"kpl_{token.token_id}_")


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_every_token_is_read_back(token_id: bytes, secret: bytes) -> None:
    token = Token(token_id.hex(), secret)
    assert parse(token.reveal()) == token


def test_a_token_does_not_show_its_secret() -> None:
    token = mint(SEEDED)
    assert token.reveal()[21:] not in f"{token} {token!r}"


def test_only_the_true_secret_matches_its_hash() -> None:
    token = mint(os.urandom)
    hashed = hash_secret_of(token, os.urandom)
    assert hashed.startswith("$argon2id$")
    assert token.matches(hashed)
    assert not Token(token.token_id, mint(os.urandom).secret).matches(hashed)
    assert hashed != hash_secret_of(token, os.urandom)


@pytest.mark.parametrize(
    "damaged", ["", "x", "$argon2id$v=19$m=1024,t=1,p=1$!$!", "$argon2i$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWE", "ü"]
)
def test_a_damaged_hash_matches_nothing(damaged: str) -> None:
    assert not mint(os.urandom).matches(damaged)


@given(st.text(max_size=200))
def test_whatever_else_is_shown_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(RemoteError) as refused:
        parse(text)
    assert str(refused.value) == "this is not a token of Koppel"
    assert refused.value.sip_status == 403


def test_a_token_has_one_spelling() -> None:
    text = Token("00" * 8, bytes(32)).reveal()
    assert text.endswith("A")
    for wrong in (text[:-1] + "B", text + "=", text + "\n", " " + text, text.upper()):
        with pytest.raises(RemoteError):
            parse(wrong)


def test_each_role_may_all_that_the_one_below_may() -> None:
    assert PERMISSIONS[Role.AGENT] < PERMISSIONS[Role.SUPERVISOR] < PERMISSIONS[Role.ADMIN]
    assert PERMISSIONS[Role.ADMIN] == frozenset(Permission)


@pytest.mark.parametrize(
    ("role", "permission", "allowed"),
    [
        (Role.AGENT, Permission.TAKE_CONTACTS, True),
        (Role.AGENT, Permission.PLAY_RECORDINGS, False),
        (Role.AGENT, Permission.MONITOR_CONTACTS, False),
        (Role.SUPERVISOR, Permission.MONITOR_CONTACTS, True),
        (Role.SUPERVISOR, Permission.PLAY_RECORDINGS, True),
        (Role.SUPERVISOR, Permission.MANAGE_USERS, False),
        (Role.SUPERVISOR, Permission.READ_AUDIT, False),
        (Role.ADMIN, Permission.MANAGE_INSTANCE, True),
    ],
)
def test_who_may_what(role: Role, permission: Permission, allowed: bool) -> None:
    assert may(role, permission) is allowed


def test_profiles_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PERMISSIONS[Role.AGENT] = frozenset(Permission)  # type: ignore[index]


@pytest.mark.parametrize("name", ["anna", "a", "b.c-d_9", "x" * 64])
def test_plain_names_are_taken(name: str) -> None:
    assert parse_user_name(name) == name


@pytest.mark.parametrize("name", ["", "Anna", "anna müller", "-a", "a" * 65, "a\n", "a:b", "../a"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(RemoteError, match="at most 64"):
        parse_user_name(name)
