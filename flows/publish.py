"""Feeds the bars of a recording into their topic: at the pace they had, faster, or as fast as the processes
that read them can follow.

Bars keep their order of arrival. Where `live.clock` is "publisher", the clock's ticks are published, too, one
for each bar end of a session and one after its close.
"""

import json
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from threading import Event
from typing import Any

import numpy as np
import polars as pl
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from connectors.kafka.client import KafkaProblem
from connectors.recording import BarRecording
from schemas.codecs import encode, type_tag
from schemas.config import Config, Kafka
from schemas.records import Bar, Tick
from schemas.sessions import Sessions
from schemas.topics import BARS, JOURNAL

DAY_NS = 86_400_000_000_000
IDLE_INTERVALS = 5  # a longer time without bars passes at once
WINDOW_ROWS = 1 << 16
QUIET_POLLS = 3  # calls of its input after which a process has written what it had read
FOLLOW_SECONDS = 120.0
ANSWER_SECONDS = 10.0
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """What is published at one event time: wire forms of bars by symbol, and whether the clock ticks then."""

    time_ns: int
    bars: list[tuple[str, bytes]]
    ticks: bool


def moments(recording: BarRecording, sessions: Sessions) -> Iterator[Moment]:
    """The recording in the order of its times, with a tick at every bar end of a session that has bars."""
    for window in recording.windows(WINDOW_ROWS):
        frame = recording.read_frame(window).with_columns(
            pl.col("symbol", "source").cast(pl.String),
            pl.col("start_ns", "end_ns").to_physical(),
        )
        due = _due(frame, sessions, recording.interval_ns)
        frame = frame.with_columns(due).sort("at", maintain_order=True)
        times = frame["at"].filter(frame["at"] > 0).to_numpy()
        grid = _grid(sessions, recording.interval_ns, times)
        by_time: dict[int, list[tuple[str, bytes]]] = {int(at): [] for at in grid}
        for row in frame.iter_rows(named=True):
            by_time.setdefault(row.pop("at"), []).append((row["symbol"], bar_bytes(row)))
        ticking = set(grid.tolist())
        for at in sorted(by_time):
            yield Moment(at, by_time[at], at in ticking)


def moments_in(recording: BarRecording, sessions: Sessions) -> int:
    """How many moments to expect: the clock's ticks in the sessions of its days."""
    days = np.array(recording.days, "M8[D]").astype("M8[ns]").astype(np.int64)
    held = np.isin(sessions.open_ns // DAY_NS * DAY_NS, days)
    lengths = (sessions.close_ns - sessions.open_ns)[held] // recording.interval_ns
    return int(lengths.sum() + len(lengths))


def bar_bytes(row: dict[str, Any]) -> bytes:
    """A row of a recording as it is on the wire, also where it is no bar: what is wrong with it is told by
    whoever reads it.
    """
    fields = {"type": type_tag(Bar), "version": Bar.VERSION, **row, "source": row["source"] or ""}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _due(frame: pl.DataFrame, sessions: Sessions, interval_ns: int) -> pl.Series:
    """When each row is published: at its end, and not before an earlier row of its symbol; one whose times
    are not those of a bar in a session, with the row before it.
    """
    end_ns = frame["end_ns"].fill_null(0).to_numpy()
    after = np.searchsorted(sessions.close_ns, end_ns)
    inside = after < len(sessions.close_ns)
    inside[inside] = sessions.open_ns[after[inside]] < end_ns[inside]
    believed = inside & (end_ns - frame["start_ns"].to_numpy() == interval_ns)
    due = pl.Series("at", np.where(believed, end_ns, 0)).replace(0, None)
    due = due.fill_null(strategy="forward").fill_null(strategy="backward").fill_null(0)
    return frame.select("symbol", due).select(pl.col("at").cum_max().over("symbol")).to_series()


def _grid(sessions: Sessions, interval_ns: int, times_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bar ends of the sessions that have bars, and one more behind each close."""
    of_bars = np.unique(np.searchsorted(sessions.close_ns, times_ns)).tolist()
    grids = [
        np.arange(sessions.open_ns[s] + interval_ns, sessions.close_ns[s] + interval_ns + 1, interval_ns)
        for s in of_bars
    ]
    return np.concatenate([np.zeros(0, np.int64), *grids])


class Publisher:
    """Writes bars and ticks, each confirmed. Raises `KafkaProblem`."""

    def __init__(self, settings: Settings, config: Config, kafka: Kafka, grace_ns: int):
        self.producer = Producer(settings | {"enable.idempotence": True, "acks": "all", "linger.ms": 0})
        self.account = config.account.id.encode()
        self.kafka = kafka
        self.grace_ns = grace_ns
        self.errors: list[str] = []

    def bars(self, moment: Moment) -> None:
        for symbol, value in moment.bars:
            partition = zlib.crc32(symbol.encode()) % self.kafka.bars_partitions
            self._produce(BARS, partition, symbol.encode(), value)
        self._confirm()

    def tick(self, moment: Moment) -> None:
        """The clock is the grace behind the bars, so that no bar of its time is waited for any more."""
        value = encode(Tick(time_ns=moment.time_ns + self.grace_ns))
        self._produce(JOURNAL, self.kafka.account_partition, self.account, value)
        self._confirm()

    def _produce(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        while True:
            try:
                self.producer.produce(
                    self.kafka.prefix + topic, value, key, partition, on_delivery=self._delivered
                )
                return
            except BufferError:
                self.producer.poll(0.1)

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self.errors.append(error.str())

    def _confirm(self) -> None:
        self.producer.flush()
        if self.errors:
            raise KafkaProblem(
                f"{len(self.errors)} records were not written: {self.errors[0]}; bars before these are "
                f"published. Publish the rest with --first, readers know repeated bars"
            )


class Followers:
    """Processes that read what is published, known by the addresses of their metrics."""

    def __init__(self, urls: Sequence[str], settings: Settings, prefix: str):
        self.urls = [url.rstrip("/") + "/metrics" for url in urls]
        self.prefix = prefix
        self.settings = settings
        self.admin = AdminClient(settings)

    def wait(self, stop: Event) -> None:
        """Until each has read, and written, all there is. Raises `KafkaProblem` where one does not follow."""
        if not self.urls:
            return
        deadline = time.monotonic() + FOLLOW_SECONDS
        before: tuple[Any, ...] | None = None
        polls: list[float] = []
        while not stop.is_set():
            seen = [self._seen(url) for url in self.urls]
            if all(seen):
                places = sorted({place for _, positions in seen for place in positions})
                ends = self.ends(places)
                there = all(p == ends.get(place) for _, positions in seen for place, p in positions.items())
                now = tuple(ends.items())
                if there and now == before:
                    if all(n - m >= QUIET_POLLS for (n, _), m in zip(seen, polls, strict=True)):
                        return
                else:
                    before, polls = (now if there else None), [n for n, _ in seen]
            if time.monotonic() > deadline:
                raise KafkaProblem(
                    f"a process behind --follow {' '.join(self.urls)} has not read everything within "
                    f"{FOLLOW_SECONDS:.0f} s; see that all run, and their metrics"
                )
            time.sleep(0.001)

    def _seen(self, url: str) -> tuple[float, dict[tuple[str, int], float]]:
        """(calls of the input, offset of the next record by place); no places where nobody answers yet."""
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                text = answer.read().decode()
        except (OSError, HTTPException):  # not yet, not any more, or it died over its answer
            return 0.0, {}
        polls, positions = 0.0, {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "sluice_polls_total":
                    polls = sample.value
                elif sample.name == "sluice_position":
                    positions[sample.labels["topic"], int(sample.labels["partition"])] = sample.value
        return polls, positions

    def ends(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where partitions end; nothing while the brokers do not say."""
        asked = {TopicPartition(self.prefix + topic, p): OffsetSpec.latest() for topic, p in places}
        futures = self.admin.list_offsets(asked)
        try:
            return {
                (where.topic.removeprefix(self.prefix), where.partition): future.result(ANSWER_SECONDS).offset
                for where, future in futures.items()
            }
        except (KafkaException, TimeoutError):
            self.admin = AdminClient(self.settings)  # the old one keeps what it knew before a restart
            return {}


def publish(
    told: Iterator[Moment],
    publisher: Publisher,
    followers: Followers,
    *,
    interval_ns: int,
    speed: float | None,
    ticks: bool,
    stop: Event,
) -> Iterator[int]:
    """Publish moment by moment and yield how many bars each had. `speed` None: as fast as followers are."""
    pace = _Pace(speed, interval_ns, stop)
    for moment in told:
        pace.wait(moment.time_ns)
        if stop.is_set():
            return
        publisher.bars(moment)
        followers.wait(stop)
        if ticks and moment.ticks:
            pace.wait(moment.time_ns + publisher.grace_ns)
            publisher.tick(moment)
            followers.wait(stop)
        yield len(moment.bars)


class _Pace:
    """Waits until event time comes."""

    def __init__(self, speed: float | None, interval_ns: int, stop: Event):
        self.speed = speed
        self.most_ns = IDLE_INTERVALS * interval_ns
        self.stop = stop
        self.before_ns = 0
        self.due = time.monotonic()

    def wait(self, time_ns: int) -> None:
        if self.speed is None:
            return
        step_ns = min(time_ns - self.before_ns, self.most_ns) if self.before_ns else 0
        self.before_ns = time_ns
        self.due += step_ns / 1e9 / self.speed
        self.stop.wait(max(self.due - time.monotonic(), 0))
