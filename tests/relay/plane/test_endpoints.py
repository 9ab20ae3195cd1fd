"""Looking up the legs of a whole table of endpoints."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relay.plane.endpoints import UNKNOWN, Endpoints


def test_nothing_is_known_at_first() -> None:
    assert Endpoints().find(np.array([0, 1, 2**64 - 1], np.uint64)).tolist() == [UNKNOWN] * 3


def test_an_endpoint_moves_to_another_leg_and_stays_there() -> None:
    endpoints = Endpoints()
    assert endpoints.put(5, 1) == UNKNOWN
    assert endpoints.put(5, 2) == 1
    endpoints.remove(5, 1)  # not its own any more
    assert endpoints.owner(5) == 2
    assert endpoints.find(np.array([5], np.uint64)).tolist() == [2]
    endpoints.remove(5, 2)
    assert endpoints.owner(5) == UNKNOWN
    assert endpoints.find(np.array([5], np.uint64)).tolist() == [UNKNOWN]
    assert len(endpoints) == 0


@given(
    st.dictionaries(st.integers(1, 2**64 - 1), st.integers(0, 5000), max_size=40),
    st.lists(st.integers(1, 2**64 - 1), max_size=40),
)
def test_finds_what_a_dictionary_finds(legs: dict[int, int], others: list[int]) -> None:
    endpoints = Endpoints()
    for key, leg in legs.items():
        endpoints.put(key, leg)
    asked = [*legs, *others]
    found = endpoints.find(np.array(asked, np.uint64)).tolist()
    assert found == [legs.get(key, UNKNOWN) for key in asked]
