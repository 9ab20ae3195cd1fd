"""Queues: callers wait in the order of their arrival, and the agent that was idle longest is given first."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from signaling.errors import Exhausted, LocalError


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One queue by name."""

    name: str
    waiting_max: int = 500


@dataclass(frozen=True, slots=True)
class IdleAgent:
    """An agent who can take a contact now."""

    user: str
    since: float
    """When it became able to."""
    queues: frozenset[str]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A waiting contact is given an agent; it has left the queue."""

    queue: str
    contact_id: str
    user: str


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    arrived_at: float
    ticket: int
    """Keeps the order of those who came at the same moment."""
    contact_id: str = field(compare=False)
    queue: str = field(compare=False)


class Queues:
    """All queues of an instance. A contact waits in at most one of them."""

    def __init__(self, settings: Iterable[QueueSettings]) -> None:
        self._settings = {each.name: each for each in settings}
        self._line: list[_Waiting] = []
        self._by_contact: dict[str, _Waiting] = {}
        self._count: Counter[str] = Counter()
        self._tickets = 0
        self.refused: Counter[str] = Counter()
        """Contacts turned away because the queue was full, by queue."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all queues."""
        return tuple(self._settings)

    def join(self, queue: str, contact_id: str, arrived_at: float) -> None:
        """Wait in a queue, at the place of `arrived_at`; raises `Exhausted` if it is full, `LocalError` if unknown.

        A contact that already waits moves.
        """
        if queue not in self._settings:
            raise LocalError("there is no queue of this name")
        self.leave(contact_id)
        if self._count[queue] >= self._settings[queue].waiting_max:
            self.refused[queue] += 1
            raise Exhausted(f"queue {queue} is full")
        self._tickets += 1
        waiting = _Waiting(arrived_at, self._tickets, contact_id, queue)
        bisect.insort(self._line, waiting)
        self._by_contact[contact_id] = waiting
        self._count[queue] += 1

    def leave(self, contact_id: str) -> bool:
        """Stop waiting; whether the contact was waiting at all."""
        waiting = self._by_contact.pop(contact_id, None)
        if waiting is None:
            return False
        del self._line[bisect.bisect_left(self._line, waiting)]
        self._count[waiting.queue] -= 1
        return True

    def waiting(self, queue: str) -> int:
        """How many contacts wait in a queue."""
        return self._count[queue]

    def position(self, contact_id: str) -> int | None:
        """How many contacts of the same queue come before this one; None if it does not wait."""
        waiting = self._by_contact.get(contact_id)
        if waiting is None:
            return None
        before = self._line[: bisect.bisect_left(self._line, waiting)]
        return sum(1 for each in before if each.queue == waiting.queue)

    def assign(self, idle: Iterable[IdleAgent]) -> tuple[Assignment, ...]:
        """Give waiting contacts to idle agents: the caller that came first to the agent that was idle longest."""
        free = sorted(idle, key=lambda agent: (agent.since, agent.user))
        found: list[Assignment] = []
        for waiting in self._line if free else ():
            agent = next((each for each in free if waiting.queue in each.queues), None)
            if agent is not None:
                free.remove(agent)
                found.append(Assignment(waiting.queue, waiting.contact_id, agent.user))
            if not free:
                break
        for each in found:
            self.leave(each.contact_id)
        return tuple(found)
