"""Windows of the topic of bars: they depend on the topic alone, and any of them can be continued from."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from kafka_broker import KafkaBroker, create_topic

from connectors.kafka import topic_bars
from connectors.kafka.client import KafkaProblem
from connectors.kafka.topic_bars import DAY_NS, END, REFUSED, TopicBars, TopicReader, TopicRows
from connectors.replay_source import END_OF_TIME, LoadedWindow
from schemas.codes import DeadLetter
from schemas.sessions import Sessions

SYMBOLS = ("A", "B", "C")
FIRST_DAY = 20_000  # after 1970
DAYS = 40
HOUR_NS = 3_600_000_000_000
OPENS = (FIRST_DAY + np.arange(DAYS)) * DAY_NS + 14 * HOUR_NS
SESSIONS = Sessions("TEST", OPENS, OPENS + 6 * HOUR_NS)

Topic = list[list[tuple[str, int]]]  # by partition: symbol, and day after the first; "" is no bar


def decode(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> TopicRows:
    """A value is the number of a day and a price."""
    n = len(values)
    rows = TopicRows(np.full(n, REFUSED, np.int64), np.zeros((2, n), np.int64), np.zeros((5, n)), [])
    for k, (key, value) in enumerate(zip(keys, values, strict=True)):
        symbol = (key or b"").decode()
        if symbol not in SYMBOLS:
            rows.refused.append((k, DeadLetter.MALFORMED, symbol))
            continue
        day, price = json.loads(value or b"")
        rows.symbols[k] = SYMBOLS.index(symbol)
        rows.times[:, k] = (FIRST_DAY + day) * DAY_NS + 15 * HOUR_NS
        rows.prices[:, k] = price
    return rows


def messages_of(topic: Topic, low: int = 0) -> list[list[Message]]:
    return [
        [
            Message(
                topic="bars", partition=p, offset=low + k, key=symbol.encode(), value=b"[%d,%d]" % (day, k)
            )
            for k, (symbol, day) in enumerate(rows)
        ]
        for p, rows in enumerate(topic)
    ]


class FakeConsumer:
    """Hands on the messages of its partitions, a few at a time, in an order of its own."""

    def __init__(self, messages: list[list[Message]], random: Random):
        self.messages = messages
        self.random = random
        self.left: dict[int, deque[Message]] = {}
        self.paused: set[int] = set()
        self.most_left_paused = 0

    def assign(self, places: list[TopicPartition]) -> None:
        for place in places:
            end = Message(
                topic="bars",
                partition=place.partition,
                offset=len(self.messages[place.partition]),
                error=KafkaError(KafkaError._PARTITION_EOF),
            )
            self.left[place.partition] = deque([*self.messages[place.partition][place.offset :], end])

    def consume(self, most: int, timeout: float) -> list[Message]:
        assert timeout < 1
        ready = [p for p, left in self.left.items() if left and p not in self.paused]
        if not ready:
            return []
        found: list[Message] = []
        for partition in self.random.sample(ready, self.random.randint(1, len(ready))):
            for _ in range(self.random.randint(1, min(most, 7))):
                if self.left[partition]:
                    found.append(self.left[partition].popleft())
        return found

    def pause(self, places: list[TopicPartition]) -> None:
        assert all(place.partition in self.left for place in places)
        self.paused.update(place.partition for place in places)

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused.difference_update(place.partition for place in places)

    def close(self) -> None:
        """Nothing to close."""


def bars_of(topic: Topic, window_rows: int) -> TopicBars:
    """What a broker would tell of the topic."""
    bars = TopicBars.__new__(TopicBars)
    bars.settings, bars.prefix, bars.instruments = {}, "", SYMBOLS
    bars.trading_days = topic_bars._trading_days(SESSIONS)
    bars.decode, bars.window_rows, bars.topic_id = decode, window_rows, "one"
    bars.lows, bars.ends = dict.fromkeys(range(len(topic)), 0), {p: len(r) for p, r in enumerate(topic)}
    return bars


Reading = Callable[..., list[LoadedWindow]]


@pytest.fixture(scope="module")
def windows_of() -> Any:
    def read(topic: Topic, window_rows: int, seed: int, place: Any = None) -> list[LoadedWindow]:
        with pytest.MonkeyPatch.context() as patch:
            fake = FakeConsumer(messages_of(topic), Random(seed))
            patch.setattr(topic_bars, "Consumer", lambda _: fake)
            patch.setattr(topic_bars, "LEAST_AHEAD", 1)
            reader = bars_of(topic, window_rows).reader(place)
        windows: list[LoadedWindow] = []
        while not windows or not windows[-1].final:
            window = reader.read()
            assert window is not None
            windows.append(window)
        return windows

    return read


def contents(window: LoadedWindow) -> Any:
    """All a window says, comparable."""
    rows = [(r.symbol, r.start_ns.tolist(), r.prices[0].tolist()) for r in window.symbols]
    letters = [(r.places, r.symbol, r.raw, r.reason.tolist()) for r in window.refused]
    more = (window.days, window.complete_ns, window.final, window.place, window.next_place, window.done)
    return rows, letters, window.ignored, more


def shown(window: LoadedWindow) -> list[list[int]]:
    """Days of each symbol's rows."""
    return [(rows.start_ns // DAY_NS - FIRST_DAY).tolist() for rows in window.symbols]


def days_of(window: LoadedWindow) -> list[int]:
    return [(day - date(1970, 1, 1)).days - FIRST_DAY for day in window.days]


ROWS = st.tuples(st.sampled_from([*SYMBOLS, ""]), st.integers(0, 6) | st.sampled_from([-5, 30, 500]))
TOPICS = st.lists(st.lists(ROWS, max_size=40), min_size=1, max_size=3)
IN_ORDER = TOPICS.map(lambda topic: [sorted(rows, key=lambda row: row[1]) for rows in topic])


@given(TOPICS | IN_ORDER, st.integers(1, 30), st.integers(0, 100))
def test_windows_do_not_depend_on_how_partitions_are_polled(
    windows_of: Reading, topic: Topic, window_rows: int, seed: int
) -> None:
    whole = [contents(window) for window in windows_of(topic, window_rows, 0)]
    assert whole == [contents(window) for window in windows_of(topic, window_rows, seed + 1)]


@given(TOPICS | IN_ORDER, st.integers(1, 30), st.data())
def test_reading_continues_from_any_place(
    windows_of: Reading, topic: Topic, window_rows: int, data: st.DataObject
) -> None:
    whole = windows_of(topic, window_rows, 0)
    k = data.draw(st.integers(0, len(whole) - 1))
    rest = windows_of(topic, window_rows, 1, whole[k].place)
    assert [contents(window) for window in whole[k:]] == [contents(window) for window in rest]
    assert all(one.next_place == two.place for one, two in pairwise(whole))


@given(TOPICS | IN_ORDER, st.integers(1, 30))
def test_each_message_is_in_one_window_in_order(windows_of: Reading, topic: Topic, window_rows: int) -> None:
    windows = windows_of(topic, window_rows, 0)
    for k, symbol in enumerate(SYMBOLS):
        expected = [day for rows in topic for name, day in rows if name == symbol]
        found = [day for window in windows for day in shown(window)[k]]
        assert sorted(found) == sorted(expected)
        if sum(any(name == symbol for name, _ in rows) for rows in topic) == 1:
            assert found == expected
    places = sorted(place for w in windows for letters in w.refused for place in letters.places or [])
    assert places == [(p, k) for p, rows in enumerate(topic) for k, (name, _) in enumerate(rows) if not name]
    assert windows[-1].done == sum(map(len, topic))
    complete = [window.complete_ns for window in windows]
    assert complete == sorted(set(complete))
    assert complete[-1] == END_OF_TIME


@given(IN_ORDER, st.integers(1, 30))
def test_where_days_are_in_order_no_bar_comes_after_its_time_and_each_day_ticks_once(
    windows_of: Reading, topic: Topic, window_rows: int
) -> None:
    windows = windows_of(topic, window_rows, 0)
    before = -1
    for window in windows:
        for rows in window.symbols:
            assert ((rows.start_ns >= before) | (rows.start_ns < FIRST_DAY * DAY_NS)).all()
        before = window.complete_ns
    days = {day for rows in topic for name, day in rows if name and 0 <= day < DAYS}
    assert [day for window in windows for day in days_of(window)] == sorted(days)


def session_of(day: int, symbols: Sequence[str] = SYMBOLS, bars: int = 10) -> list[tuple[str, int]]:
    return [(symbol, day) for _ in range(bars) for symbol in symbols]


def test_a_day_is_complete_once_all_partitions_have_shown_a_later_one(windows_of: Reading) -> None:
    topic = [
        [row for day in range(4) for row in session_of(day, ("A", "B"))],
        [row for day in (0, 2) for row in session_of(day, ("C",))],
    ]
    windows = windows_of(topic, 1, 0)
    assert [days_of(window) for window in windows] == [[0], [1], [2], [3]]
    assert [window.complete_ns for window in windows[:2]] == [
        (FIRST_DAY + 1) * DAY_NS,
        (FIRST_DAY + 2) * DAY_NS,
    ]


def test_a_broker_gives_the_same_windows_though_partitions_wait_and_the_topic_grows(
    broker: KafkaBroker, prefix: str, windows_of: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = [
        [row for day in range(DAYS) for row in session_of(day, ("A",), 100)],
        [row for day in range(DAYS) for row in session_of(day, ("B", "C", ""), 300)],
        [],
    ]
    create_topic(broker.bootstrap, f"{prefix}bars", len(topic))
    settings = {"bootstrap.servers": broker.bootstrap}
    producer = Producer({**settings, "queue.buffering.max.messages": 1_000_000})

    def publish() -> None:
        for messages in messages_of(topic):
            for m in messages:
                producer.produce(f"{prefix}bars", m.value(), m.key(), m.partition())
        assert producer.flush() == 0

    publish()
    bars = TopicBars(settings, prefix, SYMBOLS, SESSIONS, decode, window_rows=1000)
    publish()
    monkeypatch.setattr(topic_bars, "LEAST_AHEAD", 1)
    monkeypatch.setattr(topic_bars, "MESSAGES", 500)
    paused = []
    wait = TopicReader._wait_for_others

    def watched(self: TopicReader) -> None:
        wait(self)
        paused.append(self.lanes[0].paused and not self.lanes[0].ended)

    monkeypatch.setattr(TopicReader, "_wait_for_others", watched)
    reader = bars.reader(None)
    windows: list[LoadedWindow] = []
    while not windows or not windows[-1].final:
        window = reader.read()
        assert window is not None
        windows.append(window)
    reader.close()
    assert any(paused)
    expected = windows_of(topic, 1000, 0)
    assert [contents(window) for window in windows] == [contents(window) for window in expected]


@pytest.mark.parametrize("ahead", [1, 5, 30, 500])
@pytest.mark.parametrize("times", [1, 2])
def test_bars_far_ahead_make_no_day_end(ahead: int, times: int, windows_of: Reading) -> None:
    rows = [row for day in range(3) for row in session_of(day)]
    topic = [[*rows[:5], *[("A", ahead)] * times, *rows[5:]], []]
    windows = windows_of(topic, 1, 0)
    # The first two bars of a day are still with the day before: they wait there for their time.
    assert [len(shown(window)[1]) for window in windows[:2]] == [11, 10]
    assert shown(windows[0])[0].count(0) == 10
    assert [day for window in windows for day in days_of(window)] == sorted(
        {0, 1, 2} | ({ahead} if ahead < DAYS else set())
    )


def test_a_late_bar_belongs_to_the_window_that_is_open(windows_of: Reading) -> None:
    windows = windows_of([[*session_of(0), *session_of(1), ("A", 0), *session_of(2)]], 1, 0)
    assert shown(windows[1])[0].count(0) == 1
    assert [days_of(window) for window in windows] == [[0], [1], [2]]


def test_partitions_far_ahead_wait(windows_of: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = [
        [row for day in range(DAYS) for row in session_of(day, ("A",), 20)],
        [row for day in range(DAYS) for row in session_of(day, ("B", "C"), 100)],
    ]
    held = []
    add = TopicReader._add

    def watched(self: TopicReader, messages: list[Message]) -> None:
        add(self, messages)
        held.append(self.lanes[0].held)

    monkeypatch.setattr(TopicReader, "_add", watched)
    windows = windows_of(topic, 50, 0)
    assert sum(len(rows) for window in windows for rows in window.symbols) == sum(map(len, topic))
    assert max(held) <= 4 * 50 // 2 + 7 * 2 + 20  # and a poll, and the day it is in


def test_reading_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    topic: Topic = [session_of(0)]
    monkeypatch.setattr(topic_bars, "Consumer", lambda _: FakeConsumer([[]], Random(0)))
    reader = bars_of(topic, 1).reader(None)
    reader.lanes[0].end = END
    reader.stop()
    assert reader.read() is None


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError._AUTO_OFFSET_RESET, "topic bars partition 0 cannot continue at offset 0"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "topic bars partition 0 cannot be read on at offset 0"),
    ],
)
def test_an_error_that_could_make_a_gap_is_told(
    code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Message(topic="bars", partition=0, offset=0, error=KafkaError(code))
    monkeypatch.setattr(topic_bars, "Consumer", lambda _: FakeConsumer([[broken]], Random(0)))
    reader = bars_of([session_of(0)], 1).reader(None)
    with pytest.raises(KafkaProblem, match=told):
        reader.read()


def test_a_snapshot_of_more_than_there_is_is_refused() -> None:
    bars = bars_of([session_of(0), session_of(1)], 1)
    saved = {**bars.identity, "ends": {0: 31, 1: 30}}
    with pytest.raises(KafkaProblem, match="topic bars partition 0 cannot continue at offset 31"):
        bars.take_up(saved)
    bars.take_up({**bars.identity, "ends": {0: 20, 1: 30}})
    assert bars.total == 50
