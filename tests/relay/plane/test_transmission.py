"""What happens when single packets cannot be sent."""

from __future__ import annotations

from relay.plane.srtp import RowCrypto
from tests.relay.media_peers import World, three


def test_a_packet_that_cannot_be_encrypted_is_not_sent_and_the_others_are() -> None:
    world = World()
    a, b, c = three(world)
    world.run(30)
    transmission = world.plane.stages.transmission
    original = transmission._crypto

    class Failing(RowCrypto):
        """libsrtp's `key_expired` (15) for one row."""

        def protect(self, rows, handles):  # type: ignore[no-untyped-def, override]
            statuses = original.protect(rows, handles)
            return [15 if row == 1 else status for row, status in zip(rows, statuses, strict=True)]

    transmission._crypto = Failing(transmission._table)
    before = [len(phone.heard) for phone in (a, b, c)]
    world.run(5)
    assert [len(phone.heard) - heard for phone, heard in zip((a, b, c), before, strict=True)] == [5, 0, 5]
    assert transmission.failed == 5
    transmission._crypto = original
    world.run(30)
    assert a.hears(b.hertz) > 7500
    assert c.hears(b.hertz) > 7500


def test_what_the_system_rejects_is_counted() -> None:
    world = World()
    three(world)
    world.sockets.send = lambda _table, count: count  # type: ignore[method-assign]
    world.run(5)
    assert world.plane.statistics()["unsent_rejected"] == 15 + 1  # a packet a leg and tick, and one report


def test_reports_beyond_the_table_are_dropped_and_counted() -> None:
    world = World()
    world.tick()
    for _ in range(300):
        world.plane.stages.transmission.queue_report(bytes(8), 1 << 20)
    assert world.plane.statistics()["unsent_reports_dropped"] == 300 - 256
    world.sockets.send = lambda _table, count: count  # type: ignore[method-assign]
    world.tick()
    assert world.plane.statistics()["unsent_rejected"] == 256
