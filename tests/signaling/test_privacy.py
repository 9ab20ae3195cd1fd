"""Sealed columns, keys with a limited time, search by a keyed hash, and redaction."""

from __future__ import annotations

import hashlib
import hmac
import random
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import LocalError
from signaling.privacy import DATA_KEY_SECONDS, KeyRing, Place, Scope, WrappedKey, plain_number, redacted

SCOPE = Scope("a-1", "i-1")
KEY = bytes(range(32))
HERE = Place("contacts", "customer_number", "c-1")
NUMBER = "+4930123456"


def ring(seed=1, scope=SCOPE, key=KEY, **limits):
    return KeyRing(scope, key, entropy=random.Random(seed).randbytes, **limits)


def ready(seed=1, **options):
    made = ring(seed, **options)
    return made, made.missing(0.0)


def test_a_value_opens_where_it_was_sealed():
    keys, _ = ready()
    sealed = keys.seal(NUMBER, HERE)
    assert keys.opened_text(sealed, HERE) == NUMBER
    assert NUMBER.encode() not in sealed
    assert keys.seal(NUMBER, HERE) != sealed, "each has a nonce of its own"
    assert keys.opened(keys.seal(b"\xff\x00", HERE), HERE) == b"\xff\x00"


def test_the_documented_layout_is_what_a_second_implementation_needs():
    keys, made = ready()
    data = next(key for key in made if key.purpose == "data")
    lengths = b"".join(
        len(p).to_bytes(4, "big") + p for p in (b"koppel key v1", b"a-1", b"i-1", b"data", data.key_id.encode())
    )
    secret = AESGCM(KEY).decrypt(data.wrapped[:12], data.wrapped[12:], lengths)
    sealed = keys.seal(NUMBER, HERE)
    assert sealed[:17] == b"\x01" + bytes.fromhex(data.key_id)
    parts = (b"koppel value v1", b"a-1", b"i-1", b"contacts", b"customer_number", b"c-1")
    bound = sealed[:29] + b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    assert AESGCM(secret).decrypt(sealed[17:29], sealed[29:], bound) == NUMBER.encode()


@pytest.mark.parametrize(
    "elsewhere",
    [replace(HERE, row="c-2"), replace(HERE, column="system_number"), replace(HERE, table="contact_events")],
)
def test_a_value_moved_to_another_place_does_not_open(elsewhere):
    keys, _ = ready()
    with pytest.raises(LocalError, match="changed or belongs elsewhere"):
        keys.opened(keys.seal(NUMBER, HERE), elsewhere)


def test_a_value_of_another_instance_does_not_open_even_with_its_key():
    keys, made = ready()
    sealed = keys.seal(NUMBER, HERE)
    other = ring(scope=Scope("a-1", "i-2"))
    with pytest.raises(LocalError, match="not the instance key"):
        other.load(made)
    other.missing(0.0)
    with pytest.raises(LocalError, match="changed or belongs elsewhere"):
        other.opened(sealed, HERE)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_found(position, change):
    keys, _ = ready()
    sealed = bytearray(keys.seal(NUMBER, HERE))
    sealed[position % len(sealed)] ^= change
    try:
        assert keys.opened(bytes(sealed), HERE) is None  # the key id names no key of ours
        assert 1 <= position % len(sealed) < 17
    except LocalError:
        assert not 1 <= position % len(sealed) < 17


@pytest.mark.parametrize("noise", [b"", b"\x01", b"\x02" * 60, b"\x01" * 44])
def test_noise_is_not_a_sealed_value(noise):
    keys, _ = ready()
    with pytest.raises(LocalError, match="not a sealed value"):
        keys.opened(noise, HERE)


def test_keys_come_back_from_the_store():
    keys, made = ready(seed=1)
    sealed, token = keys.seal(NUMBER, HERE), keys.search_token(NUMBER)
    again = ring(seed=2)
    again.load(made)
    assert again.missing(60.0) == ()
    assert again.opened_text(sealed, HERE) == NUMBER
    assert again.search_token(NUMBER) == token


def test_another_instance_key_does_not_unwrap():
    _, made = ready()
    with pytest.raises(LocalError, match="not the instance key"):
        ring(key=bytes(32)).load(made)
    with pytest.raises(LocalError, match="not the instance key"):
        ring().load([WrappedKey("00" * 16, "data", 0.0, b"short")])
    with pytest.raises(LocalError, match="not the instance key"):
        ring().load([replace(made[1], purpose="search")])


def test_a_data_key_is_used_for_its_period_and_the_search_key_for_ever():
    keys, made = ready()
    assert [key.purpose for key in made] == ["search", "data"]
    token = keys.search_token(NUMBER)
    old = keys.seal(NUMBER, HERE)
    assert keys.missing(DATA_KEY_SECONDS - 1) == ()
    (second,) = keys.missing(DATA_KEY_SECONDS)
    assert (second.purpose, second.created_at) == ("data", DATA_KEY_SECONDS)
    new = keys.seal(NUMBER, HERE)
    assert new[1:17].hex() == second.key_id != old[1:17].hex()
    assert keys.opened_text(old, HERE) == keys.opened_text(new, HERE) == NUMBER
    assert keys.search_token(NUMBER) == token


def test_after_its_key_is_destroyed_a_value_is_gone_and_says_so():
    keys, made = ready()
    sealed = keys.seal(NUMBER, HERE)
    again = ring(seed=3)
    again.load(key for key in made if key.purpose == "search")
    again.missing(1.0)
    assert again.opened(sealed, HERE) is None
    assert again.opened_text(sealed, HERE) is None


def test_a_clock_set_back_makes_one_new_key_at_most():
    keys = ring()
    future = 10 * DATA_KEY_SECONDS
    keys.missing(future)
    assert keys.missing(future - 3_600) == ()
    (key,) = keys.missing(5.0)
    assert key.created_at == 5.0
    assert keys.seal(NUMBER, HERE)[1:17].hex() == key.key_id
    assert keys.missing(4.0) == ()


def test_search_tokens_are_keyed_and_blind_to_spelling():
    keys, _ = ready()
    spellings = ["+49 30 123456", "004930123456", "+49(30)123-456", "sip:+4930123456@carrier.example;user=phone"]
    assert {keys.search_token(each) for each in spellings} == {keys.search_token(NUMBER)}
    assert keys.search_token("+4930123457") != keys.search_token(NUMBER)
    other, _ = ready(seed=9)
    assert other.search_token(NUMBER) != keys.search_token(NUMBER)
    assert keys.search_token(NUMBER) != hmac.digest(KEY, NUMBER.encode(), hashlib.sha256)


@pytest.mark.parametrize(
    ("number", "plain"),
    [
        ("+49 30 123456", "+4930123456"),
        ("0049/30.123-456", "+4930123456"),
        ("030 123456", "030123456"),
        ("tel:+4930123456", "+4930123456"),
        ('"Anna" <sips:Anna@example.com>', "anna"),
        ("Anonymous", "anonymous"),
        ("", ""),
    ],
)
def test_the_plain_form_of_a_number(number, plain):
    assert plain_number(number) == plain


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+4930123456", "+49…56"),
        ("0049 30 123456", "+49…56"),
        ("sip:+4930123456@carrier", "+49…56"),
        ("030123456", "…56"),
        ("110", "…"),
        ("+4911", "…"),
        ("anna", "…"),
        ("", "…"),
        ("٠١٢٣٤٥٦٧٨٩", "…"),
    ],
)
def test_what_a_log_may_show(number, shown):
    assert redacted(number) == shown


@given(st.text(max_size=60))
def test_redaction_never_shows_more_than_four_digits(text):
    assert sum(c.isdigit() for c in redacted(text)) <= 4


@given(st.text(max_size=60))
def test_any_text_can_be_sealed_and_searched(text):
    keys, _ = ready()
    assert keys.opened_text(keys.seal(text, HERE), HERE) == text
    assert len(keys.search_token(text)) == 32


def test_an_instance_key_of_another_length_is_refused_and_no_secret_is_shown():
    with pytest.raises(LocalError, match="32 bytes"):
        ring(key=b"short")
    keys, made = ready()
    assert "wrapped" not in repr(made[0])
    assert KEY.hex() not in repr(keys)
