"""From the sockets to the jitter buffers: whose each datagram is, whether it is authentic, and where it plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relay.codecs.opus import packet_samples
from relay.media import ControlDatagram, LegLatched, MediaEvent, TelephoneEvent
from relay.plane.dtmf import EndedEvent
from relay.plane.endpoints import UNKNOWN, Endpoints
from relay.plane.jitter import JitterBuffers, Placement
from relay.plane.latching import Latching, LatchSettings
from relay.plane.legs import OPUS, Leg, LegTable
from relay.plane.opus_stream import HALF_SAMPLES
from relay.plane.packets import MediaSockets, PacketTable, Rows, endpoint_address, endpoint_socket
from relay.plane.reception import Reception
from relay.plane.rings import HALF_BYTES, PayloadRings
from relay.plane.rtp import COMFORT_NOISE, classify, header_words, payload_bounds
from relay.plane.srtp import OK, REPLAYED, SSRCS_MAX, RowCrypto

_INTERLEAVED_SECONDS = 0.2
"""An SSRC that a leg left comes back only when the present one has been silent for so long."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """How much of each kind one tick takes."""

    packets_max: int = 4096
    """Datagrams; the rest waits in the kernel."""
    control_known_max: int = 128
    """STUN and DTLS datagrams from addresses of legs."""
    control_unknown_max: int = 64
    """The same from strangers."""
    control_source_max: int = 16
    """The same from one address."""
    reports_max: int = 256
    """RTCP packets."""
    events_max: int = 256
    """Telephone-event packets."""
    latch: LatchSettings = field(default_factory=LatchSettings)


@dataclass(slots=True)
class IntakeCounters:
    """What became of datagrams that are no leg's sound; all since the start."""

    received: int = 0
    table_full: int = 0
    """Ticks whose table was full."""
    malformed: int = 0
    control_dropped: int = 0
    reports_dropped: int = 0
    events_dropped: int = 0
    strangers: int = 0
    """RTP and RTCP from addresses of no leg."""
    unauthenticated: int = 0
    unexpected_payload: int = 0
    """Authentic packets of a payload type that was not negotiated."""
    stray_ssrc: int = 0
    """Authentic packets of an SSRC that the leg has left, or of one too many."""


@dataclass(frozen=True, slots=True)
class Packets:
    """RTP packets of a tick, in order of arrival."""

    rows: Rows
    """Of the packet table, ascending."""
    legs: Rows
    words: NDArray[np.uint32]
    """Their headers, as `header_words` gives them."""

    @property
    def sequences(self) -> NDArray[np.uint16]:
        """RFC 3550 §5.1, as are the others."""
        return self.words[:, 0].astype(np.uint16)

    @property
    def payload_types(self) -> NDArray[np.uint32]:
        """Seven bits."""
        return self.words[:, 0] >> np.uint32(16) & np.uint32(0x7F)

    @property
    def timestamps(self) -> NDArray[np.uint32]:
        """In ticks of the codec's RTP clock."""
        return self.words[:, 1]

    @property
    def ssrcs(self) -> NDArray[np.uint32]:
        """Whose stream each is of."""
        return self.words[:, 2]

    def only(self, which: NDArray[np.bool_] | Rows) -> Packets:
        """Some of them."""
        return Packets(self.rows[which], self.legs[which], self.words[which])


class Intake:
    """One tick's datagrams, batch by batch."""

    def __init__(
        self,
        legs: LegTable,
        sockets: MediaSockets,
        jitter: JitterBuffers,
        rings: PayloadRings,
        settings: IntakeSettings | None = None,
        *,
        report: Callable[[Leg, bytes, float], None],
        latched: Callable[[], None],
    ) -> None:
        self.settings = settings or IntakeSettings()
        self.counters = IntakeCounters()
        self.endpoints = Endpoints()
        self.reception = Reception(legs.legs_max)
        self.latching = Latching(legs, self.endpoints, self.settings.latch)
        self._legs = legs
        self._sockets = sockets
        self._jitter = jitter
        self._rings = rings
        self._report = report
        self._order_changed = latched
        self._table = PacketTable(self.settings.packets_max)
        self._crypto = RowCrypto(self._table)
        self._events: list[MediaEvent] = []
        self._sounding: dict[int, Leg] = {}
        """Legs whose telephone event has begun and not ended."""

    def receive(self, now: float, due: float, events: list[MediaEvent]) -> None:
        """Take what came, and add to `events`; `due` is when the tick that plays next should have begun."""
        self._events = events
        table = self._table
        count = self._sockets.receive(table, now)
        if count:
            self.counters.received += count
            self.counters.table_full += count == table.rows
            words = header_words(table, count)
            kinds = classify(words, table.length[:count])
            self.counters.malformed += kinds.malformed
            owners = self.endpoints.find(table.endpoint[:count])
            if kinds.control.size:
                self._pass_control(kinds.control, owners)
            if kinds.rtcp.size:
                self._receive_reports(kinds.rtcp, owners)
            if kinds.rtp.size:
                packets = Packets(kinds.rtp, owners, words)
                if kinds.rtp.size < count:
                    packets = Packets(kinds.rtp, owners[kinds.rtp], words[kinds.rtp])
                self._receive_packets(packets, now, due)

    def _pass_control(self, rows: Rows, owners: Rows) -> None:
        """Hand STUN and DTLS to the control plane; strangers cannot crowd out the legs, nor one source the others."""
        settings, table = self.settings, self._table
        known = owners[rows] != UNKNOWN
        sources: dict[int, int] = {}
        for chosen, limit in ((rows[known], settings.control_known_max), (rows[~known], settings.control_unknown_max)):
            passed = 0
            for row in chosen[: 4 * limit].tolist():
                endpoint = int(table.endpoint[row])
                socket = endpoint_socket(endpoint)
                sources[endpoint] = sources.get(endpoint, 0) + 1
                if passed == limit:
                    break
                if sources[endpoint] <= settings.control_source_max and socket % 2 == 0:
                    local = self._sockets.addresses[socket // 2]
                    self._events.append(ControlDatagram(local, endpoint_address(endpoint), table.datagram(row)))
                    passed += 1
            self.counters.control_dropped += chosen.size - passed

    def _receive_reports(self, rows: Rows, owners: Rows) -> None:
        known = rows[owners[rows] != UNKNOWN]
        self.counters.strangers += rows.size - known.size
        self.counters.reports_dropped += max(0, known.size - self.settings.reports_max)
        for row in known[: self.settings.reports_max].tolist():
            self._legs.at_work = leg = self._legs.leg(int(owners[row]))
            packet = self._table.datagram(row)
            plain = packet if leg.inbound is None else leg.inbound.unprotect_rtcp(packet)
            if plain is None:
                self.counters.unauthenticated += 1
                self._legs.unauthenticated[leg.row] += 1
            else:
                self._report(leg, plain, float(self._table.arrival[row]))
        self._legs.at_work = None

    def _receive_packets(self, packets: Packets, now: float, due: float) -> None:
        familiar = False
        if packets.legs.min() == UNKNOWN:
            packets = self._receive_strangers(packets, now)
        else:
            familiar = self._are_familiar(packets)
            packets = self._authenticate(packets, familiar=familiar)
        if packets.rows.size:
            self._sort(packets, now, due, familiar=familiar)

    def _are_familiar(self, packets: Packets) -> bool:
        """Whether all are of the streams that their legs are known to send."""
        return bool((packets.ssrcs == self._legs.ssrc.take(packets.legs)).all())

    def _receive_strangers(self, packets: Packets, now: float) -> Packets:
        """Packets of which some come from unknown addresses: what is authentic, and whose it is."""
        adopted = self._adopt(packets.rows[packets.legs == UNKNOWN], now)
        # What else these sources sent in this tick belongs to the legs that were just found.
        packets = Packets(packets.rows, self.endpoints.find(self._table.endpoint[packets.rows]), packets.words)
        plain = np.isin(packets.rows, adopted)
        known = packets.legs != UNKNOWN
        self.counters.strangers += int(np.count_nonzero(~known & ~plain))
        opened = packets.only(plain & known)
        others = self._authenticate(packets.only(known & ~plain), familiar=False)
        rows = np.concatenate([opened.rows, others.rows])
        order = np.argsort(rows)
        legs, words = np.concatenate([opened.legs, others.legs]), np.concatenate([opened.words, others.words])
        return Packets(rows[order], legs[order], words[order])

    def _adopt(self, rows: Rows, now: float) -> Rows:
        adopted = self.latching.adopt(self._table, rows, now)
        for row, leg in adopted:
            self.latch(leg, int(self._table.endpoint[row]))
        return np.array([row for row, _ in adopted], np.intp)

    def latch(self, leg: Leg, endpoint: int) -> None:
        """A leg's authenticated packets come from here."""
        self.latching.latch(leg, endpoint)
        self._order_changed()
        self._say_latched(leg)

    def _say_latched(self, leg: Leg) -> None:
        leg.latch_said = True
        self._events.append(LegLatched(leg.leg_id, endpoint_address(leg.endpoint)))

    def _authenticate(self, packets: Packets, *, familiar: bool) -> Packets:
        """Decrypt in place; returns what is authentic, and counts the rest."""
        if not familiar:
            packets = packets.only(self._has_room(packets))
        encrypted = self._legs.encrypted.take(packets.legs)
        if encrypted.all():
            good = self._unprotect(packets)
        else:
            opened = self._unprotect(packets.only(encrypted))
            good = None if opened is None else ~encrypted
            if good is not None:
                good[encrypted] = opened
        return packets if good is None else packets.only(good)

    def _has_room(self, packets: Packets) -> NDArray[np.bool_]:
        """False for an SSRC beyond those that a leg's SRTP context may come to know."""
        room: NDArray[np.bool_] = np.ones(packets.rows.size, np.bool_)
        for i in np.flatnonzero(packets.ssrcs != self._legs.ssrc[packets.legs]).tolist():
            known = self._legs.leg(int(packets.legs[i])).ssrcs
            room[i] = len(known) < SSRCS_MAX - 1 or int(packets.ssrcs[i]) in known
        self.counters.stray_ssrc += int(np.count_nonzero(~room))
        return room

    def _unprotect(self, packets: Packets) -> NDArray[np.bool_] | None:
        """Which packets are authentic; None: all are."""
        rows, legs = packets.rows, packets.legs.tolist()
        count = rows.size
        stretch = range(count) if count and rows[-1] == count - 1 else rows.tolist()
        statuses = self._crypto.unprotect(stretch, map(self._legs.receive_handles.__getitem__, legs))
        if not any(statuses):
            return None
        for leg, status in zip(legs, statuses, strict=True):
            if status in REPLAYED:
                self._legs.replayed[leg] += 1
            elif status != OK:
                self._legs.unauthenticated[leg] += 1
                self.counters.unauthenticated += 1
        good: NDArray[np.bool_] = np.array(statuses) == OK
        return good

    def _sort(self, packets: Packets, now: float, due: float, *, familiar: bool) -> None:
        """Sort authentic packets by what they carry; only sound of legs on a contact goes on."""
        table, legs = self._legs, packets.legs
        if not familiar:
            packets = packets.only(self._follow_ssrcs(packets, now))
            legs = packets.legs
        table.heard[legs] = now
        payload_types = packets.payload_types
        sound = payload_types == table.payload_type.take(legs)
        arrivals = self._table.arrival.take(packets.rows)
        self.reception.receive(legs, packets.sequences, packets.timestamps, arrivals, sound)
        if not sound.all():
            self._receive_other(packets.only(~sound), payload_types[~sound], now)
            packets, arrivals = packets.only(sound), arrivals[sound]
        active = table.active.take(packets.legs)
        if not active.all():
            np.add.at(table.off_contact, packets.legs[~active], 1)
            packets, arrivals = packets.only(active), arrivals[active]
        if packets.rows.size:
            self._place(packets, (due - arrivals) * 1000.0)

    def _follow_ssrcs(self, packets: Packets, now: float) -> NDArray[np.bool_]:
        """A new SSRC is the leg's from now on; one that it left comes back only into silence (a forked call)."""
        legs, ssrcs = packets.legs, packets.ssrcs
        for i in np.flatnonzero(ssrcs != self._legs.ssrc[legs]).tolist():
            row, ssrc = int(legs[i]), int(ssrcs[i])
            leg, present = self._legs.leg(row), int(self._legs.ssrc[row])
            if ssrc == present:
                continue
            if ssrc in leg.ssrcs and now - float(self._legs.heard[row]) < _INTERLEAVED_SECONDS:
                continue
            if present >= 0:
                leg.ssrcs |= {present}
                self.restart(leg)
            elif not leg.latch_said:
                self._say_latched(leg)
            self._legs.ssrc[row] = ssrc
        same: NDArray[np.bool_] = ssrcs == self._legs.ssrc[legs]
        self.counters.stray_ssrc += int(np.count_nonzero(~same))
        return same

    def expect_reports(self, leg: Leg) -> None:
        """RTCP that is not multiplexed comes from where signalling said, unless another leg's does."""
        if self.endpoints.owner(leg.report_endpoint) == UNKNOWN:
            self.endpoints.put(leg.report_endpoint, leg.row)

    def begin_playout(self, leg: Leg) -> None:
        """A leg comes onto a contact: what it sent before is not played."""
        self._jitter.reset(leg.row)
        if leg.opus is not None:
            leg.opus.reset()

    def forget(self, leg: Leg) -> None:
        """A leg closes."""
        self.latching.forget(leg)
        self._sounding.pop(leg.row, None)

    def expire_events(self, now: float) -> list[tuple[Leg, EndedEvent]]:
        """Telephone events whose end packets were all lost."""
        ended = [(leg, event) for leg in self._sounding.values() for event in leg.events.expire(now)]
        for leg, _ in ended:
            del self._sounding[leg.row]
        return ended

    def restart(self, leg: Leg) -> None:
        """Another stream begins on a leg: its own sequence numbers, its own timeline."""
        self.reception.restart(leg.row)
        self.begin_playout(leg)

    def _receive_other(self, packets: Packets, payload_types: NDArray[np.uint32], now: float) -> None:
        """Telephone events; comfort noise, which says that nothing is missing; and what was never negotiated."""
        is_event = payload_types == self._legs.event_type[packets.legs]
        noise = int(np.count_nonzero(~is_event & (payload_types == COMFORT_NOISE)))
        events = np.flatnonzero(is_event)
        self.counters.unexpected_payload += payload_types.size - events.size - noise
        self.counters.events_dropped += max(0, events.size - self.settings.events_max)
        chosen = packets.only(events[: self.settings.events_max])
        offsets, sizes = payload_bounds(self._table, chosen.rows, chosen.words)
        rows, legs, timestamps = chosen.rows.tolist(), chosen.legs.tolist(), chosen.timestamps.tolist()
        for row, at, timestamp, offset, size in zip(
            rows, legs, timestamps, offsets.tolist(), sizes.tolist(), strict=True
        ):
            self._legs.at_work = leg = self._legs.leg(at)
            payload = self._table.data[row, offset : offset + max(size, 0)].tobytes()
            for ended in leg.events.receive(payload, timestamp, now):
                self._events.append(telephone_event(leg, ended, int(self._jitter.clock[leg.row])))
            if leg.events.going_on:
                self._sounding[leg.row] = leg
            else:
                self._sounding.pop(leg.row, None)
        self._legs.at_work = None

    def _place(self, packets: Packets, ages_ms: NDArray[np.float64]) -> None:
        """Put sound where it plays."""
        offsets, durations = payload_bounds(self._table, packets.rows, packets.words)
        opus = np.flatnonzero(self._legs.encoding.take(packets.legs) == OPUS)
        units: NDArray[np.int32] | int = HALF_BYTES
        if opus.size:
            self._measure_opus(packets.rows[opus], opus, offsets, durations)
            units = np.full(durations.size, HALF_BYTES, np.int32)
            units[opus] = HALF_SAMPLES
        sound = (durations > 0) & (durations % units == 0)
        if not sound.all():
            self.counters.malformed += int(np.count_nonzero(~sound))
            packets, offsets, durations, ages_ms = packets.only(sound), offsets[sound], durations[sound], ages_ms[sound]
        placement = self._jitter.place(packets.legs, packets.timestamps, durations, ages_ms)
        if opus.size:
            placement = self._keep_opus(packets, offsets, placement)
        self._rings.put(packets.legs, placement, self._table, packets.rows, offsets)

    def _measure_opus(self, rows: Rows, opus: Rows, offsets: NDArray[np.int32], durations: NDArray[np.int32]) -> None:
        """How long packets last, by their own first bytes (RFC 6716 §3.1) and not by their size."""
        for row, i in zip(rows.tolist(), opus.tolist(), strict=True):
            payload = self._table.data[row, offsets[i] : offsets[i] + max(durations[i], 0)]
            durations[i] = packet_samples(payload, payload.size)

    def _keep_opus(self, packets: Packets, offsets: NDArray[np.int32], placement: Placement) -> Placement:
        """Keep the packets of Opus legs; returns the others' places."""
        table = self._table
        opus = self._legs.encoding[packets.legs[placement.kept]] == OPUS
        for kept in np.flatnonzero(opus).tolist():
            i = int(placement.kept[kept])
            self._legs.at_work = leg = self._legs.leg(int(packets.legs[i]))
            stream = leg.opus
            assert stream is not None, "legs of this encoding have one"
            row, offset = int(packets.rows[i]), int(offsets[i])
            _, size = payload_bounds(table, packets.rows[i : i + 1], packets.words[i : i + 1])
            stream.put(int(placement.half[kept]), table.data[row, offset : offset + int(size[0])].tobytes())
        self._legs.at_work = None
        return placement.only(~opus)


def telephone_event(leg: Leg, ended: EndedEvent, clock: int) -> TelephoneEvent:
    """An event with its duration in milliseconds; `clock` is RTP clock ticks in 20 ms."""
    return TelephoneEvent(leg.leg_id, ended.event, ended.duration * 20 // clock)
