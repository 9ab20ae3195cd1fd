import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.batch import Batch, size_class


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 12), (13, 16), (25, 32), (33, 64), (65, 96)]
)
def test_sides_are_padded_to_few_sizes(count, size):
    assert size_class(count) == size


@given(st.lists(st.integers(0, 30)))
def test_a_gap_is_filled_from_the_end(keys):
    """Put a key that is absent, remove one that is there; every key keeps its own matrix, without gaps."""
    batch = Batch(1, 1)
    there: set[int] = set()
    for key in keys:
        if key in there:
            there.remove(key)
            batch.remove(key)
        else:
            there.add(key)
            batch.put(key, np.array([key]), np.array([key + 100]), np.array([[key / 2]], np.float32))
        assert batch.used == len(there)
        rows = batch.listeners[: batch.used, 0].tolist()
        assert set(rows) == there
        assert batch.speakers[: batch.used, 0].tolist() == [row + 100 for row in rows]
        assert batch.gains[: batch.used, 0, 0].tolist() == [row / 2 for row in rows]


def test_it_grows_without_losing_anything():
    batch = Batch(2, 3)
    for key in range(100):
        batch.put(key, np.array([key, key]), np.array([key, 0, 0]), np.full((2, 3), key, np.float32))
    assert batch.listeners[:100, 1].tolist() == list(range(100))
    assert batch.gains[99].tolist() == [[99.0] * 3] * 2


def test_a_key_is_put_once():
    batch = Batch(1, 1)
    batch.put("a", np.array([0]), np.array([0]), np.ones((1, 1), np.float32))
    with pytest.raises(AssertionError):
        batch.put("a", np.array([0]), np.array([0]), np.ones((1, 1), np.float32))
