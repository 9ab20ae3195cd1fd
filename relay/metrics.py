"""The numbers that the relay tells Prometheus: names, units, labels, and what each means.

One `Metrics` belongs to one relay and has a registry of its own, so that tests and several relays in one process do not
meet. Labels take only values from short lists of our own (reasons, states, names from the configuration): a peer cannot
make a new time series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of creation times for each counter tells nobody anything

__all__ = ["Metrics"]

TICK_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.04, 0.1, 0.5)
DURABLE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 5.0)
DELIVERY_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600)
WAITING_BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800)


class Metrics:
    """All metrics of one relay."""

    def __init__(self, version: str) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=True)
        Info("koppel_build", "The running program.", registry=registry).info({"version": version})
        self._describe_calls(registry)
        self._describe_media(registry)
        self._describe_signalling(registry)
        self._describe_recording(registry)
        self.alarms = Gauge("koppel_alarms", "1 while an alarm is raised.", ["alarm"], registry=registry)

    def _describe_calls(self, registry: CollectorRegistry) -> None:
        self.legs = Gauge("koppel_legs", "Open media legs.", ["kind"], registry=registry)
        self.contacts = Gauge("koppel_contacts", "Contacts at present.", ["state"], registry=registry)
        self.contacts_ended = Counter(
            "koppel_contacts_ended",
            "Contacts that ended, by whose doing: success, client, server, upstream, indeterminate.",
            ["outcome"],
            registry=registry,
        )
        self.queue_waiting = Gauge("koppel_queue_waiting", "Callers that wait.", ["queue"], registry=registry)
        self.queue_seconds = Histogram(
            "koppel_queue_seconds", "How long callers waited.", ["queue"], buckets=WAITING_BUCKETS, registry=registry
        )
        self.agents = Gauge("koppel_agents", "Agents that are logged in.", ["state"], registry=registry)

    def _describe_media(self, registry: CollectorRegistry) -> None:
        self.tick_lateness = Histogram(
            "koppel_tick_lateness_seconds", "How late ticks began.", buckets=TICK_BUCKETS, registry=registry
        )
        self.tick_duration = Histogram(
            "koppel_tick_duration_seconds", "How long ticks took.", buckets=TICK_BUCKETS, registry=registry
        )
        self.ticks_missed = Counter("koppel_ticks_missed", "Ticks that began 20 ms late or more.", registry=registry)
        self.packets_received = Counter(
            "koppel_packets_received", "Datagrams that came to media sockets.", registry=registry
        )
        self.packets_sent = Counter("koppel_packets_sent", "Datagrams that left media sockets.", registry=registry)
        self.packets_dropped = Counter(
            "koppel_packets_dropped", "Datagrams that were dropped, by reason.", ["reason"], registry=registry
        )
        self.frames_concealed = Counter(
            "koppel_frames_concealed", "Frames of 20 ms that were made up for lost ones.", registry=registry
        )

    def _describe_signalling(self, registry: CollectorRegistry) -> None:
        self.sip_requests = Counter("koppel_sip_requests", "SIP requests received.", ["method"], registry=registry)
        self.sip_refused = Counter(
            "koppel_sip_refused", "SIP messages refused or dropped, by reason.", ["reason"], registry=registry
        )
        self.log_ins = Counter("koppel_log_ins", "Log-ins of softphones.", ["outcome"], registry=registry)
        self.softphone_refused = Counter(
            "koppel_softphone_refused", "Softphone requests refused, by reason.", ["reason"], registry=registry
        )

    def _describe_recording(self, registry: CollectorRegistry) -> None:
        self.recording_durable = Histogram(
            "koppel_recording_durable_seconds",
            "From the last tick of a chunk until it is durable.",
            buckets=DURABLE_BUCKETS,
            registry=registry,
        )
        self.recording_tracks = Gauge("koppel_recording_tracks", "Tracks being recorded.", registry=registry)
        self.recording_gap_seconds = Counter(
            "koppel_recording_gap_seconds", "Sound that was to be recorded and was not.", ["reason"], registry=registry
        )
        self.stage_bytes = Gauge("koppel_stage_bytes", "Size of the stage.", registry=registry)
        self.deliveries = Counter(
            "koppel_deliveries", "Contacts delivered to the store: stored, or tries that failed.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.deliveries_waiting = Gauge(
            "koppel_deliveries_waiting", "Ended contacts that are not in the store yet.", registry=registry
        )
        self.delivery_seconds = Histogram(
            "koppel_delivery_seconds", "From a contact's end until it is in the store.", buckets=DELIVERY_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.database_waiting = Gauge(
            "koppel_database_writes_waiting", "Records that are not in the database yet.", registry=registry
        )

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def catalogue(self) -> list[tuple[str, str, str]]:
        """Name, type and meaning of every metric, for the documentation."""
        return sorted((family.name, family.type, family.documentation) for family in self._registry.collect())
