"""Digest authentication, as the one who asks and as the one who is asked (RFC 7616, RFC 8760)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from signaling.errors import RemoteError
from signaling.sip.grammar import quote, split_list, unquote

Algorithm = Literal["SHA-256", "MD5"]
ALGORITHMS: tuple[Algorithm, ...] = ("SHA-256", "MD5")
_HASHES: dict[Algorithm, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    # MD5 is what most phones and carriers still speak; nothing but this exchange rests on it.
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
_NONCE = struct.Struct("!d8s16s")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and what proves it: a password, or H(name:realm:password) by algorithm."""

    username: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    ha1: tuple[tuple[Algorithm, str], ...] = field(default=(), repr=False)

    def secret(self, algorithm: Algorithm, realm: str) -> str | None:
        """The stored hash, or the one that the password gives; None: this algorithm cannot be served."""
        stored = dict(self.ha1).get(algorithm)
        if stored is not None or self.password is None:
            return stored
        return _digest(algorithm, self.username, realm, self.password)


@dataclass(frozen=True, slots=True)
class Authorization:
    """One `Digest` value of any of the four authentication headers."""

    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Authorization:
        """Read it; raises RemoteError."""
        scheme, _, rest = text.strip().partition(" ")
        if scheme.lower() != "digest":
            raise RemoteError("the authentication scheme is not Digest")
        parameters: dict[str, str] = {}
        for part in split_list(rest):
            name, equals, value = part.partition("=")
            name = name.strip().lower()
            if not equals or not name or name in parameters:
                raise RemoteError("an authentication parameter is malformed or stands twice")
            parameters[name] = unquote(value.strip())
        return cls(parameters)

    def get(self, name: str) -> str:
        """A parameter, empty if it is not there."""
        return self.parameters.get(name, "")

    @property
    def algorithm(self) -> Algorithm | None:
        """MD5 if none is said; None if it is another than ours."""
        name = self.get("algorithm") or "MD5"
        return next((algorithm for algorithm in ALGORITHMS if algorithm == name.upper()), None)


Verdict = Literal["none", "stale", "failed", "proved"]
"""No usable answer for this realm; an old nonce; a wrong answer; a right one."""


class Challenger:
    """Asks for proof and judges it.

    A nonce is the time it was made and a keyed hash of it, so that asking costs no memory. Only nonces that were used
    with success are kept, with the highest count that they were used with, so that no request is taken twice.
    """

    def __init__(
        self,
        realm: str,
        secret: bytes,
        entropy: Callable[[int], bytes],
        *,
        algorithms: tuple[Algorithm, ...] = ALGORITHMS,
        nonce_seconds: float = 60.0,
        nonces_max: int = 10_000,
    ) -> None:
        self.realm = realm
        self._secret = secret
        self._entropy = entropy
        self._algorithms = algorithms
        self._nonce_seconds = nonce_seconds
        self._nonces_max = nonces_max
        self._used: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._oldest = float("-inf")
        """Nonces made up to then were forgotten with their counts, and are stale."""
        self.replays = 0

    def challenges(self, now: float, *, stale: bool = False, md5_only: bool = False) -> list[str]:
        """Values of WWW-Authenticate, the strongest first (RFC 8760 §2.4)."""
        nonce = self._make_nonce(now)
        suffix = ", stale=true" if stale else ""
        return [
            f'Digest realm={quote(self.realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{suffix}'
            for algorithm in self._algorithms
            if algorithm == "MD5" or not md5_only
        ]

    def claim(self, values: list[str]) -> Authorization | None:
        """The first answer that is meant for our realm; raises RemoteError if one cannot be read."""
        answers = [Authorization.parse(value) for value in values]
        return next((answer for answer in answers if answer.get("realm") == self.realm), None)

    def judge(
        self,
        claim: Authorization | None,
        credentials: Credentials | None,
        method: str,
        uri: str,
        body: bytes,
        now: float,
    ) -> Verdict:
        """Judge an answer for a request of this method, Request-URI and body.

        Without credentials (nobody has that name) it takes as long as with wrong ones, and fails.
        """
        if claim is None or claim.algorithm not in self._algorithms or claim.get("qop") not in {"auth", "auth-int"}:
            return "none"
        made_at = self._made_at(claim.get("nonce"))
        if made_at is None or not 0 <= now - made_at <= self._nonce_seconds or made_at <= self._oldest:
            return "stale"
        secret = credentials.secret(claim.algorithm, self.realm) if credentials else None
        expected = _response(claim, secret or self._secret.hex(), method, body)
        right = hmac.compare_digest(expected.encode(), claim.get("response").lower().encode("utf-8", "surrogateescape"))
        if not right or secret is None or claim.get("uri") != uri:
            return "failed"
        return "proved" if self._count(claim, made_at) else "stale"

    def _make_nonce(self, now: float) -> str:
        salt = self._entropy(8)
        return base64.b64encode(_NONCE.pack(now, salt, self._seal(now, salt))).decode("ascii")

    def _seal(self, now: float, salt: bytes) -> bytes:
        sealed = struct.pack("!d", now) + salt + self.realm.encode("utf-8")
        return hmac.digest(self._secret, sealed, "sha256")[:16]

    def _made_at(self, nonce: str) -> float | None:
        try:
            made_at, salt, seal = _NONCE.unpack(base64.b64decode(nonce, validate=True))
        except (ValueError, struct.error):
            return None
        return made_at if hmac.compare_digest(seal, self._seal(made_at, salt)) else None

    def _count(self, claim: Authorization, made_at: float) -> bool:
        """Whether the nonce count grew (RFC 7616 §3.4.4); notes it."""
        count = claim.get("nc")
        if not re.fullmatch("[0-9a-fA-F]{8}", count):
            return False
        nonce = claim.get("nonce")
        highest, _ = self._used.get(nonce, (0, 0.0))
        if int(count, 16) <= highest:
            self.replays += 1
            return False
        self._used[nonce] = (int(count, 16), made_at)
        if len(self._used) > self._nonces_max:
            _, (_, forgotten) = self._used.popitem(last=False)
            self._oldest = max(self._oldest, forgotten)
        return True


def authorize(
    challenge: Authorization,
    credentials: Credentials,
    method: str,
    uri: str,
    body: bytes,
    *,
    cnonce: str,
    count: int = 1,
) -> str:
    """Answer a challenge: a value for Authorization or Proxy-Authorization; raises RemoteError if we cannot."""
    algorithm, realm = challenge.algorithm, challenge.get("realm")
    secret = credentials.secret(algorithm, realm) if algorithm else None
    offered = [value.strip().lower() for value in challenge.get("qop").split(",") if value.strip()]
    qop = next((value for value in ("auth", "auth-int") if value in offered), "")
    if algorithm is None or secret is None or not challenge.get("nonce") or bool(offered) != bool(qop):
        raise RemoteError("the challenge cannot be answered")
    parameters = {
        "username": credentials.username, "realm": realm, "nonce": challenge.get("nonce"), "uri": uri,
    }  # fmt: skip
    if qop:
        parameters |= {"cnonce": cnonce, "nc": f"{count:08x}", "qop": qop}
    parameters["response"] = _response(Authorization(parameters | {"algorithm": algorithm}), secret, method, body)
    if challenge.get("opaque"):
        parameters["opaque"] = challenge.get("opaque")
    unquoted = {"nc", "qop"}
    written = [f"{name}={value if name in unquoted else quote(value)}" for name, value in parameters.items()]
    return f"Digest {', '.join(written)}, algorithm={algorithm}"


def strongest(values: list[str]) -> Authorization | None:
    """The first challenge that we can answer; the asker lists them by preference (RFC 8760 §2.4)."""
    for value in values:
        try:
            challenge = Authorization.parse(value)
        except RemoteError:
            continue
        if challenge.algorithm is not None:
            return challenge
    return None


def _response(claim: Authorization, secret: str, method: str, body: bytes) -> str:
    algorithm = claim.algorithm
    assert algorithm is not None, "both callers have checked the algorithm"
    qop = claim.get("qop")
    second = [method, claim.get("uri")]
    if qop == "auth-int":
        second.append(_HASHES[algorithm](body))
    middle = [claim.get("nc"), claim.get("cnonce"), qop] if qop else []
    return _digest(algorithm, secret, claim.get("nonce"), *middle, _digest(algorithm, *second))


def _digest(algorithm: Algorithm, *parts: str) -> str:
    return _HASHES[algorithm](":".join(parts).encode("utf-8", "surrogateescape"))
