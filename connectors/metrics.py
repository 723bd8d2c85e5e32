"""Figures of a running process over HTTP, for Prometheus."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from connectors.kafka.client import KafkaProblem
from connectors.kafka.sinks import Outbox
from connectors.kafka.source import KafkaSource
from schemas.batches import AccountBatch, BarBatch
from schemas.codes import Outcome, Reason
from schemas.config import NS, Metrics


class Figures:
    """What a process has read, decided and written."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bars = Counter("sluice_bars", "bars of instruments read", registry=self.registry)
        self.ignored = Counter("sluice_ignored", "bars of other symbols", registry=self.registry)
        self.last_bar = Gauge(
            "sluice_last_bar_seconds", "end of the newest bar, in seconds since 1970", registry=self.registry
        )
        self.records = Counter(
            "sluice_written", "records that the brokers have confirmed", ["topic"], registry=self.registry
        )
        self.refusals = Counter(
            "sluice_refusals", "increases that a gate refused", ["reason"], registry=self.registry
        )
        self.level = Gauge(
            "sluice_halt_level", "0 active, 1 reducing, 2 halted, 3 killed", registry=self.registry
        )
        self.newest_ns = 0

    def read_bars(self, batches: Iterable[BarBatch], ignored: int) -> None:
        for batch in batches:
            self.bars.inc(len(batch))
            self.newest_ns = max(self.newest_ns, int(batch.end_ns.max()))
        self.ignored.inc(ignored)
        self.last_bar.set(self.newest_ns / NS)

    def decided(self, batch: AccountBatch) -> None:
        self.level.set(batch.level)
        for decision in batch.decisions[batch.decisions["outcome"] == Outcome.REFUSED]:
            self.refusals.labels(Reason(int(decision["reason"])).name.lower()).inc()

    def written(self, outbox: Outbox) -> None:
        for record in outbox.records:
            self.records.labels(record.topic).inc()


class _Reading(Collector):
    """Where the process is in its topics."""

    def __init__(self, source: KafkaSource[Any]):
        self.source = source

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        source = self.source
        yield CounterMetricFamily("sluice_polls", "calls of the input", value=source.polls)
        yield CounterMetricFamily("sluice_epochs", "epochs that have ended", value=source.epochs)
        yield CounterMetricFamily(
            "sluice_epoch_stall_seconds", "time without a poll at the ends of epochs", value=source.stalled
        )
        yield GaugeMetricFamily(
            "sluice_longest_epoch_stall_seconds", "the most of one epoch", value=source.longest_stall
        )
        yield GaugeMetricFamily(
            "sluice_newest_record_age_seconds",
            "age of the newest record read, by its timestamp at the broker; 0 before the first",
            value=max(time() - source.newest_ms / 1000, 0) if source.newest_ms else 0,
        )
        where = ["topic", "partition"]
        position = GaugeMetricFamily("sluice_position", "offset of the next record", labels=where)
        lag = GaugeMetricFamily("sluice_lag_records", "offsets between it and the end", labels=where)
        for (topic, partition), offset in sorted(source.positions.items()):
            place = [topic, str(partition)]
            position.add_metric(place, offset)
            lag.add_metric(place, max(source.high_watermarks.get((topic, partition), offset) - offset, 0))
        yield from (position, lag)


@contextmanager
def serve_metrics(metrics: Metrics | None, source: KafkaSource[Any], figures: Figures) -> Iterator[None]:
    """Serve figures while the process runs, if section [metrics] asks for it. Raises `KafkaProblem`."""
    if metrics is None:
        yield
        return
    figures.registry.register(_Reading(source))
    try:
        server, thread = start_http_server(metrics.port, metrics.host, figures.registry)
    except OSError as error:
        raise KafkaProblem(
            f"[metrics] {metrics.host}:{metrics.port} cannot be listened on: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
