import numpy as np
import pytest

from mixer.matrix import Kind, Matrix, Terms

SILENCE_ROW = 10


def hears(*speakers, gain=1.0):
    return Terms(tuple(speakers), (gain,) * len(speakers))


@pytest.fixture
def matrix():
    return Matrix(SILENCE_ROW)


def settle(matrix):
    matrix.begin_tick()
    return matrix


def test_an_empty_matrix_has_nothing_to_do(matrix):
    plan = matrix.plan(8000)
    assert plan.order.size == plan.listeners.size == plan.speakers.size == 0


def test_kinds(matrix):
    matrix.set_conference("a", {0: hears(), 1: hears(5), 2: hears(5, 6), 3: hears(5, gain=0.5)})
    settle(matrix)
    assert matrix.kind[:5].tolist() == [Kind.SILENCE, Kind.UNITY, Kind.GENERAL, Kind.GENERAL, Kind.NOT_LISTENING]
    assert matrix.source[:5].tolist() == [-1, 5, -1, -1, -1]


def test_while_a_listener_fades_it_is_general(matrix):
    matrix.set_conference("a", {1: hears(5), 2: hears()})
    assert matrix.kind[1:3].tolist() == [Kind.GENERAL, Kind.SILENCE]
    assert matrix.source[1] == -1
    settle(matrix)
    assert matrix.kind[1] == Kind.UNITY


def test_what_is_needed_and_written(matrix):
    matrix.set_rate(2, 48000)
    matrix.set_conference("a", {1: hears(2, 7), 2: hears(1, 7), 3: hears()})
    settle(matrix)
    assert matrix.plan(8000).listeners.tolist() == [1, 3]
    assert matrix.plan(8000).speakers.tolist() == [2, 7]
    assert matrix.plan(48000).listeners.tolist() == [2]
    assert matrix.plan(48000).speakers.tolist() == [1, 7]
    assert matrix.plan(16000).listeners.size == 0


def test_a_fade_needs_the_old_speakers_for_one_tick_more(matrix):
    matrix.set_conference("a", {1: hears(2)})
    settle(matrix)
    matrix.set_conference("a", {1: hears(3)})
    assert matrix.plan(8000).speakers.tolist() == [2, 3]
    assert settle(matrix).plan(8000).speakers.tolist() == [3]


def test_who_leaves_listens_for_one_tick_more(matrix):
    matrix.set_conference("a", {1: hears(2)})
    settle(matrix)
    matrix.set_conference("a", {})
    assert matrix.plan(8000).listeners.tolist() == [1]
    assert matrix.kind[1] == Kind.GENERAL
    assert settle(matrix).plan(8000).listeners.size == 0
    assert matrix.kind[1] == Kind.NOT_LISTENING


def test_two_changes_in_one_tick_fade_from_what_was_heard(matrix):
    matrix.set_conference("a", {1: hears(2)})
    settle(matrix)
    matrix.set_conference("a", {1: hears(3)})
    matrix.set_conference("a", {1: hears(4)})
    (fade,) = matrix.plan(8000).fades
    assert fade.speakers.tolist() == [2]
    assert matrix.plan(8000).speakers.tolist() == [2, 4]


def test_the_same_conference_again_costs_nothing(matrix):
    matrix.set_conference("a", {1: hears(2), 2: hears(1)})
    settle(matrix)
    plan = matrix.plan(8000)
    matrix.set_conference("a", {1: hears(2), 2: hears(1)})
    assert settle(matrix).plan(8000) is plan


def test_a_listener_follows_the_latest_conference(matrix):
    matrix.set_conference("a", {1: hears(2), 2: hears(1)})
    settle(matrix)
    matrix.set_conference("b", {1: hears(3)})
    settle(matrix)
    assert matrix.source[:3].tolist() == [-1, 3, 1]
    matrix.set_conference("a", {})
    settle(matrix)
    assert matrix.kind[1] == Kind.UNITY
    assert matrix.plan(8000).listeners.tolist() == [1]


def test_moving_between_conferences_in_any_order_in_one_tick(matrix):
    matrix.set_conference("a", {1: hears(2)})
    settle(matrix)
    matrix.set_conference("a", {})
    matrix.set_conference("b", {1: hears(3)})
    assert matrix.plan(8000).listeners.tolist() == [1]
    settle(matrix)
    assert matrix.source[1] == 3


def test_a_changed_rate_moves_a_listener(matrix):
    matrix.set_conference("a", {1: hears(2, 3), 2: hears(1)})
    settle(matrix)
    matrix.set_rate(1, 48000)
    assert matrix.plan(8000).listeners.tolist() == [2]
    assert matrix.plan(48000).listeners.tolist() == [1]


def test_a_departing_listener_may_change_its_rate(matrix):
    matrix.set_conference("a", {1: hears(2)})
    settle(matrix)
    matrix.set_conference("a", {})
    matrix.set_rate(1, 48000)
    assert settle(matrix).plan(8000).listeners.size == 0
    assert matrix.plan(48000).listeners.size == 0


def test_a_released_row_is_neither_heard_nor_hears_nor_fades(matrix):
    matrix.set_conference("a", {1: hears(2, 3), 2: hears(1, 3), 3: hears(1, 2)})
    settle(matrix)
    matrix.release_row(2)
    for _ in range(2):
        assert matrix.plan(8000).listeners.tolist() == [1, 3]
        assert matrix.plan(8000).speakers.tolist() == [1, 3]
        settle(matrix)
    assert matrix.kind[1:4].tolist() == [Kind.UNITY, Kind.NOT_LISTENING, Kind.UNITY]


def test_padding_is_neither_listener_nor_speaker(matrix):
    everyone = range(5)
    matrix.set_conference("a", {row: hears(*(other for other in everyone if other != row)) for row in everyone})
    plan = settle(matrix).plan(8000)
    assert plan.order.size == 6
    assert plan.listeners.tolist() == plan.speakers.tolist() == [0, 1, 2, 3, 4]
    assert plan.batches[0].gains.shape[1:] == (6, 6)
    assert np.count_nonzero(plan.batches[0].gains) == 20
