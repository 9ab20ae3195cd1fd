from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from tests.world.clock import run
from tests.world.network import Address, Bursts, Conditions, Link, Network


def through(conditions: Conditions, *, seed: int = 1, count: int = 2000) -> list[tuple[int, int]]:
    """(millisecond of arrival, number) of a packet every 20 ms."""
    link: Link[bytes] = Link(conditions, random.Random(seed))
    arrived = []
    for tick in range(count * 20 + 2000):
        if tick % 20 == 0 and tick < count * 20:
            link.send(tick.to_bytes(4, "big"), tick / 1000)
        arrived += [(tick, int.from_bytes(data, "big") // 20) for data in link.deliver(tick / 1000)]
    assert link.next_arrival() is None
    assert link.delivered == link.sent - link.lost + link.duplicated == len(arrived)
    return arrived


def test_a_perfect_link_delivers_all_in_time() -> None:
    assert through(Conditions(delay_s=0.0295), count=50) == [(n * 20 + 30, n) for n in range(50)]


def test_same_seed_same_run_other_seed_another() -> None:
    bad = Conditions(delay_s=0.03, jitter_s=0.04, loss=0.05, duplicate=0.02, reorder=0.05)
    assert through(bad, seed=7) == through(bad, seed=7)
    assert through(bad, seed=7) != through(bad, seed=8)


def test_jitter_spreads_but_keeps_order() -> None:
    arrived = through(Conditions(delay_s=0.03, jitter_s=0.06))
    assert [number for _, number in arrived] == list(range(2000))
    delays = [tick - number * 20 for tick, number in arrived]
    assert min(delays) >= 30
    assert 80 <= max(delays) <= 91


def test_loss_is_as_asked() -> None:
    arrived = through(Conditions(loss=0.1))
    assert 1740 <= len(arrived) <= 1860


def test_bursts_come_together() -> None:
    arrived = {number for _, number in through(Conditions(bursts=Bursts(enter=0.0125, leave=0.25)), count=4000)}
    lost = [number not in arrived for number in range(4000)]
    runs = [len(part) for part in "".join("x" if gone else " " for gone in lost).split()]
    assert 0.03 < sum(lost) / 4000 < 0.07
    assert 3.0 < sum(runs) / len(runs) < 5.0


def test_duplicates_and_reordering() -> None:
    arrived = through(Conditions(duplicate=0.1))
    assert 2140 <= len(arrived) <= 2260
    numbers = [number for _, number in through(Conditions(reorder=0.1))]
    assert sorted(numbers) == list(range(2000))
    overtaken = sum(before > after for before, after in itertools.pairwise(numbers))
    assert 140 <= overtaken <= 260


def test_conditions_may_change_and_giants_are_lost() -> None:
    link: Link[bytes] = Link(Conditions(datagram_bytes_max=1500), random.Random(0))
    link.send(bytes(1501), 0.0)
    link.change(delay_s=1.0)
    link.send(b"x", 0.0)
    assert (link.deliver(0.9), link.deliver(1.0), link.lost) == ([], [b"x"], 1)


class Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: list[tuple[float, bytes, Address]] = []

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.heard.append((asyncio.get_running_loop().time(), data, addr))


def test_endpoints_talk_over_links() -> None:
    async def scenario() -> list[tuple[float, bytes, Address]]:
        network = Network(asyncio.get_running_loop(), seed=3, conditions=Conditions(delay_s=0.5))
        relay, listener = network.open(Listener, ("10.0.0.1", 5000))
        peer, _ = network.open(Listener, ("10.0.0.2", 0))
        assert peer.get_extra_info("sockname") == ("10.0.0.2", 40_000)
        peer.sendto(b"one", ("10.0.0.1", 5000))
        peer.sendto(b"nobody", ("10.0.0.1", 5001))
        network.link("10.0.0.2", "10.0.0.1").change(delay_s=0.1)
        await asyncio.sleep(0.2)
        peer.sendto(b"two", ("10.0.0.1", 5000))
        await asyncio.sleep(2)
        relay.close()
        peer.sendto(b"too late", ("10.0.0.1", 5000))
        await asyncio.sleep(1)
        assert network.unreachable == 2
        with pytest.raises(OSError, match="in use"):
            network.open(Listener, ("10.0.0.2", 40_000))
        return listener.heard

    # The second is not faster than the first: the link keeps order.
    assert run(scenario()) == [
        (0.5, b"one", ("10.0.0.2", 40_000)),
        (0.5, b"two", ("10.0.0.2", 40_000)),
    ]


def test_a_busy_link_keeps_one_timer() -> None:
    """With a timer a datagram, each setting the next, this took minutes."""

    async def scenario() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        bad = Conditions(delay_s=0.5, jitter_s=0.2, reorder=0.1)
        network = Network(loop, seed=3, conditions=bad)
        _, listener = network.open(Listener, ("10.0.0.1", 5000))
        peer, _ = network.open(Listener, ("10.0.0.2", 0))
        most = 0
        for _ in range(2000):
            peer.sendto(b"x", ("10.0.0.1", 5000))
            await asyncio.sleep(0.02)
            most = max(most, len(loop._scheduled))  # type: ignore[attr-defined]  # BaseEventLoop's heap of timers
        await asyncio.sleep(1)
        return len(listener.heard), most

    heard, most = run(scenario())
    assert heard == 2000
    assert most < 20
