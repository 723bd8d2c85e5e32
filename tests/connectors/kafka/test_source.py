"""Reading topics: what comes, in which order, from where it continues, and what is refused."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from re import Match
from threading import Event, Thread
from typing import Any

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from kafka_broker import KafkaBroker

from connectors.kafka.client import KafkaProblem
from connectors.kafka.source import HELD_MESSAGES, Clock, KafkaSource, Polled

ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 60.0
SECOND = 1_000_000_000

Row = tuple[str, int, int, bytes]


def rows_of(polled: Polled) -> list[Row]:
    return [(polled.topic, polled.partition, m.offset(), m.value()) for m in polled.messages]


def source_of(
    servers: str,
    prefix: str,
    topics: Mapping[str, Sequence[int]],
    decode: Callable[[Polled], Any] = rows_of,
    **more: Any,
) -> KafkaSource[Any]:
    given = {"identity": "one", "clock": None, "stop": Event(), **more}
    return KafkaSource({"bootstrap.servers": servers}, prefix, topics, decode, **given)


class Reading:
    """One part of a source, read without a flow."""

    def __init__(self, source: KafkaSource[Any], state: dict[str, Any] | None = None):
        self.source = source
        self.part = source.build_part("input", "kafka", state)
        self.items: list[Any] = []

    def until(self, enough: Callable[[], bool]) -> "Reading":
        deadline = time.monotonic() + DEADLINE
        while not enough():
            assert time.monotonic() < deadline, f"not within {DEADLINE} s; {len(self.items)} items so far"
            batch = self.part.next_batch()
            self.items += batch
            if not batch:
                time.sleep(0.001)
        return self

    def items_until(self, number: int) -> list[Any]:
        return self.until(lambda: len(self.items) >= number).items

    def to_end(self) -> list[Any]:
        with pytest.raises(StopIteration):
            self.until(lambda: False)
        return self.items


@pytest.fixture
def reading() -> Iterator[Callable[..., Reading]]:
    """Builds a part, and closes it at the end."""
    built: list[Reading] = []

    def build(source: KafkaSource[Any], state: dict[str, Any] | None = None) -> Reading:
        built.append(Reading(source, state))
        return built[-1]

    yield build
    for one in built:
        one.part.close()


def publish(producer: Producer, topic: str, partition: int, values: Sequence[bytes]) -> None:
    for value in values:
        producer.produce(topic, value, partition=partition)
        producer.poll(0)
    assert producer.flush(DEADLINE) == 0


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def rows(topic: str, partition: int, first: int, last: int) -> list[Row]:
    return [(topic, partition, number, b"%d" % number) for number in range(first, last)]


def of(items: Sequence[Row], topic: str, partition: int = 0) -> list[Row]:
    return [row for row in items if row[:2] == (topic, partition)]


# --- the broker inside the library


class Mock:
    """A broker in memory, made of a producer; every topic that is asked for by it has four partitions."""

    def __init__(self) -> None:
        self.producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        brokers = self.producer.list_topics(timeout=DEADLINE).brokers.values()
        self.servers = ",".join(f"{one.host}:{one.port}" for one in brokers)

    def publish(self, topic: str, partition: int, values: Sequence[bytes]) -> None:
        publish(self.producer, topic, partition, values)


@pytest.fixture
def mock() -> Mock:
    return Mock()


def test_every_partition_comes_from_its_beginning_in_order(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    for topic, partition in (("p.bars", 0), ("p.bars", 2), ("p.journal", 1)):
        mock.publish(topic, partition, numbered(0, 3_000))
    items = reading(source_of(mock.servers, "p.", {"bars": [0, 2], "journal": [1]})).items_until(9_000)
    assert len(items) == 9_000
    for topic, partition in (("bars", 0), ("bars", 2), ("journal", 1)):
        assert of(items, topic, partition) == rows(topic, partition, 0, 3_000)


def test_partitions_that_were_not_asked_for_do_not_come(mock: Mock, reading: Callable[..., Reading]) -> None:
    mock.publish("bars", 0, numbered(0, 10))
    mock.publish("bars", 1, numbered(0, 10))
    read = reading(source_of(mock.servers, "", {"bars": [1]}, until_end=True))
    assert read.to_end() == rows("bars", 1, 0, 10)


def test_what_comes_together_from_a_partition_is_one_group(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("bars", 0, numbered(0, 500))
    mock.publish("bars", 1, numbered(0, 500))
    source = source_of(mock.servers, "", {"bars": [0, 1]}, lambda polled: [polled])
    read = reading(source)
    deadline = time.monotonic() + DEADLINE
    while source.messages["bars"] < 1_000:
        assert time.monotonic() < deadline
        batch = read.part.next_batch()
        places = [(polled.topic, polled.partition) for polled in batch]
        assert len(places) == len(set(places))
        assert all(polled.messages for polled in batch)


def test_after_a_snapshot_exactly_the_tail_comes(mock: Mock, reading: Callable[..., Reading]) -> None:
    mock.publish("bars", 0, numbered(0, 2_500))
    topics = {"bars": [0, 1]}
    read = reading(source_of(mock.servers, "", topics))
    items = read.items_until(1)
    state = read.part.snapshot()
    seen = len(items)
    assert 0 < seen < 2_500
    assert state == {"identity": "one", "offsets": {"bars": {0: seen, 1: 0}}, "tick_ns": None}
    read.items_until(2_500)
    again = reading(source_of(mock.servers, "", topics), state)
    assert again.items_until(2_500 - seen) == rows("bars", 0, seen, 2_500)


def test_a_snapshot_is_plain_data(mock: Mock, reading: Callable[..., Reading]) -> None:
    mock.publish("bars", 0, numbered(0, 1))
    clock = Clock(SECOND, lambda tick: tick)
    read = reading(source_of(mock.servers, "", {"bars": [0]}, clock=clock))
    read.items_until(1)
    offsets = read.part.snapshot()["offsets"]
    assert {type(value) for of_topic in offsets.values() for pair in of_topic.items() for value in pair} == {
        int
    }
    assert type(read.part.snapshot()["tick_ns"]) is int


def test_a_partition_that_is_new_to_the_snapshot_starts_at_its_beginning(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("bars", 0, numbered(0, 10))
    mock.publish("bars", 3, numbered(0, 10))
    state = {"identity": "one", "offsets": {"bars": {0: 7}}, "tick_ns": None}
    items = reading(source_of(mock.servers, "", {"bars": [0, 3]}), state).items_until(13)
    assert of(items, "bars", 0) == rows("bars", 0, 7, 10)
    assert of(items, "bars", 3) == rows("bars", 3, 0, 10)


@pytest.mark.parametrize(
    ("state", "topics", "said"),
    [
        ({"identity": "two"}, {"bars": [0]}, r"written for 'two', this flow is 'one'"),
        ({"offsets": {"bars": {0: 0, 1: 0}}}, {"bars": [0]}, r"p\.bars partition 1, .*\[kafka\]"),
        ({"offsets": {"journal": {0: 0}}}, {"bars": [0]}, r"p\.journal partition 0, .*\[kafka\]"),
        ({"offsets": {"bars": {0: 11}}}, {"bars": [0]}, r"p\.bars partition 0 .* offset 11 .*holds 0 to 10"),
        ({"offsets": {"bars": {0: 0}}}, {"bars": [0, 9]}, r"p\.bars has no partition 9, it has 4"),
        (None, {"nothing": [0]}, r"p\.nothing cannot be read: .*Unknown topic"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    mock: Mock, state: dict[str, Any] | None, topics: dict[str, list[int]], said: str
) -> None:
    mock.publish("p.bars", 0, numbered(0, 10))
    if state is not None:
        state = {"identity": "one", "offsets": {}, "tick_ns": None, **state}
    with pytest.raises(KafkaProblem, match=said):
        source_of(mock.servers, "p.", topics).build_part("input", "kafka", state)


def test_no_broker_is_a_problem_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kafka.source.ANSWER_SECONDS", 0.5)
    source = source_of("127.0.0.1:1", "", {"bars": [0]})
    source.settings = {**source.settings, "log_level": 0}
    with pytest.raises(KafkaProblem, match=r"topic bars: .*\[kafka\] bootstrap_servers"):
        source.build_part("input", "kafka", None)


def test_stop_ends_at_the_next_call_and_hands_on_nothing_more(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("bars", 0, numbered(0, 5_000))
    source = source_of(mock.servers, "", {"bars": [0]})
    read = reading(source)
    items = read.items_until(1)
    source.stop.set()
    with pytest.raises(StopIteration):
        read.part.next_batch()
    assert read.part.snapshot()["offsets"] == {"bars": {0: len(items)}}


def test_until_end_ends_at_the_ends_of_the_start(mock: Mock, reading: Callable[..., Reading]) -> None:
    mock.publish("bars", 0, numbered(0, 2_500))
    mock.publish("bars", 1, numbered(0, 1))
    read = reading(source_of(mock.servers, "", {"bars": [0, 1, 2]}, until_end=True))
    mock.publish("bars", 0, numbered(2_500, 3_000))
    mock.publish("bars", 2, numbered(0, 10))
    items = read.to_end()
    assert of(items, "bars", 0) == rows("bars", 0, 0, 2_500)
    assert len(items) == 2_501
    assert read.part.snapshot()["offsets"] == {"bars": {0: 2_500, 1: 1, 2: 0}}


def test_until_end_of_nothing_ends_at_once(mock: Mock, reading: Callable[..., Reading]) -> None:
    mock.publish("bars", 0, numbered(0, 2))
    state = {"identity": "one", "offsets": {"bars": {0: 2}}, "tick_ns": None}
    with pytest.raises(StopIteration):
        reading(source_of(mock.servers, "", {"bars": [0]}, until_end=True), state).part.next_batch()


def test_counters_tell_where_reading_is(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.source.COUNTERS_SECONDS", 0.0)
    mock.publish("bars", 0, numbered(0, 10))
    for at in (5_000, 7_000, 9_000):
        mock.producer.produce("journal", b"x", partition=0, timestamp=at + 2_000_000_000_000)
    mock.producer.flush(DEADLINE)
    source = source_of(mock.servers, "", {"bars": [0], "journal": [0]})
    read = reading(source)
    assert source.high_watermarks == {("bars", 0): 10, ("journal", 0): 3}
    assert source.positions == {("bars", 0): 0, ("journal", 0): 0}
    read.items_until(13)
    assert source.messages == {"bars": 10, "journal": 3}
    assert source.positions == {("bars", 0): 10, ("journal", 0): 3}
    assert source.newest_ms == 2_000_000_009_000
    mock.publish("bars", 0, numbered(10, 20))
    read.items_until(23)
    assert source.high_watermarks == {("bars", 0): 20, ("journal", 0): 3}
    assert source.polls >= 2


# --- when it is called again


def test_calls_follow_one_another_at_once_and_one_that_finds_nothing_waits_for_a_moment(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("bars", 0, numbered(0, 10))
    read = reading(source_of(mock.servers, "", {"bars": [0]}))
    read.items_until(10)
    waited = []
    for _ in range(51):
        assert read.part.next_awake() <= datetime.now(UTC)
        began = time.monotonic()
        assert read.part.next_batch() == []
        waited.append(time.monotonic() - began)
    assert 0.0005 <= statistics.median(waited) <= 0.005


# --- the clock


class Wall:
    """Wall time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: int):
        self.now = now
        monkeypatch.setattr("connectors.kafka.source.time_ns", lambda: self.now)


def ticking(mock: Mock) -> KafkaSource[Any]:
    return source_of(mock.servers, "", {"bars": [0]}, clock=Clock(5 * SECOND, lambda tick: ("tick", tick)))


def ticks(read: Reading, wall: Wall, seconds: float) -> list[Any]:
    """What one call gives at a time."""
    wall.now = int(seconds * SECOND)
    return read.part.next_batch()


def test_a_tick_is_the_newest_multiple_that_passed(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.publish("bars", 1, numbered(0, 1))
    wall = Wall(monkeypatch, 1003 * SECOND)
    read = reading(ticking(mock))
    given = [ticks(read, wall, at) for at in (1003, 1004.999, 1005, 1005.001, 1027, 1029.9)]
    assert given == [[], [], [("tick", 1005 * SECOND)], [], [("tick", 1025 * SECOND)], []]
    assert read.part.snapshot()["tick_ns"] == 1025 * SECOND


def test_a_clock_that_is_set_back_says_nothing_twice(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.publish("bars", 1, numbered(0, 1))
    wall = Wall(monkeypatch, 1003 * SECOND)
    read = reading(ticking(mock))
    given = [ticks(read, wall, at) for at in (1003, 1010, 1004, 1011, 1015)]
    assert given == [[], [("tick", 1010 * SECOND)], [], [], [("tick", 1015 * SECOND)]]


def test_ticks_missed_while_nothing_ran_are_one_tick(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.publish("bars", 1, numbered(0, 1))
    wall = Wall(monkeypatch, 2003 * SECOND)
    state = {"identity": "one", "offsets": {"bars": {0: 0}}, "tick_ns": 1000 * SECOND}
    read = reading(ticking(mock), state)
    assert [ticks(read, wall, at) for at in (2003, 2004)] == [[("tick", 2000 * SECOND)], []]


# --- errors of the library; a message of one is made by hand, since no broker gives them on request


def told(read: Reading, code: int, text: str, topic: str | None = "p.bars", *, fatal: bool = False) -> None:
    error = KafkaError(code, text, fatal=fatal)
    read.part._event(Message(topic=topic, partition=0, offset=0, error=error), error)


@pytest.fixture
def at_offset_3(mock: Mock, reading: Callable[..., Reading]) -> Reading:
    mock.publish("p.bars", 0, numbered(0, 3))
    read = reading(source_of(mock.servers, "p.", {"bars": [0]}))
    read.items_until(3)
    return read


@pytest.mark.parametrize(
    "code", [KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.TOPIC_AUTHORIZATION_FAILED]
)
def test_an_error_that_could_pass_over_a_message_stops(at_offset_3: Reading, code: int) -> None:
    with pytest.raises(KafkaProblem, match=r"topic p\.bars partition 0 .* offset 3: broken"):
        told(at_offset_3, code, "broken")


def test_a_fatal_error_of_the_client_stops(at_offset_3: Reading) -> None:
    with pytest.raises(KafkaProblem, match="cannot go on: finished"):
        told(at_offset_3, KafkaError._FATAL, "finished", None, fatal=True)


@pytest.mark.parametrize(
    ("code", "topic"),
    [
        (KafkaError._TRANSPORT, "p.bars"),
        (KafkaError._TRANSPORT, None),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, None),
    ],
)
def test_an_error_that_passes_is_told_and_survived(
    at_offset_3: Reading, code: int, topic: str | None, mock: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    told(at_offset_3, code, "later", topic)
    assert [record.getMessage() for record in caplog.records] == ["reading goes on after: later"]
    mock.publish("p.bars", 0, numbered(3, 5))
    assert at_offset_3.items_until(5) == rows("bars", 0, 0, 5)


# --- two topics, one of which must not run ahead of the other

ORDERED = {"journal": [0], "orders": [0]}


def ordered_source(servers: str, prefix: str = "", **more: Any) -> KafkaSource[Any]:
    return source_of(servers, prefix, ORDERED, until_ordered=("journal", "orders"), **more)


def test_what_was_published_before_comes_before_it_in_one_group_each(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("orders", 0, numbered(0, 1_500))
    mock.publish("journal", 0, numbered(0, 300))
    source = ordered_source(mock.servers)
    source.decode = lambda polled: [polled]
    read = reading(source)
    first: list[Polled] = []
    while not any(polled.topic == "journal" for polled in first):
        read.items += first
        first = read.until(lambda: True).part.next_batch()
    assert [polled.topic for polled in first] in (["orders", "journal"], ["journal"])
    came = [row for polled in [*read.items, *first] for row in rows_of(polled)]
    assert of(came, "orders") == rows("orders", 0, 0, 1_500)


def test_messages_wait_for_those_published_before_and_count_as_unread(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.publish("orders", 1, numbered(0, 1))
    mock.publish("journal", 0, numbered(0, 5))
    # As a broker says it that has an order which did not come yet.
    monkeypatch.setattr("connectors.kafka.source._Ordering._ask", lambda _: {("orders", 0): 1})
    read = reading(ordered_source(mock.servers))
    read.until(lambda: read.part.read["journal", 0] == 5)
    mock.publish("journal", 0, numbered(5, 8))
    read.until(lambda: read.part.read["journal", 0] == 8)
    assert read.items == []
    assert read.part.snapshot()["offsets"] == {"journal": {0: 0}, "orders": {0: 0}}
    mock.publish("orders", 0, numbered(0, 1))
    read.items_until(1)
    first = len(read.items) - 1
    assert read.items == [*rows("orders", 0, 0, 1), *rows("journal", 0, 0, first)]
    assert 0 < first <= 5
    assert read.part.snapshot()["offsets"] == {"journal": {0: first}, "orders": {0: 1}}
    read.items_until(9)
    assert of(read.items, "journal") == rows("journal", 0, 0, 8)
    assert read.part.snapshot()["offsets"] == {"journal": {0: 8}, "orders": {0: 1}}


def test_what_waits_is_bounded_and_nothing_is_lost(
    mock: Mock, reading: Callable[..., Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.source.HELD_MESSAGES", 1_500)
    mock.publish("orders", 1, numbered(0, 1))
    mock.publish("journal", 0, numbered(0, 20_000))
    monkeypatch.setattr("connectors.kafka.source._Ordering._ask", lambda _: {("orders", 0): 1})
    read = reading(ordered_source(mock.servers))
    read.until(lambda: read.part.ordering.paused)
    for _ in range(200):
        assert read.part.next_batch() == []
        time.sleep(0.001)
    assert read.part.read["journal", 0] <= 1_500 + 1_000
    mock.publish("orders", 0, numbered(0, 5_000))
    read.items_until(25_000)
    assert of(read.items, "journal") == rows("journal", 0, 0, 20_000)
    assert of(read.items, "orders") == rows("orders", 0, 0, 5_000)
    assert not read.part.ordering.paused


def test_many_messages_of_the_second_topic_do_not_pile_up(
    mock: Mock, reading: Callable[..., Reading]
) -> None:
    mock.publish("orders", 0, numbered(0, 3 * HELD_MESSAGES))
    mock.publish("journal", 0, numbered(0, 10))
    source = ordered_source(mock.servers)
    source.decode = lambda polled: [polled]
    read = reading(source)
    read.until(lambda: sum(source.messages.values()) == 3 * HELD_MESSAGES + 10)
    assert max(len(polled.messages) for polled in read.items) < HELD_MESSAGES + 1_000
    assert [row for polled in read.items for row in rows_of(polled) if row[0] == "orders"] == rows(
        "orders", 0, 0, 3 * HELD_MESSAGES
    )


# --- a real broker: transactions, trimmed topics, more partitions, a broker that goes away


class Topics:
    """Topics of one test at a real broker."""

    def __init__(self, servers: str, prefix: str):
        self.settings = {"bootstrap.servers": servers, "log_level": 0}
        self.servers, self.prefix = servers, prefix
        self.admin = AdminClient(self.settings)

    def create(self, **partitions: int) -> None:
        new = [NewTopic(self.prefix + name, number, 1) for name, number in partitions.items()]
        for created in self.admin.create_topics(new).values():
            created.result(DEADLINE)

    def producer(self, **more: Any) -> Producer:
        return Producer({**self.settings, **more})

    def transactional(self) -> Producer:
        producer = self.producer(**{"transactional.id": self.prefix + "writer"})
        producer.init_transactions(DEADLINE)
        return producer

    def publish(self, topic: str, partition: int, values: Sequence[bytes]) -> None:
        publish(self.producer(), self.prefix + topic, partition, values)

    def trim(self, topic: str, partition: int, before: int) -> None:
        where = TopicPartition(self.prefix + topic, partition, before)
        for deleted in self.admin.delete_records([where]).values():
            deleted.result(DEADLINE)

    def source(self, topics: Mapping[str, Sequence[int]], **more: Any) -> KafkaSource[Any]:
        return source_of(self.servers, self.prefix, topics, **more)


@pytest.fixture
def topics(broker: KafkaBroker, prefix: str) -> Topics:
    return Topics(broker.bootstrap, prefix)


def test_only_committed_messages_come(topics: Topics, reading: Callable[..., Reading]) -> None:
    topics.create(orders=1)
    writer = topics.transactional()
    for values, finish in (
        ([b"a", b"b"], writer.commit_transaction),
        ([b"never"], writer.abort_transaction),
        ([b"c"], writer.commit_transaction),
    ):
        writer.begin_transaction()
        publish(writer, topics.prefix + "orders", 0, values)
        finish(DEADLINE)
    writer.begin_transaction()
    publish(writer, topics.prefix + "orders", 0, [b"d"])
    read = reading(topics.source({"orders": [0]}))
    read.items_until(3)
    for _ in range(100):
        assert read.part.next_batch() == []
        time.sleep(0.005)
    writer.commit_transaction(DEADLINE)
    assert [row[3] for row in read.items_until(4)] == [b"a", b"b", b"c", b"d"]


def test_markers_at_the_end_are_read_over(topics: Topics, reading: Callable[..., Reading]) -> None:
    topics.create(orders=1, bars=1)
    writer = topics.transactional()
    writer.begin_transaction()
    publish(writer, topics.prefix + "orders", 0, [b"a", b"b"])
    writer.commit_transaction(DEADLINE)
    writer.begin_transaction()
    publish(writer, topics.prefix + "orders", 0, [b"open"])
    source = topics.source({"orders": [0], "bars": [0]}, until_end=True)
    read = reading(source)
    assert [row[3] for row in read.to_end()] == [b"a", b"b"]
    assert read.part.snapshot()["offsets"] == {"orders": {0: 3}, "bars": {0: 0}}
    writer.commit_transaction(DEADLINE)
    assert [row[3] for row in reading(source, read.part.snapshot()).to_end()] == [b"open"]
    assert source.positions["orders", 0] == source.high_watermarks["orders", 0] == 5


def test_a_trimmed_journal_is_refused_on_the_first_start_only(
    topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(journal=2)
    for partition in (0, 1):
        topics.publish("journal", partition, numbered(0, 10))
    topics.trim("journal", 1, 4)
    assert reading(topics.source({"journal": [0]}, until_end=True)).to_end() == rows("journal", 0, 0, 10)
    with pytest.raises(KafkaProblem, match=r"journal partition 1 is trimmed: it begins at offset 4"):
        reading(topics.source({"journal": [1]}))
    state = {"identity": "one", "offsets": {"journal": {1: 4}}, "tick_ns": None}
    assert reading(topics.source({"journal": [1]}, until_end=True), state).to_end() == rows(
        "journal", 1, 4, 10
    )
    topics.trim("journal", 0, 1)
    with pytest.raises(KafkaProblem, match=r"journal partition 0 is trimmed"):
        reading(topics.source({"journal": [0, 1]}), state)


def test_a_trimmed_topic_of_bars_starts_where_it_begins(
    topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(bars=1)
    topics.publish("bars", 0, numbered(0, 10))
    topics.trim("bars", 0, 6)
    assert reading(topics.source({"bars": [0]}, until_end=True)).to_end() == rows("bars", 0, 6, 10)


def test_a_snapshot_whose_offset_is_gone_is_refused(topics: Topics, reading: Callable[..., Reading]) -> None:
    topics.create(bars=1)
    topics.publish("bars", 0, numbered(0, 10))
    topics.trim("bars", 0, 6)
    state = {"identity": "one", "offsets": {"bars": {0: 5}}, "tick_ns": None}
    with pytest.raises(KafkaProblem, match=r"bars partition 0 .* offset 5 .*retention\.ms"):
        reading(topics.source({"bars": [0]}), state)


def test_messages_that_are_trimmed_before_they_are_read_are_a_problem(
    topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(bars=1)
    topics.publish("bars", 0, [b"x" * 50_000] * 300)
    source = topics.source({"bars": [0]})
    little = {"queued.min.messages": 1, "queued.max.messages.kbytes": 100, "fetch.message.max.bytes": 100_000}
    source.settings = {**source.settings, **little}
    read = reading(source)
    read.items_until(1)
    topics.trim("bars", 0, 300)
    with pytest.raises(KafkaProblem, match=r"bars partition 0 cannot continue at offset \d+"):
        read.until(lambda: False)
    assert 0 < len(read.items) < 300
    assert read.part.snapshot()["offsets"] == {"bars": {0: len(read.items)}}


def test_partitions_that_a_topic_gained_start_at_their_beginning(
    topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(bars=1)
    topics.publish("bars", 0, numbered(0, 10))
    read = reading(topics.source({"bars": [0]}))
    read.items_until(10)
    for gained in topics.admin.create_partitions([NewPartitions(topics.prefix + "bars", 3)]).values():
        gained.result(DEADLINE)
    topics.publish("bars", 0, numbered(10, 12))
    topics.publish("bars", 2, numbered(0, 5))
    items = reading(topics.source({"bars": [0, 1, 2]}), read.part.snapshot()).items_until(7)
    assert of(items, "bars", 0) == rows("bars", 0, 10, 12)
    assert of(items, "bars", 2) == rows("bars", 2, 0, 5)


def test_reading_survives_a_broker_that_dies(
    broker: KafkaBroker, topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(bars=2, orders=1, journal=1)
    writer = topics.transactional()
    topics.publish("bars", 0, numbered(0, 100))
    read = reading(topics.source({"bars": [0, 1], "orders": [0]}))
    pair = reading(topics.source(ORDERED, until_ordered=("journal", "orders")))
    read.items_until(100)
    pair.until(lambda: True)
    for killed in range(2):
        (broker.kill if killed else broker.stop)()
        assert read.part.next_batch() == pair.part.next_batch() == []
        broker.start()
        topics.publish("bars", 1, numbered(100 * killed, 100 * killed + 100))
        writer.begin_transaction()
        publish(writer, topics.prefix + "orders", 0, [b"%d" % killed])
        writer.commit_transaction(DEADLINE)
        topics.publish("journal", 0, [b"%d" % killed])
        read.items_until(100 + (killed + 1) * 101)
        pair.items_until((killed + 1) * 2)
    assert of(read.items, "bars", 0) == rows("bars", 0, 0, 100)
    assert of(read.items, "bars", 1) == rows("bars", 1, 0, 200)
    assert [row[3] for row in of(read.items, "orders")] == [b"0", b"1"]
    assert [row[3] for row in of(pair.items, "journal")] == [b"0", b"1"]


def test_no_order_that_was_published_before_a_record_of_the_journal_comes_after_it(
    topics: Topics, reading: Callable[..., Reading]
) -> None:
    topics.create(journal=1, orders=1)
    orders, journal, last = topics.transactional(), topics.producer(), 300

    def publish_in_turn() -> None:
        for number in range(last):
            orders.begin_transaction()
            publish(orders, topics.prefix + "orders", 0, [b"%d" % number])
            orders.commit_transaction(DEADLINE)
            publish(journal, topics.prefix + "journal", 0, [b"%d" % number])

    read = reading(topics.source(ORDERED, until_ordered=("journal", "orders")))
    publisher = Thread(target=publish_in_turn)
    publisher.start()
    newest = {"journal": -1, "orders": -1}
    while newest["journal"] < last - 1:
        for topic, _, _, value in read.part.next_batch():
            assert int(value) == newest[topic] + 1
            newest[topic] = int(value)
            assert newest["orders"] >= newest["journal"]
    publisher.join()


# --- in a flow, killed

FLOW = '''
"""Writes every message it is given as a line, and before them what it started from."""
import json, os, sys
from datetime import timedelta
from threading import Event, Thread
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main
from connectors.kafka.source import Clock, KafkaSource

servers, out, recovery, workers = sys.argv[1:]
lines = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
stop = Event()

class Told(KafkaSource):
    def build_part(self, step_id, for_part, state):
        os.write(lines, ("\\nstart " + json.dumps(state and state["offsets"]) + "\\n").encode())
        return super().build_part(step_id, for_part, state)

class Lines(DynamicSink, StatelessSinkPartition):
    def build(self, *_):
        return self
    def write_batch(self, items):
        os.write(lines, "".join(items).encode())

def decode(polled):
    where = f"{polled.topic} {polled.partition}"
    return [f"{where} {m.offset()} {m.value().decode()};\\n" for m in polled.messages]

def stop_at_end_of_input():
    sys.stdin.read()
    stop.set()

Thread(target=stop_at_end_of_input, daemon=True).start()
source = Told({"bootstrap.servers": servers}, "p.", {"bars": [0, 1], "journal": [0]}, decode,
              identity="one", clock=Clock(10_000_000, lambda _: ""), stop=stop)
flow = Dataflow("killed")
op.output("output", op.input("input", flow, source), Lines())
cluster_main(flow, [], 0, worker_count_per_proc=int(workers), epoch_interval=timedelta(milliseconds=20),
             recovery_config=RecoveryConfig(recovery))
'''
LINE = re.compile(r"(\w+) (\d+) (\d+) (\d+);")
PLACES = (("bars", 0), ("bars", 1), ("journal", 0))


class Killed:
    """A flow in a process of its own."""

    def __init__(self, mock: Mock, folder: Path, workers: int):
        self.mock, self.out = mock, folder / "out"
        self.out.touch()
        (folder / "recovery").mkdir()
        init_db_dir(folder / "recovery", 1)
        (folder / "flow.py").write_text(FLOW)
        self.command = [
            sys.executable,
            folder / "flow.py",
            mock.servers,
            self.out,
            folder / "recovery",
            str(workers),
        ]
        self.published = 0

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Killed at the end, unless it has ended by then."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(self.command, stdin=subprocess.PIPE, cwd=ROOT, env=environment) as process:
            try:
                yield process
            finally:
                process.kill()

    def publish_until(self, process: subprocess.Popen[bytes], enough: Callable[[], bool]) -> None:
        """A little, again and again, so that the flow is always at work."""
        deadline = time.monotonic() + DEADLINE
        while not enough():
            assert time.monotonic() < deadline
            assert process.poll() is None
            more = numbered(self.published, self.published + 20)
            for topic, partition in PLACES:
                self.mock.publish("p." + topic, partition, more)
            self.published += 20
            time.sleep(0.002)

    def runs(self) -> list[tuple[dict[str, dict[str, int]], list[tuple[str, int, int, int]]]]:
        """What each process started from, and what it was given. A line that the kill cut is none."""
        runs = []
        for part in self.out.read_text().split("\nstart ")[1:]:
            started, _, rest = part.partition("\n")
            given = [(t, int(p), int(o), int(v)) for t, p, o, v in map(Match.groups, LINE.finditer(rest))]
            runs.append((json.loads(started) or {}, given))
        return runs


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_flow_reads_every_message_and_after_the_snapshot_exactly_the_tail(
    mock: Mock, tmp_path: Path, workers: int
) -> None:
    moments, kills = Random(workers), 0
    for name in ("p.bars", "p.journal"):
        mock.producer.list_topics(name)
    flow = Killed(mock, tmp_path, workers)
    while kills < 5 or not any(started for started, _ in flow.runs()):  # later and later, up to a snapshot
        kills += 1
        assert kills < 40
        size = flow.out.stat().st_size + moments.randrange(1_000, 20_000 * kills)
        with flow.running() as process:
            flow.publish_until(process, lambda size=size: flow.out.stat().st_size >= size)
    with flow.running() as process:
        flow.publish_until(process, lambda: len(flow.runs()) == kills + 1 and len(flow.runs()[-1][1]) > 1_000)
        last = [f"\n{topic} {partition} {flow.published - 1} " for topic, partition in PLACES]
        deadline = time.monotonic() + DEADLINE
        while not all(line in flow.out.read_text() for line in last):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    seen = dict.fromkeys(PLACES, 0)
    for started, given in flow.runs():
        for topic, partition in PLACES:
            first = started.get(topic, {}).get(str(partition), 0)
            came = [row for row in given if row[:2] == (topic, partition)]
            assert first <= seen[topic, partition]
            assert came == [(topic, partition, n, n) for n in range(first, first + len(came))]
            seen[topic, partition] = max(seen[topic, partition], first + len(came))
    assert seen == dict.fromkeys(PLACES, flow.published)
