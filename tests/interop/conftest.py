"""Fixtures of the tests on real parts: relays in processes of their own, and the programs that call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.interop.relay_process import RelayProcess

RelayFactory = Callable[..., Any]


@pytest.fixture
async def relays(tmp_path: Path) -> AsyncIterator[RelayFactory]:
    """A way to start relays, with settings of the test; at its end each of them must stop cleanly."""
    async with AsyncExitStack() as stack:
        count = iter(range(100))

        async def start(**options: Any) -> RelayProcess:
            return await stack.enter_async_context(RelayProcess(tmp_path / f"relay-{next(count)}", **options))

        yield start


@pytest.fixture
async def relay(relays: RelayFactory) -> RelayProcess:
    """One relay with its defaults, and no customer that calls by itself."""
    return await relays()
