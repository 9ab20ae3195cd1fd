"""A softphone leg's ICE and DTLS leave nothing behind; `make soak` says so of hundreds."""

from __future__ import annotations

import pytest

from tests.soak.softphones import WAYS, soak

pytestmark = pytest.mark.slow


async def test_softphone_legs_leave_nothing_behind() -> None:
    left, measured = await soak(100)
    assert left == []
    # Of five ways two connect.
    assert measured["ready"] == 2 * (100 + 20) // len(WAYS)
