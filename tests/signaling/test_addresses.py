from __future__ import annotations

import pytest

from signaling.addresses import party, plain_host, written_host


@pytest.mark.parametrize(
    ("host", "written", "plain", "counted"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("sip.example", "sip.example", "sip.example", "sip.example"),
        ("2001:db8:1:2:3:4:5:6", "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "[::1]", "::1", "::/64"),
        ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]", "192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "[::ffff:c000:201]", "192.0.2.1", "192.0.2.1"),
        ("::ffff:junk", "[::ffff:junk]", "::ffff:junk", "::ffff:junk"),
    ],
)
def test_hosts(host: str, written: str, plain: str, counted: str) -> None:
    assert (written_host(host), plain_host(host), party(host)) == (written, plain, counted)
    assert party(counted) == counted
