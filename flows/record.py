"""Takes what stands in the topics of an account into files, byte for byte and each message once.

What the files end with says where reading goes on, so a recorder that dies at any moment loses nothing and
doubles nothing. Only a topic that was trimmed, or made anew, before it was read makes a gap, and that is an
error.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.client import KafkaProblem, check_broker, client_settings
from connectors.kafka.sinks import SEQUENCE
from connectors.kafka.source import MESSAGES, READING, Place, place_name, refuse_gap
from connectors.topic_recording import Description, PartitionWriter, Row, hold_recording
from schemas.config import Config, ConfigError, Kafka
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

ACCOUNT_TOPICS = (JOURNAL, ORDERS, DECISIONS, ALERTS)
MOST_SECONDS = 600.0  # that a message waits for its file
POLL_SECONDS = 0.2
ANSWER_SECONDS = 10.0
MOST_DIGITS = 18  # of a sequence: it has to fit 64 bits

logger = logging.getLogger("sluice.kafka")


@dataclass(slots=True)
class Recorded:
    """How far a recorder is: messages that this run has read and written, by topic, and the offsets between
    there and the ends that the topics had at its start.
    """

    read: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    left: int = 0


def record(
    config: Config, folder: Path, stop: Event, *, until_end: bool, progress: Callable[[Recorded], None]
) -> Recorded:
    """Record until `stop`, or with `until_end` until every partition has reached the end it had at the start.

    Raises `ConfigError`, `KafkaProblem` and `RecordingError`.
    """
    kafka = config.kafka
    if kafka is None:
        raise ConfigError("section [kafka] is missing; it says where the topics are: see deploy/live.toml")
    settings = client_settings(kafka, "record")
    check_broker(settings)
    with (
        hold_recording(folder, Description(config.account.id, kafka.prefix)),
        closing(Consumer({**settings, **READING})) as consumer,
    ):
        return _Recorder(consumer, kafka, folder, stop, progress).run(until_end)


def topics_of(kafka: Kafka) -> dict[str, Sequence[int]]:
    """Partitions that are recorded, by topic."""
    account = {topic: [kafka.account_partition] for topic in ACCOUNT_TOPICS}
    return {BARS: range(kafka.bars_partitions), **account, DEAD_LETTERS: [0]}


class _Recorder:
    def __init__(
        self,
        consumer: Consumer,
        kafka: Kafka,
        folder: Path,
        stop: Event,
        progress: Callable[[Recorded], None],
    ):
        self.consumer = consumer
        self.prefix = kafka.prefix
        self.stop = stop
        self.progress = progress
        topics = topics_of(kafka)
        self.writers = {(t, p): PartitionWriter(folder, t, p) for t in topics for p in topics[t]}
        marks = _watermarks(consumer, kafka, topics)
        self.positions = {place: self._start(place, *marks[place]) for place in self.writers}
        self.ends = {place: high for place, (_, high) in marks.items()}
        self.places: dict[tuple[str | None, int | None], Place] = {
            (self.prefix + topic, partition): (topic, partition) for topic, partition in self.writers
        }
        self.done = Recorded(dict.fromkeys(topics, 0), dict.fromkeys(topics, 0), self._left())
        consumer.assign([TopicPartition(self.prefix + t, p, at) for (t, p), at in self.positions.items()])

    def _start(self, place: Place, low: int, high: int) -> int:
        """Where reading goes on. Raises `KafkaProblem` where something between is gone."""
        writer = self.writers[place]
        recorded = writer.recorded
        if recorded is None:
            writer.start_at(low)
            return low
        if not low <= recorded <= high:
            raise _gone(self.prefix, place, recorded, f"the topic holds {low:,} to {high:,}")
        return recorded

    def _left(self) -> int:
        return sum(max(end - self.positions[place], 0) for place, end in self.ends.items())

    def run(self, until_end: bool) -> Recorded:
        while not self.stop.is_set() and (self.done.left or not until_end):
            for message in self.consumer.consume(MESSAGES, POLL_SECONDS):
                error = message.error()
                if error is None:
                    self._add(message)
                else:
                    self._event(message, error)
            now = time.monotonic()
            for place, writer in self.writers.items():
                if writer.full or (writer.waiting and now - writer.since >= MOST_SECONDS):
                    self._write(place, writer)
            self.done.left = self._left()
            self.progress(self.done)
        for place, writer in self.writers.items():
            self._write(place, writer)
        self.progress(self.done)
        return self.done

    def _add(self, message: Message) -> None:
        place = self.places[message.topic(), message.partition()]
        row = _row(message)
        self.writers[place].add(row, time.monotonic())
        self.positions[place] = row.offset + 1
        self.done.read[place[0]] += 1

    def _write(self, place: Place, writer: PartitionWriter) -> None:
        rows = len(writer.waiting)
        writer.write()
        self.done.written[place[0]] += rows

    def _event(self, message: Message, error: KafkaError) -> None:
        """Something other than a message. Raises `KafkaProblem` where reading cannot go on without a gap."""
        place = self.places.get((message.topic(), message.partition()))
        if place is not None and error.code() == KafkaError._PARTITION_EOF:
            # Behind the last message there may be marks of transactions.
            self.positions[place] = max(self.positions[place], message.offset() or 0)
        else:
            refuse_gap(error, self.prefix, place, self.positions[place] if place else 0, _gone)


def _gone(prefix: str, place: Place, offset: int, why: str) -> KafkaProblem:
    return KafkaProblem(
        f"{place_name(prefix, place)} is recorded up to offset {offset:,} and cannot be read on from there "
        f"({why}): messages are gone that were not recorded, or the topic was made anew. Give back its data, "
        f"or record into a new folder; a longer retention.ms of the topic keeps messages until they are "
        f"recorded"
    )


def _row(message: Message) -> Row:
    offset, key, value = message.offset(), message.key(), message.value()
    assert offset is not None
    return Row(offset, message.timestamp()[1], _bytes(key), _bytes(value), _sequence(message))


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _sequence(message: Message) -> int | None:
    """The number that the writer gave it; a header of somebody else may be anything."""
    said = _bytes(dict(message.headers() or ()).get(SEQUENCE))
    return int(said) if said is not None and said.isdigit() and len(said) <= MOST_DIGITS else None


def _watermarks(
    consumer: Consumer, kafka: Kafka, topics: Mapping[str, Sequence[int]]
) -> dict[Place, tuple[int, int]]:
    """First offset and end of every partition. Raises `KafkaProblem`."""
    marks = {}
    for topic, partitions in topics.items():
        name = kafka.prefix + topic
        try:
            known = consumer.list_topics(name, timeout=ANSWER_SECONDS).topics[name]
            if known.error is not None:
                raise KafkaProblem(f"topic {name} cannot be read: {known.error.str()}; see [kafka] prefix")
            if topic == BARS and len(known.partitions) != len(partitions):
                raise KafkaProblem(
                    f"topic {name} has {len(known.partitions)} partitions, and [kafka] bars_partitions is "
                    f"{len(partitions)}: not all would be recorded"
                )
            for partition in partitions:
                where = TopicPartition(name, partition)
                marks[topic, partition] = consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
        except KafkaException as exception:
            raise KafkaProblem(
                f"the broker does not tell the offsets of topic {name}: {exception.args[0].str()}; see the "
                f"numbers of partitions in section [kafka]"
            ) from None
    return marks
