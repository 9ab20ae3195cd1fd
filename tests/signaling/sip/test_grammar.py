import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import RemoteError
from signaling.sip.grammar import CSeq, NameAddress, Uri, Via, quote, split_list, unquote


def test_commas_in_quotes_and_brackets_do_not_split() -> None:
    assert split_list('a, "b, c" <sip:x,y@h>, d') == ["a", '"b, c" <sip:x,y@h>', "d"]
    assert split_list(r'"a\", b", c') == [r'"a\", b"', "c"]


@pytest.mark.parametrize("text", ['"open', "<sip:a@b", 'a, "b', "a <b, c"])
def test_open_quotes_and_brackets_are_refused(text: str) -> None:
    with pytest.raises(RemoteError, match="not closed"):
        split_list(text)


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "parameters", "headers"),
    [
        ("sip:example.com", None, "example.com", None, (), ""),
        ("sip:+4930123;phone-context=x@h.example:5070", "+4930123;phone-context=x", "h.example", 5070, (), ""),
        ("sips:a@[2001:db8::1]:5061;lr", "a", "[2001:db8::1]", 5061, (("lr", None),), ""),
        (
            "sip:a@b;transport=tls?Replaces=x%3Bto-tag%3D1",
            "a",
            "b",
            None,
            (("transport", "tls"),),
            "Replaces=x%3Bto-tag%3D1",
        ),
        ("SIP:a:pw@b", "a:pw", "b", None, (), ""),
    ],
)
def test_uris(text: str, user: str | None, host: str, port: int | None, parameters: object, headers: str) -> None:
    uri = Uri.parse(text)
    assert (uri.user, uri.host, uri.port, uri.parameters, uri.headers) == (user, host, port, parameters, headers)
    assert str(uri).lower() == text.lower()


@pytest.mark.parametrize(
    "text", ["", "sip", "sip:", "sip:a b@c", "sip:@h", "sip:a@h:99999", "sip:a@", "<sip:a@b>", "1x:y"]
)
def test_malformed_uris(text: str) -> None:
    with pytest.raises(RemoteError):
        Uri.parse(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("sip:+4930123456@h", "+4930123456"),
        ("sip:%2B4930@h", "+4930"),
        ("sip:+4930;phone-context=x@h;user=phone", "+4930"),
        ("tel:+4930;ext=5", "+4930"),
        ("sip:alice:secret@h", "alice"),
        ("sip:h", ""),
    ],
)
def test_the_number_of_a_uri(text: str, number: str) -> None:
    assert Uri.parse(text).number == number


def test_numbers_stay_out_of_the_repr() -> None:
    assert "4930" not in repr(NameAddress.parse('"4930 Anna" <sip:+4930@h>'))


def test_name_address_forms() -> None:
    address = NameAddress.parse('"A. \\"B\\", C" <sip:a@b;lr>;tag=x;q=0.5')
    assert address.display_name == 'A. "B", C'
    assert (address.tag, address.parameter("q"), address.uri.parameters) == ("x", "0.5", (("lr", None),))
    assert str(address) == '"A. \\"B\\", C" <sip:a@b;lr>;tag=x;q=0.5'
    bare = NameAddress.parse("sip:a@b;tag=y")
    assert (bare.tag, bare.uri.parameters) == ("y", ()), "without brackets the parameters are the header's (§20.10)"
    assert str(bare.tagged("z")) == "<sip:a@b>;tag=z"


@pytest.mark.parametrize(
    "text", ["sip:a@b?x=y", "sip:a@b,c", '"x" <sip:a@b', "<>", "x <y>", "<sip:a@b>;=1", "<sip:a@b>;;"]
)
def test_malformed_name_addresses(text: str) -> None:
    with pytest.raises(RemoteError):
        NameAddress.parse(text)


def test_via() -> None:
    via = Via.parse("SIP / 2.0 / udp [2001:db8::9]:5070 ; branch = z9hG4bKx;rport")
    assert (via.transport, via.host, via.port, via.branch) == ("UDP", "[2001:db8::9]", 5070, "z9hG4bKx")
    assert via.parameter("rport") == ""
    stamped = via.with_parameters(received="192.0.2.1", rport="4711")
    assert str(stamped) == "SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bKx;received=192.0.2.1;rport=4711"


@pytest.mark.parametrize("text", ["4294967296 INVITE", "x INVITE", "1", "1 INV ITE", "-1 BYE", ""])
def test_malformed_cseq(text: str) -> None:
    with pytest.raises(RemoteError):
        CSeq.parse(text)


def test_cseq_up_to_the_limit() -> None:
    assert CSeq.parse("2147483647 BYE") == CSeq(2**31 - 1, "BYE")


@given(st.text())
def test_quoting_is_undone(text: str) -> None:
    assert unquote(quote(text)) == text


@given(st.text(max_size=60), st.sampled_from([Uri.parse, NameAddress.parse, Via.parse, CSeq.parse, split_list]))
def test_nothing_raises_anything_but_remote_error(text: str, parse: object) -> None:
    try:
        value = parse(text)  # type: ignore[operator]
    except RemoteError:
        return
    if not isinstance(value, list):
        assert type(value).parse(str(value)) == value, "what was read is read again from what was written"
