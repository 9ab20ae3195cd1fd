"""The way of the plane's events to the control loop."""

import asyncio

from relay import media
from relay.calls.control import MediaInbox


async def test_a_full_inbox_keeps_what_is_said_once() -> None:
    inbox = MediaInbox(asyncio.get_running_loop(), events_max=3)
    taken: list[media.MediaEvent] = []
    inbox.deliver = taken.extend
    leg_id = media.LegId("a")
    report = media.LegReport(leg_id, media.LegStatistics())
    closed = media.LegClosed(leg_id, media.LegStatistics())
    refused = media.CommandRefused("contact", None, "too many steps wait for the plane")
    inbox.put([report, report])
    inbox.put([report, closed, report, refused])
    await asyncio.sleep(0)
    assert taken == [report, report, closed, refused]
    assert inbox.dropped == 2
