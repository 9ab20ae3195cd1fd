"""Failed log-ins by address: after a few within a window, no more are taken for a while.

Sans-IO. Tokens are too long to be guessed; this keeps guessing from costing anything, and shows it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from signaling.addresses import party


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How many failures, in what time, of how many addresses."""

    failures_max: int = 10
    window_s: float = 60.0
    addresses_max: int = 10_000


@dataclass(slots=True)
class _Failures:
    count: int
    since: float


class LogInThrottle:
    """Counts failures; forgets an address when its window is over, and the oldest when the table is full."""

    def __init__(self, settings: ThrottleSettings) -> None:
        self._settings = settings
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0.0: now."""
        failures = self._failures.get(party(address))
        if failures is None or failures.count < self._settings.failures_max:
            return 0.0
        return max(0.0, failures.since + self._settings.window_s - now)

    def failed(self, address: str, now: float) -> None:
        """A token from this address was wrong."""
        network = party(address)
        failures = self._failures.pop(network, None)
        if failures is None or now - failures.since >= self._settings.window_s:
            failures = _Failures(0, now)
        failures.count += 1
        self._failures[network] = failures
        if len(self._failures) > self._settings.addresses_max:
            self._failures.popitem(last=False)
