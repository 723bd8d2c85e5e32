"""The benchmark of a topic: replay of the topic of bars beside the fastest that the same bars can be read.

A broker of its own is started, and synthetic bars are published into it. Then, `REPEATS` times in turn and
in one process, a bare consumer reads the topic, which takes 10,000 messages a call and touches each value,
and the whole graph replays it. The consumer reads twice: as the library sets it up, and with the settings
that the replay fetches with. The ratio of the medians travels from machine to machine; bars a second do not.
"""

import os
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from connectors.calendars import load_sessions
from connectors.kafka.client import SERVERS_VARIABLE, client_settings
from connectors.kafka.topic_bars import BULK
from connectors.kafka.topics import ensure
from connectors.recording import BarRecording
from connectors.synthetic import independent_symbols, write_synthetic
from deploy.kafka.broker import Broker, BrokerError
from flows.bench import WORKLOADS, configuration
from flows.process import RunError
from flows.publish import Moment, Publisher, moments
from flows.replay import prepare_topic
from flows.run import run
from schemas.config import Config, parse_config
from schemas.topics import BARS

REPEATS = 5
PARTITIONS = 4
MESSAGES = 10_000  # a call of the bare consumer
PUBLISHED = 20_000  # bars between two confirmations
FIRST = date(2021, 1, 4)
SEED = 7
WORK = replace(WORKLOADS["b"], days=240, about="20 symbols, 240 days, EMA 10/30")


def bench_topic(console: Console) -> dict[str, Any]:
    """Measure, and print one line. Raises `RunError` where no broker of its own can be had, or used."""
    if os.environ.get(SERVERS_VARIABLE):
        raise RunError(f"{SERVERS_VARIABLE} is set; the benchmark fills a broker of its own: unset it")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        broker = Broker(folder / "broker")
        with console.status("topic: starting a broker"):
            try:
                broker.start()
            except BrokerError as problem:
                raise RunError(f"no broker for the benchmark: {problem}") from None
        try:
            config = _configuration(broker.bootstrap)
            with console.status("topic: publishing bars"):
                bars = _publish(config, folder / "recording")
            with console.status(f"topic: {WORK.about}"):
                figures = _measure(config, bars, folder)
        finally:
            broker.stop()
    console.print(
        f"topic: {bars:,} bars, replay {figures['bars_per_second']:,} bars/s, bare consumer "
        f"{figures['consumed_per_second']:,}/s, ratio {figures['ratio_to_consumer']:.2f}; as the library "
        f"sets it up {figures['plain_per_second']:,}/s, ratio {figures['ratio_to_plain']:.2f}"
    )
    return figures


def _configuration(servers: str) -> Config:
    kafka = {
        "bootstrap_servers": servers,
        "account_partition": 0,
        "account_partitions": 1,
        "bars_partitions": PARTITIONS,
        "replication_factor": 1,
    }
    return parse_config({**configuration(WORK).model_dump(), "kafka": kafka})


def _publish(config: Config, recording: Path) -> int:
    """Fill the topic; the number of bars."""
    assert config.kafka is not None
    settings = client_settings(config.kafka, "bench")
    ensure(config.kafka, AdminClient(settings))
    sessions = load_sessions(config.calendar.exchange, config.calendar.first, config.calendar.last)
    bars = write_synthetic(recording, sessions, independent_symbols(WORK.symbols), FIRST, WORK.days, SEED)
    publisher = Publisher(settings, config, config.kafka, 0)
    waiting: list[tuple[str, bytes]] = []
    for moment in moments(BarRecording(recording, config.instruments), sessions):
        waiting += moment.bars
        if len(waiting) >= PUBLISHED:
            publisher.bars(Moment(0, waiting, ticks=False))
            waiting = []
    publisher.bars(Moment(0, waiting, ticks=False))
    return bars


def _measure(config: Config, bars: int, folder: Path) -> dict[str, Any]:
    assert config.kafka is not None
    settings = client_settings(config.kafka, "bench")
    plain, consumed, replayed = [], [], []
    summary: dict[str, Any] = {}
    for k in range(REPEATS + 1):  # the first of each warms up
        plain.append(_consume(settings, bars))
        consumed.append(_consume(settings | BULK, bars))
        ready = prepare_topic(config, folder / f"out-{k}", durable=False)
        summary = run(ready, Console(stderr=True), quiet=True) or {}
        replayed.append(summary["seconds"])
    slow, bare, whole = (statistics.median(row[1:]) for row in (plain, consumed, replayed))
    return {
        "about": WORK.about,
        "bars": summary["bars"],
        "principles_held": sum(row["held"] for row in summary["principles"].values()),
        "bars_per_second": round(bars / whole),
        "consumed_per_second": round(bars / bare),
        "ratio_to_consumer": round(bare / whole, 3),
        "plain_per_second": round(bars / slow),
        "ratio_to_plain": round(slow / whole, 3),
    }


def _consume(settings: dict[str, Any], bars: int) -> float:
    """Seconds in which a bare consumer reads the topic."""
    consumer = Consumer({**settings, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(BARS, partition, 0) for partition in range(PARTITIONS)])
    began, read = time.perf_counter(), 0
    while read < bars:
        for message in consumer.consume(min(MESSAGES, bars - read), 1.0):  # else it waits at the end
            read += message.value() is not None
    seconds = time.perf_counter() - began
    consumer.close()
    return seconds


if __name__ == "__main__":
    bench_topic(Console())
