"""The machines against the figures of RFC 3261 §17 and RFC 6026, and every timer at its exact time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.sip.events import Flow, FlowId, Timing, Transport
from signaling.sip.message import Request, Response
from signaling.sip.transaction import TABLES, Input, Kind, State, Transaction

INITIAL, CALLING, TRYING, PROCEEDING = State.INITIAL, State.CALLING, State.TRYING, State.PROCEEDING
COMPLETED, CONFIRMED, ACCEPTED, TERMINATED = State.COMPLETED, State.CONFIRMED, State.ACCEPTED, State.TERMINATED


def begin(kind: Kind, transport: Transport = "udp") -> Transaction:
    flow = Flow(FlowId("f"), transport, ("127.0.0.1", 1), ("127.0.0.1", 2))
    transaction = Transaction(kind, Request(method="X", uri="sip:a"), flow, Timing())
    transaction.response = Response()
    transaction.handle("start", 0.0)
    return transaction


def run(transaction: Transaction, until: float = 1000.0) -> list[tuple[float, str]]:
    """What the machine does by itself, and when."""
    done = []
    while (at := transaction.next_timer()) is not None and at <= until:
        done += [(at, action) for action in transaction.handle_timers(at)]
    return done


RETRANSMISSIONS_A = [(0.5, "send"), (1.5, "send"), (3.5, "send"), (7.5, "send"), (15.5, "send"), (31.5, "send")]
RETRANSMISSIONS_E = [(t, "send") for t in (0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)]


@pytest.mark.parametrize(
    ("kind", "transport", "inputs", "expected", "state_at_32"),
    [
        ("invite client", "udp", [], [*RETRANSMISSIONS_A, (32.0, "timeout")], TERMINATED),
        ("invite client", "tls", [], [(32.0, "timeout")], TERMINATED),
        ("invite client", "udp", ["1xx"], [], PROCEEDING),
        ("invite client", "udp", ["failure"], [], TERMINATED),
        ("invite client", "udp", ["2xx"], [], TERMINATED),
        ("client", "udp", [], [*RETRANSMISSIONS_E, (32.0, "timeout")], TERMINATED),
        ("client", "tcp", [], [(32.0, "timeout")], TERMINATED),
        (
            "client", "udp", ["1xx"],
            [(0.5, "send"), *((4.5 + 4 * n, "send") for n in range(7)), (32.0, "timeout")], TERMINATED,
        ),
        ("client", "udp", ["2xx"], [], TERMINATED),
        ("invite server", "udp", [], [], PROCEEDING),
        ("invite server", "udp", ["failure"], [*RETRANSMISSIONS_E, (32.0, "timeout")], TERMINATED),
        ("invite server", "tls", ["failure"], [(32.0, "timeout")], TERMINATED),
        ("invite server", "udp", ["failure", "ack"], [], TERMINATED),
        ("invite server", "udp", ["2xx"], [], TERMINATED),
        ("server", "udp", [], [], TRYING),
        ("server", "udp", ["2xx"], [], TERMINATED),
    ],
)  # fmt: skip
def test_timers_to_the_second(
    kind: Kind, transport: Transport, inputs: list[Input], expected: list[tuple[float, str]], state_at_32: State
) -> None:
    transaction = begin(kind, transport)
    for each in inputs:
        transaction.handle(each, 0.0)
    assert run(transaction, 32.0) == expected
    assert transaction.state is state_at_32


@pytest.mark.parametrize(
    ("kind", "inputs", "transport", "ends_at"),
    [
        ("invite client", ["failure"], "udp", 32.0),  # D
        ("invite client", ["failure"], "tls", 0.0),
        ("invite client", ["2xx"], "udp", 32.0),  # M
        ("invite client", ["2xx"], "tls", 32.0),
        ("client", ["2xx"], "udp", 5.0),  # K
        ("client", ["failure"], "tls", 0.0),
        ("invite server", ["failure", "ack"], "udp", 5.0),  # I
        ("invite server", ["failure", "ack"], "tls", 0.0),
        ("invite server", ["2xx"], "udp", 32.0),  # L
        ("invite server", ["2xx"], "tls", 32.0),
        ("server", ["failure"], "udp", 32.0),  # J
        ("server", ["failure"], "tls", 0.0),
    ],
)
def test_how_long_a_finished_transaction_lingers(
    kind: Kind, inputs: list[Input], transport: Transport, ends_at: float
) -> None:
    transaction = begin(kind, transport)
    for each in inputs:
        transaction.handle(each, 0.0)
    assert transaction.next_timer() == ends_at
    assert run(transaction) == []
    assert transaction.state is TERMINATED


@pytest.mark.parametrize(
    ("kind", "inputs", "actions", "state"),
    [
        ("invite client", ["1xx", "1xx", "2xx", "2xx"], ["pass", "pass", "pass", "pass"], ACCEPTED),
        ("invite client", ["failure", "failure"], ["ack", "pass", "ack"], COMPLETED),
        ("invite client", ["1xx", "failure"], ["pass", "ack", "pass"], COMPLETED),
        ("invite client", ["2xx", "1xx", "failure"], ["pass"], ACCEPTED),
        ("invite client", ["error"], ["error"], TERMINATED),
        ("client", ["1xx", "2xx", "2xx", "failure"], ["pass", "pass"], COMPLETED),
        ("invite server", ["request", "1xx", "request", "2xx", "request", "ack"], ["send"] * 4, ACCEPTED),
        ("invite server", ["failure", "request", "ack", "request", "ack", "2xx"], ["send", "send"], CONFIRMED),
        ("server", ["request", "1xx", "request", "2xx", "request", "failure"], ["send"] * 4, COMPLETED),
        ("server", ["error"], ["error"], TERMINATED),
    ],
)
def test_courses(kind: Kind, inputs: list[Input], actions: list[str], state: State) -> None:
    transaction = begin(kind)
    assert [action for each in inputs for action in transaction.handle(each, 0.0)] == actions
    assert transaction.state is state


INPUTS: list[Input] = ["request", "ack", "1xx", "2xx", "failure", "error"]


@given(
    st.sampled_from(list(TABLES)),
    st.sampled_from(["udp", "tls"]),
    st.lists(st.tuples(st.sampled_from(INPUTS), st.floats(0, 20)), max_size=10),
)
def test_every_course_ends_or_waits_for_the_peer(
    kind: Kind, transport: Transport, steps: list[tuple[Input, float]]
) -> None:
    transaction, now = begin(kind, transport), 0.0
    for what, later in steps:
        now += later
        run(transaction, now)
        transaction.handle(what, now)
    run(transaction, now + 100.0)
    # Only a server that its user has not let answer, and an INVITE that rings, may stay for ever.
    assert transaction.state in {TERMINATED, PROCEEDING, TRYING}
    assert transaction.state is not TERMINATED or not transaction.timers


def test_a_transport_that_fails_once_terminated_says_nothing() -> None:
    transaction = begin("client", "tls")
    transaction.handle("2xx", 0.0)
    assert run(transaction) == []
    assert transaction.handle("error", 1.0) == ()
