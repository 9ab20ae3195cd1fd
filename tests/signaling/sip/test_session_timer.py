import pytest

from signaling.errors import RemoteError
from signaling.sip.message import Request, Response
from signaling.sip.session_timer import SessionTimer, accepted_session_timer, answer_session_timer


def invite(expires: str | None, supported: str = "timer") -> Request:
    headers = (("Supported", supported),) + ((("Session-Expires", expires),) if expires else ())
    return Request(headers, b"", "INVITE", "sip:a")


@pytest.mark.parametrize(
    ("expires", "supported", "expected", "headers"),
    [
        (None, "timer", None, None),
        ("1800", "timer", SessionTimer(1800, ours=False), ("1800;refresher=uac", "timer")),
        ("1800;refresher=uac", "100rel, timer", SessionTimer(1800, ours=False), ("1800;refresher=uac", "timer")),
        ("90 ; Refresher = UAS", "timer", SessionTimer(90, ours=True), ("90;refresher=uas", "timer")),
        # RFC 4028 table 2: a caller without timers cannot refresh; a proxy asked for it.
        ("1800", "100rel", SessionTimer(1800, ours=True), ("1800;refresher=uas", None)),
    ],
)
def test_what_is_answered(
    expires: str | None, supported: str, expected: SessionTimer | None, headers: tuple[str, str | None] | None
) -> None:
    request = invite(expires, supported)
    timer = answer_session_timer(request, 90)
    assert timer == expected
    if timer is not None and headers is not None:
        said = dict(timer.response_headers(request))
        assert (said["Session-Expires"], said.get("Require")) == headers


def test_too_small_is_422() -> None:
    with pytest.raises(RemoteError) as caught:
        answer_session_timer(invite("89"), 90)
    assert caught.value.sip_status == 422


def test_nonsense_is_400() -> None:
    with pytest.raises(RemoteError) as caught:
        answer_session_timer(invite("soon"), 90)
    assert caught.value.sip_status == 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), ("nonsense", None),
        ("1800;refresher=uac", SessionTimer(1800, ours=True)), ("1800;refresher=uas", SessionTimer(1800, ours=False)),
        ("1800", SessionTimer(1800, ours=True)),
    ],
)  # fmt: skip
def test_what_a_2xx_settles(value: str | None, expected: SessionTimer | None) -> None:
    headers = (("Session-Expires", value),) if value else ()
    assert accepted_session_timer(Response(headers, b"", 200)) == expected


@pytest.mark.parametrize(
    ("timer", "acts_after", "then"),
    [
        (SessionTimer(1800, ours=False), 1768.0, 868.0),
        (SessionTimer(90, ours=False), 60.0, 15.0),
        (SessionTimer(1800, ours=True), 900.0, 868.0),
        (SessionTimer(90, ours=True), 45.0, 15.0),
    ],
)
def test_when_it_acts(timer: SessionTimer, acts_after: float, then: float) -> None:
    """RFC 4028 §10: half the interval, and the lesser of 32 s and a third of it before the end."""
    assert (timer.acts_after, timer.expires_after_refresh) == (acts_after, then)
