"""Against the examples of RFC 2617 §3.5, RFC 7616 §3.9.1 and RFC 8760, and each way to be refused."""

import base64
import hashlib
from dataclasses import replace

import pytest

from signaling.errors import RemoteError
from signaling.sip.digest import Algorithm, Authorization, Challenger, Credentials, authorize, strongest
from tests.signaling.sip.pair import entropy_of

MUFASA = Credentials("Mufasa", "Circle of Life")
ALICE = Credentials("alice", "secret")
URI = "sip:100@relay.example"


def response_of(header: str) -> str:
    return Authorization.parse(header).get("response")


@pytest.mark.parametrize(
    ("challenge", "cnonce", "expected"),
    [
        (  # RFC 2617 §3.5, https://www.rfc-editor.org/rfc/rfc2617#section-3.5
            'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
            ' opaque="5ccc069c403ebaf9f0171e9517f40e41"',
            "0a4f113b", "6629fae49393a05397450978507c4ef1",
        ),
        (  # RFC 7616 §3.9.1 with MD5, https://www.rfc-editor.org/rfc/rfc7616#section-3.9.1
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5,'
            ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (  # the same with SHA-256
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256,'
            ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
            "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)  # fmt: skip
def test_examples_of_the_rfcs(challenge: str, cnonce: str, expected: str) -> None:
    credentials = replace(MUFASA, password="Circle Of Life") if "testrealm" in challenge else MUFASA
    asked = Authorization.parse(challenge)
    header = authorize(asked, credentials, "GET", "/dir/index.html", b"", cnonce=cnonce)
    assert response_of(header) == expected
    assert Authorization.parse(header).get("opaque") == asked.get("opaque")


def test_without_qop_as_of_rfc_2069() -> None:
    """By hand: MD5(MD5(alice:r:secret):n:MD5(INVITE:uri))."""
    header = authorize(Authorization.parse('Digest realm="r", nonce="n"'), ALICE, "INVITE", URI, b"", cnonce="c")

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    assert response_of(header) == md5(f"{md5('alice:r:secret')}:n:{md5(f'INVITE:{URI}')}")
    assert not Authorization.parse(header).get("qop")


def test_auth_int_covers_the_body() -> None:
    asked = Authorization.parse('Digest realm="r", nonce="n", qop="auth-int"')
    one, other = (authorize(asked, ALICE, "INVITE", URI, body, cnonce="c") for body in (b"v=0", b"v=1"))
    assert response_of(one) != response_of(other)


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r", nonce="n", algorithm=SHA-512-256',
        'Digest realm="r"',
        'Digest realm="r", nonce="n", qop="new"',
    ],
)
def test_challenges_that_cannot_be_answered(challenge: str) -> None:
    with pytest.raises(RemoteError):
        authorize(Authorization.parse(challenge), ALICE, "INVITE", URI, b"", cnonce="c")


@pytest.mark.parametrize(
    "text", ["Basic abc", "Digest realm", 'Digest realm="a', 'Digest a="1", a="2"', "Digest ,", ""]
)
def test_malformed_headers(text: str) -> None:
    with pytest.raises(RemoteError):
        Authorization.parse(text)


def test_the_first_challenge_that_we_can_answer_is_taken() -> None:
    values = ["Basic x", 'Digest realm="r", nonce="n", algorithm=SHA-512', 'Digest realm="r", nonce="m", algorithm=md5']
    found = strongest(values)
    assert found is not None
    assert found.get("nonce") == "m"
    assert strongest(["Basic x"]) is None


class Exchange:
    """A challenger and one who answers it."""

    def __init__(self, **settings: object) -> None:
        self.challenger = Challenger("koppel", b"k" * 32, entropy_of("nonces"), **settings)  # type: ignore[arg-type]

    def answer(self, now: float = 0.0, algorithm: int = 0, count: int = 1, body: bytes = b"") -> str:
        asked = Authorization.parse(self.challenger.challenges(now)[algorithm])
        return authorize(asked, ALICE, "INVITE", URI, body, cnonce="c", count=count)

    def judge(
        self,
        header: str | None,
        now: float = 0.0,
        credentials: Credentials | None = ALICE,
        method: str = "INVITE",
        uri: str = URI,
        body: bytes = b"",
    ) -> str:
        claim = self.challenger.claim([] if header is None else [header])
        return self.challenger.judge(claim, credentials, method, uri, body, now)


@pytest.mark.parametrize("algorithm", [0, 1])
def test_a_right_answer_proves(algorithm: int) -> None:
    exchange = Exchange()
    assert exchange.judge(exchange.answer(algorithm=algorithm)) == "proved"


def test_challenges_list_the_strongest_first() -> None:
    first, second = Exchange().challenger.challenges(0.0)
    assert ("SHA-256" in first, "MD5" in second) == (True, True)
    (only,) = Exchange().challenger.challenges(0.0, md5_only=True, stale=True)
    assert only.endswith('algorithm=MD5, qop="auth", stale=true')


def ha1(algorithm: Algorithm) -> Credentials:
    digest = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm](b"alice:koppel:secret").hexdigest()
    return Credentials("alice", ha1=((algorithm, digest),))


def test_stored_hashes_serve_their_algorithm_only() -> None:
    exchange = Exchange()
    assert exchange.judge(exchange.answer(), credentials=ha1("SHA-256")) == "proved"
    assert exchange.judge(exchange.answer(algorithm=1), credentials=ha1("MD5")) == "proved"
    assert exchange.judge(exchange.answer(algorithm=1), credentials=ha1("SHA-256")) == "failed"


def test_what_fails() -> None:
    exchange = Exchange()
    good = exchange.answer()
    assert exchange.judge(good, credentials=Credentials("alice", "wrong")) == "failed"
    assert exchange.judge(good, credentials=None) == "failed", "nobody has that name"
    assert exchange.judge(good, method="BYE") == "failed"
    assert exchange.judge(good, uri="sip:900@relay.example") == "failed"
    assert exchange.judge(good.replace(URI, "sip:900@relay.example"), uri="sip:900@relay.example") == "failed"
    assert exchange.judge(good.replace("nc=00000001", "nc=00000002")) == "failed"
    assert exchange.judge(good) == "proved", "the attempts before have not used it up"


def test_auth_int_is_judged_over_the_body() -> None:
    exchange = Exchange()
    asked = Authorization.parse(exchange.challenger.challenges(0.0)[0].replace('"auth"', '"auth-int"'))
    header = authorize(asked, ALICE, "INVITE", URI, b"v=0", cnonce="c")
    assert exchange.judge(header, body=b"v=1") == "failed"
    assert exchange.judge(header, body=b"v=0") == "proved"


def test_what_asks_again() -> None:
    exchange = Exchange()
    assert exchange.judge(None) == "none"
    assert exchange.judge('Digest realm="elsewhere", nonce="n", response="0"') == "none"
    assert exchange.judge(exchange.answer().replace("qop=auth, ", "")) == "none", "without qop nothing bars replays"
    assert exchange.judge(exchange.answer().replace("SHA-256", "SHA-512")) == "none"


@pytest.mark.parametrize(
    "nonce", ["x", "", base64.b64encode(b"\0" * 32).decode(), base64.b64encode(b"x" * 31).decode(), "é"]
)
def test_nonces_that_are_not_ours_are_stale(nonce: str) -> None:
    exchange = Exchange()
    claim = Authorization({**Authorization.parse(exchange.answer()).parameters, "nonce": nonce})
    assert exchange.challenger.judge(claim, ALICE, "INVITE", URI, b"", 0.0) == "stale"


def test_a_nonce_of_another_realm_or_secret_is_stale() -> None:
    other = Challenger("koppel", b"z" * 32, entropy_of("nonces"))
    asked = Authorization.parse(other.challenges(0.0)[0])
    assert Exchange().judge(authorize(asked, ALICE, "INVITE", URI, b"", cnonce="c")) == "stale"


def test_a_nonce_lives_its_time_and_no_longer() -> None:
    exchange = Exchange(nonce_seconds=60.0)
    assert exchange.judge(exchange.answer(100.0), 160.0) == "proved"
    assert exchange.judge(exchange.answer(100.0), 160.001) == "stale"
    assert exchange.judge(exchange.answer(100.0), 99.0) == "stale", "from the future: another run of the program"


def test_a_count_must_grow() -> None:
    exchange = Exchange()
    asked = Authorization.parse(exchange.challenger.challenges(0.0)[0])
    headers = {n: authorize(asked, ALICE, "INVITE", URI, b"", cnonce="c", count=n) for n in (1, 2, 5)}
    verdicts = [exchange.judge(headers[n]) for n in (1, 1, 5, 2, 5)]
    assert verdicts == ["proved", "stale", "proved", "stale", "stale"]
    assert exchange.challenger.replays == 3


def test_forgotten_nonces_cannot_be_replayed() -> None:
    exchange = Exchange(nonces_max=2)
    headers = [exchange.answer(float(at)) for at in range(4)]
    assert [exchange.judge(header, 4.0) for header in headers] == ["proved"] * 4
    assert [exchange.judge(header, 4.0) for header in headers] == ["stale"] * 4
    assert len(exchange.challenger._used) == 2


def test_secrets_stay_out_of_reprs() -> None:
    exchange = Exchange()
    claim = Authorization.parse(exchange.answer())
    for text in (repr(ALICE), repr(ha1("MD5")), repr(claim)):
        assert "secret" not in text
        assert "alice" not in text
        assert claim.get("response") not in text
