"""Addresses in settings: what may be listened on, and what may be told to peers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from relay.config import MediaSettings
from relay.config_addresses import Host, MediaAddress

HOST: TypeAdapter[str] = TypeAdapter(Host)
MEDIA: TypeAdapter[Any] = TypeAdapter(MediaAddress)


@pytest.mark.parametrize(
    ("text", "address"),
    [("localhost", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::", "::"), ("2001:DB8:0::1", "2001:db8::1")],
)
def test_hosts_are_numeric(text: str, address: str) -> None:
    assert HOST.validate_python(text) == address


def test_a_name_is_no_host() -> None:
    with pytest.raises(ValidationError, match="must be a numeric address"):
        HOST.validate_python("relay.example")


@pytest.mark.parametrize("text", ["192.0.2.1", "::1", "2001:db8::1", "fd00::2"])
def test_media_comes_to_addresses_of_both_families(text: str) -> None:
    assert str(MEDIA.validate_python(text)) == text
    assert MEDIA.dump_python(MEDIA.validate_python(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2001:db8::1%eth0", "link-local"),
        ("::", "name an IPv6 address of one interface"),
        ("ff02::1", "name an IPv6 address of one interface"),
        ("::ffff:192.0.2.1", "name an IPv6 address of one interface"),
        ("relay.example", "numeric address"),
    ],
)
def test_what_no_peer_could_send_to_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MEDIA.validate_python(text)


def test_a_translator_keeps_the_family() -> None:
    settings = MediaSettings.model_validate({"advertised": {"fd00::2": "2001:db8::2", "10.0.0.2": "192.0.2.2"}})
    assert {str(local): str(public) for local, public in settings.advertised.items()} == {
        "fd00::2": "2001:db8::2",
        "10.0.0.2": "192.0.2.2",
    }
    with pytest.raises(ValidationError, match="pairs an IPv4 address with an IPv6 one"):
        MediaSettings.model_validate({"advertised": {"fd00::2": "192.0.2.2"}})
