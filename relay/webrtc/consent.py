"""Consent to send, for all connections at once (RFC 7675): who is asked when, who has answered, and who has not.

Sans-IO. Every 5 s, give or take a fifth, each peer is asked by a Binding request that is not sent again; what its
answer proves holds for 30 s. One schedule serves all connections, in batches: it is being woken up, by its timer and by
the answers, that costs, and not the few microseconds of a check.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from relay.webrtc import stun

Owner = TypeVar("Owner")

INTERVAL_SECONDS: Final = 5.0
EXPIRY_SECONDS: Final = 30.0
REQUESTS_MAX: Final = 64
"""Requests at once; their answers come together too."""
_GRID: Final = 0.1
"""Of the interval: connections are asked at the same tenths of it."""


def answer(data: bytes, source: tuple[str, int], password: bytes, *, controlling: bool) -> bytes | None:
    """The answer to a check of the pair that is used anyway; None if there is more to it than that.

    `password` is ours, `controlling` whether we are the controlling agent: a peer that takes our role (RFC 8445
    §7.3.1.1) is not dealt with here, nor is one that proves nothing.
    """
    attributes = stun.attributes(data)
    conflict = stun.ICE_CONTROLLING if controlling else stun.ICE_CONTROLLED
    if conflict in attributes or stun.PRIORITY not in attributes or not stun.is_authentic(data, attributes, password):
        return None
    return stun.binding_response(stun.transaction_id(data), source, password)


@dataclass(slots=True)
class _Asked(Generic[Owner]):
    """One connection."""

    owner: Owner
    attributes: bytes
    password: bytes
    """The peer's: it signs our requests and their responses (RFC 8445 §7.2.2)."""
    until: float
    """When consent expires."""
    transaction_id: bytes = b""
    place: int = -1
    """In the schedule."""


@dataclass(frozen=True, slots=True)
class Due(Generic[Owner]):
    """What is to be done now."""

    requests: list[tuple[Owner, bytes]]
    expired: list[Owner]


class Consents(Generic[Owner]):
    """All connections whose peer has to go on consenting. `entropy(n)` gives `n` random bytes."""

    def __init__(
        self,
        entropy: Callable[[int], bytes],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        expiry_seconds: float = EXPIRY_SECONDS,
    ) -> None:
        self._entropy = entropy
        self._interval = interval_seconds
        self._expiry = expiry_seconds
        self._by_owner: dict[Owner, _Asked[Owner]] = {}
        self._by_transaction: dict[bytes, _Asked[Owner]] = {}
        self._schedule: list[tuple[float, int]] = []
        self._by_place: dict[int, _Asked[Owner]] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._by_owner)

    def begin(self, owner: Owner, attributes: bytes, password: bytes, now: float) -> None:
        """A peer has just consented, by answering the check of the pair that is used."""
        asked = _Asked(owner, attributes, password, now + self._expiry)
        self._by_owner[owner] = asked
        self._plan(asked, now)

    def end(self, owner: Owner) -> None:
        """Ask no more; nothing if the owner is not there."""
        asked = self._by_owner.pop(owner, None)
        if asked is not None:
            self._by_place.pop(asked.place, None)  # what is left in the schedule is a number, and passed over
            self._by_transaction.pop(asked.transaction_id, None)

    def next_at(self) -> float | None:
        """When `due` has something to do."""
        return self._schedule[0][0] if self._schedule else None

    def due(self, now: float) -> Due[Owner]:
        """Requests to send, and whose consent has expired: those are asked no more.

        Where more than `REQUESTS_MAX` are due, `next_at` is now or earlier: let a moment pass.
        """
        due: Due[Owner] = Due([], [])
        while self._schedule and self._schedule[0][0] <= now and len(due.requests) < REQUESTS_MAX:
            asked = self._by_place.pop(heapq.heappop(self._schedule)[1], None)
            if asked is None:
                continue
            if now >= asked.until:
                self.end(asked.owner)
                due.expired.append(asked.owner)
            else:
                due.requests.append((asked.owner, self._request(asked)))
                self._plan(asked, now)
        return due

    def awaits(self, transaction_id: bytes) -> Owner | None:
        """Whose request it is that a response belongs to."""
        asked = self._by_transaction.get(transaction_id)
        return asked.owner if asked is not None else None

    def answered(self, transaction_id: bytes, data: bytes, now: float) -> bool:
        """A success response; False if it does not prove the peer's password (consent is then as it was)."""
        asked = self._by_transaction.get(transaction_id)
        if asked is None or not stun.is_authentic(data, stun.attributes(data), asked.password):
            return False
        del self._by_transaction[transaction_id]
        asked.until = now + self._expiry
        return True

    def _request(self, asked: _Asked[Owner]) -> bytes:
        # Only the newest request can be answered: one that took longer than an interval carries no call either.
        self._by_transaction.pop(asked.transaction_id, None)
        asked.transaction_id = self._entropy(12)
        self._by_transaction[asked.transaction_id] = asked
        return stun.binding_request(asked.transaction_id, asked.attributes, asked.password)

    def _plan(self, asked: _Asked[Owner], now: float) -> None:
        # RFC 7675 §5.1: between 0.8 and 1.2 of the interval, at random.
        grid = self._interval * _GRID
        at = math.ceil((now + self._interval * (0.8 + 0.3 * self._entropy(1)[0] / 255)) / grid) * grid
        asked.place = next(self._order)
        self._by_place[asked.place] = asked
        heapq.heappush(self._schedule, (min(at, asked.until), asked.place))
