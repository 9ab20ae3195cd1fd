import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.document import (
    canonical,
    document_hash,
    parse_canonical,
    parse_signed,
    parse_unchecked,
    signed,
    signer_id_of,
)
from recorder.errors import RemoteError
from tests.recorder.world import SIGNER

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_what_is_written_is_read(body):
    assert parse_canonical(canonical(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":01}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b"[1]",
        b'{"a":1}\n',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b"",
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_any_other_spelling_is_refused(data):
    with pytest.raises(RemoteError):
        parse_canonical(data)


def test_a_document_is_two_lines_of_json():
    document = signed({"b": "ü", "a": 1}, SIGNER)
    assert document.startswith(b'{"a":1,"b":"\xc3\xbc"}\n{"signature":"')
    assert document.count(b"\n") == 2
    assert parse_signed(document, SIGNER.public_key) == {"a": 1, "b": "ü"} == parse_unchecked(document)
    assert len(document_hash(document)) == 64


def test_every_flipped_bit_is_found():
    document = signed({"contact": "c1", "n": [1, 2]}, SIGNER)
    for place in range(len(document)):
        for bit in range(8):
            altered = bytearray(document)
            altered[place] ^= 1 << bit
            with pytest.raises(RemoteError):
                parse_signed(bytes(altered), SIGNER.public_key)


def test_every_cut_and_every_addition_is_found():
    document = signed({"a": 1}, SIGNER)
    for end in range(len(document)):
        with pytest.raises(RemoteError):
            parse_signed(document[:end], SIGNER.public_key)
    for addition in (b"\n", b" ", b"{}\n"):
        with pytest.raises(RemoteError):
            parse_signed(document + addition, SIGNER.public_key)


def test_spare_bits_of_base64_are_not_a_second_spelling():
    document = signed({"a": 1}, SIGNER)
    signature = document.split(b'"signature":"')[1].split(b'"')[0]
    # 64 bytes end in two letters and "==": the last letter has four spare bits.
    other = signature[:-3] + bytes([signature[-3] + 1]) + b"=="
    assert base64.b64decode(signature) == base64.b64decode(other)
    with pytest.raises(RemoteError, match="base64"):
        parse_signed(document.replace(signature, other), SIGNER.public_key)


def test_another_signer_is_named():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    assert signer_id_of(other) != SIGNER.signer_id
    with pytest.raises(RemoteError, match="another key"):
        parse_signed(signed({"a": 1}, SIGNER), other)
