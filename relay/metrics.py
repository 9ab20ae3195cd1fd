"""The numbers that a relay tells Prometheus, read from its parts whenever somebody asks for them.

A scrape costs the parts nothing between two scrapes. Labels take only values from short lists of our own (reasons,
states, names from the configuration): a peer cannot make a new time series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from recorder.worker import Recorder
from relay.calls.control import Control, MediaInbox
from relay.calls.exchange import Exchange
from relay.calls.keeper import Keeper
from relay.plane.plane import Plane
from relay.plane.ticker import Spread, Ticker
from relay.webrtc.softphone_leg import SoftphoneTransports
from signaling.database_writer import DatabaseWriter
from signaling.sip.socket import SipSockets
from signaling.sip.user_agent import UserAgent
from signaling.softphone.socket import SoftphoneSocket

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `Metrics.exposition` gives."""

_STANDSTILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running relay, as far as they have something to count."""

    version: str
    exchange: Exchange
    control: Control
    plane: Plane
    ticker: Ticker
    inbox: MediaInbox
    recorder: Recorder
    keeper: Keeper
    writer: DatabaseWriter
    transports: SoftphoneTransports
    softphones: SoftphoneSocket
    agent: UserAgent
    sip: SipSockets


class Metrics(Collector):
    """All metrics of one relay."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def health(self) -> Mapping[str, object]:
        """Whether the relay does its work: ticks pass, recordings reach the disk, records the database."""
        recording = self._parts.recorder.statistics()
        problems = {
            "the media plane stands still": self._parts.ticker.standstill_seconds > _STANDSTILL_SECONDS,
            "the recorder cannot write its journal": recording.stage_failing,
            "writes to the database were lost": self._parts.keeper.lost > 0,
            "events of the plane were lost": self._parts.inbox.dropped > 0,
        }
        found = [problem for problem, is_there in problems.items() if is_there]
        return {"ok": not found, "problems": found, "version": self._parts.version}

    def collect(self) -> Iterable[Metric]:
        """Read all parts once."""
        for read in (self._calls, self._media, self._signalling, self._recording):
            yield from read()

    def _calls(self) -> Iterator[Metric]:
        exchange, keeper = self._parts.exchange, self._parts.keeper
        entries = exchange.contacts.all.values()
        yield _gauge("koppel_build_info", "The running program.", {self._parts.version: 1.0}, "version")
        stages = Counter(entry.contact.state.stage.value for entry in entries)
        yield _gauge("koppel_contacts", "Contacts at present, by stage.", stages, "stage")
        yield _counter("koppel_contacts_ended", "Contacts that ended, by whose doing.", keeper.outcomes, "outcome")
        waiting = {name: exchange.queues.waiting(name) for name in exchange.queues.names}
        yield _gauge("koppel_queue_waiting", "Callers that wait.", waiting, "queue")
        states = Counter(agent.state.value for agent in exchange.agents.all)
        yield _gauge("koppel_agents", "Agents that have logged in since the start.", states, "state")
        yield CounterMetricFamily("koppel_defects", "Events that could not be dealt with.", self._parts.control.defects)
        yield _counter("koppel_exchange_events", "What came to the exchange.", exchange.counts, "event")
        yield _counter("koppel_agent_events_ignored", "Events that did not fit.", exchange.agents.ignored, "event")

    def _media(self) -> Iterator[Metric]:
        plane, transports = self._parts.plane.statistics(), self._parts.transports
        for name in ("legs", "conferences", "tracks", "steps_waiting"):
            yield GaugeMetricFamily(f"koppel_plane_{name}", f"{name} of the plane at present.", plane[name])
        yield from self._packets()
        yield CounterMetricFamily("koppel_media_events_lost", "The control loop was stuck.", self._parts.inbox.dropped)
        ticks = self._parts.ticker.statistics()
        yield CounterMetricFamily("koppel_ticks_missed", "Ticks that did not take place.", ticks.missed_ticks)
        yield _spread("koppel_tick_lateness_ms", "How late ticks began, since the start.", ticks.late_ms)
        yield _spread("koppel_tick_duration_ms", "How long ticks took, since the start.", ticks.tick_ms)
        text = "Ticks that ended after the next one was due."
        yield CounterMetricFamily("koppel_ticks_long", text, ticks.long_ticks)
        spent = self._parts.plane.times.totals
        yield _counter("koppel_tick_stage_seconds", "Time spent in ticks, by stage.", spent, "stage")
        if ticks.worst:
            worst = ticks.worst[0]
            parts = {"late": worst.late_ms, "all": worst.tick_ms, "cpu": worst.cpu_ms, **worst.stage_ms}
            yield _gauge("koppel_tick_worst_ms", "The tick that ended latest, since the start.", parts, "part")
        counters = asdict(transports.counters)
        yield _counter("koppel_softphone_media", "What became of browsers' ICE and DTLS.", counters, "event")

    def _packets(self) -> Iterator[Metric]:
        """What came is the sum of what was taken and what was dropped."""
        plane = self._parts.plane
        outcomes, latching = plane.outcomes, plane.stages.intake.latching.counters
        yield CounterMetricFamily("koppel_packets_received", "Datagrams on media sockets.", outcomes.received)
        taken, dropped = asdict(outcomes.taken), asdict(outcomes.dropped)
        yield _counter("koppel_packets_taken", "Datagrams that came to what they were for.", taken, "kind")
        yield _counter("koppel_packets_dropped", "Datagrams that came to nothing.", dropped, "reason")
        yield CounterMetricFamily("koppel_packets_waited", "Ticks that could not take all.", outcomes.table_full)
        yield _counter("koppel_packets_unsent", "Packets that did not leave.", plane.unsent(), "reason")
        yield _counter("koppel_latching", "What strangers' packets cost and found.", asdict(latching), "event")
        yield _counter("koppel_plane_events", "What the plane had to deal with.", plane.counters, "event")

    def _signalling(self) -> Iterator[Metric]:
        sip = self._parts.agent.counters + self._parts.sip.counters
        yield _counter("koppel_sip_events", "SIP messages and connections refused or dropped.", sip, "event")
        yield GaugeMetricFamily("koppel_sip_calls", "SIP calls at present.", self._parts.agent.calls)
        softphones = asdict(self._parts.softphones.counters)
        yield _counter("koppel_softphone_events", "What came to the softphone socket.", softphones, "event")
        yield GaugeMetricFamily("koppel_softphone_sessions", "Open WebSockets.", len(self._parts.softphones))

    def _recording(self) -> Iterator[Metric]:
        recorder, keeper = self._parts.recorder.statistics(), self._parts.keeper
        latency = recorder.latency
        durable = {"0.5": latency.p50_ms, "0.99": latency.p99_ms, "1": latency.max_ms}
        yield _gauge("koppel_recording_durable_ms", "From a chunk's last tick until durable.", durable, "quantile")
        yield GaugeMetricFamily("koppel_recording_loss_bound_seconds", "Measured at worst.", latency.loss_bound_s)
        present = {"live": recorder.live, "staged": recorder.staged}
        yield _gauge("koppel_recordings", "Recordings that are not in the store yet.", present, "state")
        yield GaugeMetricFamily("koppel_recording_queue_bytes", "Audio on its way.", recorder.queued_bytes)
        lost = {"overflow": recorder.dropped_frames, "refused": recorder.refused_frames}
        yield _counter("koppel_recording_frames_lost", "Frames of 20 ms that were not recorded.", lost, "reason")
        done = {"stored": recorder.delivered, "failed": recorder.delivery_failures}
        yield _counter("koppel_deliveries", "Recordings stored, and tries that failed.", done, "outcome")
        yield _counter("koppel_alarms", "What an operator must look at.", keeper.alarms, "alarm")
        writer = self._parts.writer
        yield _counter("koppel_database_writes", "Statements that were committed.", writer.written, "what")
        refused = {"queue full": writer.refused, "rejected": writer.rejected}
        yield _counter("koppel_database_writes_lost", "Records that were not written.", refused, "reason")


def _gauge(name: str, text: str, values: Mapping[str, float], label: str) -> Metric:
    return _labelled(GaugeMetricFamily(name, text, labels=[label]), values)


def _counter(name: str, text: str, values: Mapping[str, float], label: str) -> Metric:
    return _labelled(CounterMetricFamily(name, text, labels=[label]), values)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    add: Callable[[list[str], float], None] = family.add_metric
    for value, count in values.items():
        add([value], count)
    return family


def _spread(name: str, text: str, spread: Spread) -> Metric:
    return _gauge(name, text, {"0.5": spread.p50, "0.99": spread.p99, "1": spread.max}, "quantile")
