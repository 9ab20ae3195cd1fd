import pytest

from signaling.errors import RemoteError
from signaling.sip.dialog import Dialog
from signaling.sip.message import Items, Request, Response, parse

ROUTES: Items = (("Record-Route", "<sip:p2.example;lr>, <sip:p1.example;lr>"), ("Record-Route", "<sip:p0.example;lr>"))


def invite(*headers: tuple[str, str]) -> Request:
    base = (
        ("Via", "SIP/2.0/TLS a.example;branch=z9hG4bK1"), ("From", '"A" <sip:a@a.example>;tag=ours'),
        ("To", "<sip:b@b.example>"), ("Call-ID", "x"), ("CSeq", "7 INVITE"), ("Contact", "<sip:a@10.0.0.1:5071>"),
    )  # fmt: skip
    return Request((*base, *headers), b"", "INVITE", "sip:b@b.example")


def response(status: int, *headers: tuple[str, str]) -> Response:
    base = (
        ("Via", "SIP/2.0/TLS a.example;branch=z9hG4bK1"), ("From", '"A" <sip:a@a.example>;tag=ours'),
        ("To", "<sip:b@b.example>;tag=theirs"), ("Call-ID", "x"), ("CSeq", "7 INVITE"),
        ("Contact", "<sip:b@10.0.0.2:5072>"),
    )  # fmt: skip
    return Response((*base, *headers), b"", status, "")


def routes(request: Request) -> list[str]:
    return request.values("Route")


def test_the_called_end() -> None:
    dialog = Dialog.from_request(invite(*ROUTES), "mine")
    assert (dialog.local_tag, dialog.remote_tag, dialog.remote_sequence, dialog.confirmed) == ("mine", "ours", 7, False)
    bye = dialog.request("BYE")
    assert (bye.uri, bye.method, str(bye.cseq)) == ("sip:a@10.0.0.1:5071", "BYE", "1 BYE")
    assert routes(bye) == ["<sip:p2.example;lr>", "<sip:p1.example;lr>", "<sip:p0.example;lr>"]
    assert (str(bye.sender), str(bye.recipient)) == ("<sip:b@b.example>;tag=mine", '"A" <sip:a@a.example>;tag=ours')
    assert dialog.next_hop.host == "p2.example"


def test_the_calling_end() -> None:
    dialog = Dialog.from_response(invite(), response(200, *ROUTES))
    assert dialog.confirmed
    ack = dialog.request("ACK", sequence=7)
    assert (str(ack.cseq), ack.uri) == ("7 ACK", "sip:b@10.0.0.2:5072")
    assert routes(ack) == ["<sip:p0.example;lr>", "<sip:p1.example;lr>", "<sip:p2.example;lr>"]
    assert str(dialog.request("BYE").cseq) == "8 BYE", "the ACK took no number of its own"
    assert not Dialog.from_response(invite(), response(180)).confirmed
    assert Dialog.from_response(invite(), response(200)).next_hop.host == "10.0.0.2"


def test_a_strict_router_gets_the_request_uri() -> None:
    dialog = Dialog.from_request(invite(("Record-Route", "<sip:old.example>, <sip:p.example;lr>")), "mine")
    bye = dialog.request("BYE")
    assert bye.uri == "sip:old.example"
    assert routes(bye) == ["<sip:p.example;lr>", "<sip:a@10.0.0.1:5071>"]


def test_requests_of_a_dialog_are_messages() -> None:
    request = Dialog.from_request(invite(*ROUTES), "mine").request("UPDATE", (("Contact", "<sip:x@y>"),), b"v=0")
    sent = Request(
        (("Via", "SIP/2.0/TLS r.example;branch=z9hG4bK2"), *request.headers), request.body, "UPDATE", request.uri
    )
    again = parse(bytes(sent))
    assert again.headers[:-1] == sent.headers
    assert again.body == b"v=0"


def test_order_of_the_peers_requests() -> None:
    dialog = Dialog.from_request(invite(), "mine")
    for number, fine in ((8, True), (8, False), (7, False), (20, True)):
        request = Request((("CSeq", f"{number} BYE"),), b"", "BYE", "sip:x")
        if fine:
            dialog.take(request)
        else:
            with pytest.raises(RemoteError) as caught:
                dialog.take(request)
            assert caught.value.sip_status == 500


def test_target_refresh() -> None:
    dialog = Dialog.from_request(invite(), "mine")
    dialog.refresh_target(Request((("Contact", "<sip:a@10.0.0.9>"),)))
    assert dialog.request("BYE").uri == "sip:a@10.0.0.9"
    dialog.refresh_target(Request())
    dialog.refresh_target(Request((("Contact", "<sip:a@h>, <sip:b@h>"),)))
    assert dialog.request("BYE").uri == "sip:a@10.0.0.9"


@pytest.mark.parametrize("contact", ["", "*", "<sip:a@h>, <sip:b@h>", "<tel:+49>"])
def test_no_dialog_without_one_sip_contact(contact: str) -> None:
    headers = tuple(item for item in invite().headers if item[0] != "Contact")
    request = Request((*headers, ("Contact", contact)), b"", "INVITE", "sip:b@b.example")
    with pytest.raises(RemoteError, match="Contact"):
        Dialog.from_request(request, "mine")


def test_numbers_stay_out_of_the_repr() -> None:
    assert "a.example" not in repr(Dialog.from_request(invite(), "mine"))
