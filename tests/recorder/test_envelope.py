import hmac
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from recorder.envelope import ContactKey, length_prefixed, seal, session_cipher, unseal, wrap_context
from recorder.errors import RemoteError
from recorder.names import Identity

IDENTITY = Identity("a", "i", "c")
KEY = ContactKey(bytes(16), bytes(range(32)))
SESSION = bytes(range(16))


def hkdf_sha256(key: bytes, info: bytes) -> bytes:
    """RFC 5869 §2.2 and §2.3 written out, one block, no salt."""
    extracted = hmac.new(bytes(32), key, sha256).digest()
    return hmac.new(extracted, info + b"\x01", sha256).digest()


def test_the_session_key_is_what_the_format_says():
    info = (
        b"\x00\x12koppel recording 1"
        + b"\x00\x05track"
        + b"\x00\x01a"
        + b"\x00\x01i"
        + b"\x00\x01c"
        + b"\x00\x02t1"
        + SESSION
    )
    by_hand = AESGCM(hkdf_sha256(KEY.key, info))
    sealed = seal(session_cipher(KEY, "track", IDENTITY, "t1", SESSION), 5, b"sound", b"header")
    assert by_hand.decrypt(bytes(11) + b"\x05", sealed, b"header") == b"sound"


def test_kind_ids_and_session_part_the_keys():
    one = seal(session_cipher(KEY, "track", IDENTITY, "t1", SESSION), 0, b"sound", b"")
    for kind, identity, track, session in (
        ("log", IDENTITY, "t1", SESSION),
        ("rendered", IDENTITY, "t1", SESSION),
        ("track", Identity("a", "i", "d"), "t1", SESSION),
        ("track", Identity("a", "j", "c"), "t1", SESSION),
        ("track", IDENTITY, "t2", SESSION),
        ("track", IDENTITY, "t1", bytes(16)),
    ):
        with pytest.raises(RemoteError):
            unseal(session_cipher(KEY, kind, identity, track, session), 0, one, b"")


def test_counter_and_associated_data_are_bound():
    cipher = session_cipher(KEY, "log", IDENTITY, "", SESSION)
    sealed = seal(cipher, 7, b"entry", b"header")
    assert unseal(cipher, 7, sealed, b"header") == b"entry"
    for counter, data in ((8, b"header"), (7, b"Header")):
        with pytest.raises(RemoteError):
            unseal(cipher, counter, sealed, data)


@given(st.lists(st.binary(max_size=5)), st.lists(st.binary(max_size=5)))
def test_no_two_lists_of_ids_encode_alike(one, other):
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_keys_and_wrapped_keys_do_not_show_in_reprs():
    assert "1f" not in repr(KEY)
    assert wrap_context(IDENTITY, b"k") != wrap_context(Identity("a", "i", "d"), b"k")
