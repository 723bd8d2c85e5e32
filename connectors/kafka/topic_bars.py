"""The topic of bars, read once from its beginning to the end it had at the start, in windows of whole days.

In: messages of all partitions through one consumer. Out: windows, as those of a recording. A row belongs to
the day that its partition has reached: the latest that three bars in a row have shown, where a calendar has a
session. So one or two bars with a time far ahead move nothing, as in `quality`, and a bar that comes after
its day was over belongs to the window that is open then. A day is complete when every partition has shown a
later one or is at its end.

Always true: the windows depend on the topic alone, not on the order in which partitions are polled, and the
rows before a place are the first of each partition. So a place is the next offset of every partition, and
what is known there. Memory is bounded by a window being made, the one before it and `MOST_AHEAD`.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Event
from typing import Any, cast

import numpy as np
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from connectors.kafka.client import KafkaProblem
from connectors.kafka.source import ANSWER_SECONDS, READING, gone_error, refuse_gap, watermarks
from connectors.recording import BarRows
from connectors.replay_source import DAY_NS, END_OF_TIME, LoadedWindow
from schemas.batches import DeadLetters, Float64s, Int64s
from schemas.codes import DeadLetter
from schemas.sessions import Sessions
from schemas.topics import BARS

REFUSED, IGNORED = -1, -2  # instead of the index of a symbol
MESSAGES = 10_000  # most messages of a poll
POLL_SECONDS = 0.1
MOST_AHEAD = 4  # windows that all partitions together may hold for later days, before those ahead wait
LEAST_AHEAD = 10_000  # rows of a partition: each wait throws away what was fetched for it
# Fetching goes on while messages are taken, else it rests for a second whenever it is ahead; and it is ahead
# by little, since what was fetched of a partition that has to wait is thrown away.
BULK = {"fetch.queue.backoff.ms": 1, "queued.min.messages": 30_000}
BEGIN, END = -1, np.iinfo(np.int64).max  # before all days, and behind them
IN_A_ROW = 3

log = logging.getLogger("sluice.kafka")


@dataclass(slots=True)
class TopicRows:
    """n messages of the topic as columns.

    `symbols` (n,): index of the instrument, `REFUSED` or `IGNORED`. `times` (2, n): start and end, ns UTC;
    `prices` (5, n) as in `BarBatch`. `refused`: (row, reason, symbol as far as it is known).
    """

    symbols: Int64s
    times: Int64s
    prices: Float64s
    refused: list[tuple[int, DeadLetter, str]]


Decode = Callable[[Sequence[bytes | None], Sequence[bytes | None]], TopicRows]
"""Keys and values of messages as columns."""


class TopicBars:
    """The bars of a topic, as a replay takes them. `identity`: of what is read; a topic only grows, so a
    snapshot is continued to the end that it knew.
    """

    wait_seconds = 0.05  # brokers may be away

    def __init__(
        self,
        settings: Mapping[str, Any],
        prefix: str,
        instruments: Sequence[str],
        sessions: Sessions,
        decode: Decode,
        *,
        window_rows: int,
    ):
        """`settings`: of the client. Raises `KafkaProblem` where there is no such topic, or nothing in it."""
        self.settings = dict(settings)
        self.prefix = prefix
        self.instruments = instruments
        self.trading_days = _trading_days(sessions)
        self.decode = decode
        self.window_rows = window_rows
        consumer = Consumer({**self.settings, **READING})
        try:
            known = consumer.list_topics(prefix + BARS, timeout=ANSWER_SECONDS).topics[prefix + BARS]
            marks = watermarks(consumer, prefix, {BARS: sorted(known.partitions) or [0]})
        except KafkaException as exception:
            raise KafkaProblem(f"the topics cannot be listed: {exception.args[0].str()}") from None
        finally:
            consumer.close()
        self.lows = {partition: low for (_, partition), (low, _) in marks.items()}
        self.ends = {partition: high for (_, partition), (_, high) in marks.items()}
        self.topic_id = self._topic_id()
        if self.total == 0:
            raise KafkaProblem(f"topic {prefix}{BARS} holds no bars; `sluice publish` puts some there")

    def _topic_id(self) -> str:
        """What a topic that is made anew has another one of."""
        admin = AdminClient(self.settings)
        asked = admin.describe_topics(TopicCollection([self.prefix + BARS]))
        try:
            return str(asked[self.prefix + BARS].result(ANSWER_SECONDS).topic_id)
        except KafkaException as exception:
            raise KafkaProblem(
                f"topic {self.prefix}{BARS} cannot be described: {exception.args[0].str()}"
            ) from None

    @property
    def total(self) -> int:
        """Offsets to read."""
        return sum(self.ends.values()) - sum(self.lows.values())

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "topic": [self.prefix + BARS, self.topic_id],
            "window_rows": self.window_rows,
            "first_offsets": self.lows,
            "ends": self.ends,
        }

    def take_up(self, saved: Mapping[str, Any]) -> None:
        """Read what the snapshot's run would have read. Raises `KafkaProblem` where that is not here."""
        for key in ("topic", "window_rows"):
            if saved.get(key) != self.identity[key]:
                raise KafkaProblem(
                    f"the recovery snapshot was written for another topic, a recording or other windows "
                    f"({key} {saved.get(key)!r}, now {self.identity[key]!r}); start anew with an empty "
                    f"recovery directory"
                )
        lows, ends = saved["first_offsets"], saved["ends"]
        for partition, end in ends.items():
            if end > self.ends.get(partition, 0):
                raise gone_error(self.prefix, (BARS, partition), end, "the recovery snapshot knew more of it")
        self.lows, self.ends = lows, ends

    def first(self) -> dict[str, Any]:
        """The place where nothing was read."""
        nothing = [BEGIN] * IN_A_ROW
        return {
            "partitions": {p: (low, nothing) for p, low in self.lows.items()},
            "through": BEGIN,
            "days": [],
        }

    def reader(self, place: dict[str, Any] | None) -> "TopicReader":
        """Reads windows from a place on. Raises `KafkaProblem` where something behind it is gone."""
        return TopicReader(self, self.first() if place is None else place)


class _Reached:
    """The day a partition has reached, and the days of the last two bars that count."""

    def __init__(self, state: Sequence[int]):
        self.day, *self.last = state

    def dump(self) -> list[int]:
        return [self.day, *self.last]

    def pass_(self, days: Int64s) -> Int64s:
        """The day reached with each of these rows; `days` is `BEGIN` where a row does not count."""
        counts = days != BEGIN
        shown = np.concatenate([self.last, days[counts]])
        least = np.minimum(np.minimum(shown[:-2], shown[1:-1]), shown[2:])
        steps = np.maximum.accumulate(np.concatenate([[self.day], least]))
        reached: Int64s = steps[np.cumsum(counts)]
        self.day, self.last = int(steps[-1]), shown[-2:].tolist()
        return reached


@dataclass(slots=True)
class _Chunk:
    """Rows of one partition: `day`, which each has itself, and `reached`, to which it belongs."""

    offsets: Int64s
    symbols: Int64s
    times: Int64s
    prices: Float64s
    day: Int64s
    reached: Int64s

    def rows(self, which: slice) -> "_Chunk":
        return _Chunk(
            self.offsets[which],
            self.symbols[which],
            self.times[:, which],
            self.prices[:, which],
            self.day[which],
            self.reached[which],
        )


Letter = tuple[int, DeadLetter, str, bytes]  # offset, reason, symbol, record


class _Lane:
    """One partition: what was read of it and is in no window yet."""

    def __init__(self, partition: int, begin: int, end: int, state: Sequence[int]):
        self.partition = partition
        self.begin = begin  # offset of the first row that is in no window yet
        self.read = begin  # next offset to read
        self.end = end
        self.behind = _Reached(state)  # at `begin`
        self.ahead = _Reached(state)  # at `read`
        self.chunks: deque[_Chunk] = deque()
        self.letters: deque[Letter] = deque()
        self.held = 0
        self.paused = self.ended  # such a one is not even assigned

    @property
    def ended(self) -> bool:
        return self.read >= self.end

    def take(self, through: int) -> tuple[list[_Chunk], list[Letter]]:
        """Rows of days up to `through`, which become part of a window."""
        taken = []
        while self.chunks and self.chunks[0].reached[0] <= through:
            chunk = self.chunks.popleft()
            n = int(np.searchsorted(chunk.reached, through, side="right"))
            taken.append(chunk.rows(slice(0, n)))
            if n < len(chunk.reached):
                self.chunks.appendleft(chunk.rows(slice(n, None)))
        for chunk in taken:
            self.behind.pass_(chunk.day)
            self.held -= len(chunk.day)
        self.begin = int(self.chunks[0].offsets[0]) if self.chunks else self.end
        letters = []
        while self.letters and self.letters[0][0] < self.begin:
            letters.append(self.letters.popleft())
        return taken, letters


class TopicReader:
    """Reads one window after the other."""

    def __init__(self, bars: TopicBars, place: dict[str, Any]):
        self.bars = bars
        self.place = place
        self.stopped = Event()
        self.through: int = place["through"]
        self.days: set[int] = set(place["days"])  # shown, and not in a window yet
        self.rows_of_day: Counter[int] = Counter()
        partitions = place["partitions"]
        self.lanes = {p: _Lane(p, partitions[p][0], end, partitions[p][1]) for p, end in bars.ends.items()}
        self.most_ahead = max(LEAST_AHEAD, MOST_AHEAD * bars.window_rows // len(self.lanes))
        self.consumer = Consumer({**bars.settings, **READING, **BULK})
        self.consumer.assign(
            [self._where(lane, lane.begin) for lane in self.lanes.values() if not lane.ended]
        )

    def _where(self, lane: _Lane, offset: int = -1) -> TopicPartition:
        return TopicPartition(self.bars.prefix + BARS, lane.partition, offset)

    def read(self) -> LoadedWindow | None:
        """The next window; None where reading was stopped before it was there. Raises `KafkaProblem`."""
        while (through := self._complete()) is None:
            if self.stopped.is_set():
                return None
            self._poll()
        return self._window(through)

    def stop(self) -> None:
        """End a `read` that waits, at its next look."""
        self.stopped.set()

    def close(self) -> None:
        self.consumer.close()

    # --- what is complete

    def _complete(self) -> int | None:
        """The last day of the next window, once all of it is there: a window has a minimum of rows."""
        begun = min((lane.ahead.day for lane in self.lanes.values() if not lane.ended), default=END)
        rows = 0
        for day in sorted(self.rows_of_day):
            if day >= begun:
                return None
            rows += self.rows_of_day[day]
            if rows >= self.bars.window_rows and day != BEGIN:
                return day if day < max(self.rows_of_day) else END
        return END if begun == END else None

    def _window(self, through: int) -> LoadedWindow:
        place = self.place
        chunks: list[_Chunk] = []
        letters: list[DeadLetters] = []
        for lane in self.lanes.values():
            taken, refused = lane.take(through)
            chunks += taken
            if refused:
                letters.append(_letters(lane.partition, refused))
        symbols, times, prices, days = _joined(chunks)
        self.days.update(np.unique(days[days != BEGIN]).tolist())
        shown = sorted(day for day in self.days if self.through < day <= through)
        self.days = {day for day in self.days if day > through}
        self.through = through
        for day in [day for day in self.rows_of_day if day <= through]:
            del self.rows_of_day[day]
        self.place = {
            "partitions": {p: (lane.begin, lane.behind.dump()) for p, lane in self.lanes.items()},
            "through": through,
            "days": sorted(self.days),
        }
        return LoadedWindow(
            symbols=_by_symbol(self.bars.instruments, symbols, times, prices),
            refused=tuple(letters),
            ignored=int(np.count_nonzero(symbols == IGNORED)),
            days=tuple(date(1970, 1, 1) + timedelta(day) for day in shown),
            complete_ns=END_OF_TIME if through == END else (through + 1) * DAY_NS,
            final=through == END,
            place=place,
            next_place=self.place,
            done=sum(lane.begin - self.bars.lows[p] for p, lane in self.lanes.items()),
        )

    # --- reading

    def _poll(self) -> None:
        self._wait_for_others()
        left = sum(lane.end - lane.read for lane in self.lanes.values())
        found = self.consumer.consume(min(left, MESSAGES), POLL_SECONDS)  # else it waits at the end
        good = set(map(Message.error, found)) <= {None}
        messages = found if good else [message for message in found if message.error() is None]
        if messages:
            self._add(messages)
        for message in () if good else found:
            error = message.error()
            if error is not None:
                self._event(message, error)

    def _add(self, messages: list[Message]) -> None:
        keys = cast("list[bytes | None]", list(map(Message.key, messages)))
        values = cast("list[bytes | None]", list(map(Message.value, messages)))
        rows = self.bars.decode(keys, values)
        day = self._days_of(rows)
        n = len(messages)
        offsets = np.fromiter(cast("Iterator[int]", map(Message.offset, messages)), np.int64, n)
        partitions = np.fromiter(cast("Iterator[int]", map(Message.partition, messages)), np.int64, n)
        for partition in np.unique(partitions).tolist():
            lane = self.lanes[partition]
            at = np.flatnonzero((partitions == partition) & (offsets < lane.end) & (offsets >= lane.read))
            for k, reason, symbol in rows.refused:
                if partitions[k] == partition and lane.read <= offsets[k] < lane.end:
                    lane.letters.append((int(offsets[k]), reason, symbol, values[k] or b""))
            if len(at):
                reached = lane.ahead.pass_(day[at])
                times, prices = rows.times.take(at, axis=1), rows.prices.take(at, axis=1)
                lane.chunks.append(_Chunk(offsets[at], rows.symbols[at], times, prices, day[at], reached))
                lane.held += len(at)
                self.rows_of_day.update(dict(zip(*_counted(reached), strict=True)))
            lane.read = max(lane.read, min(int(offsets[partitions == partition].max()) + 1, lane.end))

    def _days_of(self, rows: TopicRows) -> Int64s:
        """Day of each bar, in days since 1970; `BEGIN` where it is none, or has no session."""
        days: Int64s = rows.times[0] // DAY_NS
        trading = self.bars.trading_days
        counts = (rows.symbols >= 0) & trading[np.clip(days, 0, len(trading) - 1)]
        return np.where(counts, days, BEGIN)

    def _wait_for_others(self) -> None:
        """Partitions that are far ahead wait for the slowest, which none waits for."""
        begun = min((lane.ahead.day for lane in self.lanes.values() if not lane.ended), default=END)
        for lane in self.lanes.values():
            most = self.most_ahead // 2 if lane.paused else self.most_ahead
            wait = lane.ended or (lane.ahead.day > begun and lane.held > most)
            if wait != lane.paused:
                (self.consumer.pause if wait else self.consumer.resume)([self._where(lane)])
                lane.paused = wait

    def _event(self, message: Message, error: KafkaError) -> None:
        """Something other than a message. Raises `KafkaProblem` where reading cannot go on without a gap."""
        partition = message.partition()
        lane = None if partition is None else self.lanes.get(partition)
        if lane is None:
            refuse_gap(error, self.bars.prefix, None, 0)
        elif error.code() == KafkaError._PARTITION_EOF:
            lane.read = max(lane.read, min(message.offset() or 0, lane.end))
        else:
            refuse_gap(error, self.bars.prefix, (BARS, lane.partition), lane.read)


def _trading_days(sessions: Sessions) -> NDArray[np.bool_]:
    """Whether day n after 1970 has a part of a session. The last entry stands for all behind it: no."""
    first, last = sessions.open_ns // DAY_NS, (sessions.close_ns - 1) // DAY_NS
    days = np.zeros(int(last.max(initial=0)) + 2, np.bool_)
    days[first] = days[last] = True
    return days


def _counted(reached: Int64s) -> tuple[list[int], list[int]]:
    days, counts = np.unique(reached, return_counts=True)
    return days.tolist(), counts.tolist()


def _joined(chunks: list[_Chunk]) -> tuple[Int64s, Int64s, Float64s, Int64s]:
    if not chunks:
        return np.zeros(0, np.int64), np.zeros((2, 0), np.int64), np.zeros((5, 0)), np.zeros(0, np.int64)
    return (
        np.concatenate([chunk.symbols for chunk in chunks]),
        np.concatenate([chunk.times for chunk in chunks], axis=1),
        np.concatenate([chunk.prices for chunk in chunks], axis=1),
        np.concatenate([chunk.day for chunk in chunks]),
    )


def _by_symbol(instruments: Sequence[str], symbols: Int64s, times: Int64s, prices: Float64s) -> list[BarRows]:
    """The rows of each instrument, in order."""
    codes = symbols.astype(np.int16)
    order = np.argsort(codes, kind="stable")  # a radix sort for 16 bits
    ends = np.searchsorted(codes[order], np.arange(len(instruments) + 1))
    rows = []
    for k, symbol in enumerate(instruments):
        at = order[ends[k] : ends[k + 1]]
        start_ns, end_ns = times.take(at, axis=1)
        rows.append(BarRows(symbol, start_ns, end_ns, prices.take(at, axis=1), np.zeros(len(at), np.uint8)))
    return rows


def _letters(partition: int, refused: list[Letter]) -> DeadLetters:
    offsets, reasons, symbols, records = (list(column) for column in zip(*refused, strict=True))
    return DeadLetters.of_bytes(BARS, symbols, reasons, records, [(partition, k) for k in offsets])
