"""Runs a recording of topics again and compares, byte by byte, what comes out with what was recorded.

Two stages, each with what was recorded as its input, by the machines of the graph called directly:

* the recorded journal through the account: orders, decisions and alerts, by sequence
* the recorded bars through the market stage: slices of the journal, by symbol and time; a slice may stand in
  the journal more than once, after a restart, and is the same each time

The topics were cut at different moments. What was computed and lies behind the last record of its topic was
not recorded yet; what was recorded and lies behind the last that was computed had its cause behind the end of
the journal, or of the bars. Both are counted apart. Anywhere else, one without the other is a difference.
"""

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.kafka.sinks import Outgoing
from connectors.topic_recording import (
    Row,
    TopicFile,
    files_of,
    keys_of,
    partitions_of,
    read_rows,
    read_topics,
)
from flows.graph import Setup
from flows.live import OUTPUTS
from flows.process import RunError
from flows.service import grace_of, required
from flows.wire import Message, bars_of, journal_rows, names_of, outputs_out, slices_out
from operators.account_machine import Account
from operators.journal import Journal
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from schemas.batches import BarBatch, DeadLetters, JournalRows, MarketBatch
from schemas.codes import DeadLetter, EventKind
from schemas.config import Config
from schemas.topics import BARS, JOURNAL

NOTHING = "nothing"
DIGEST_BYTES = 16
MOST_SHOWN = 200  # characters of a value

Progress = Callable[[int, int], None]
"""(rows read, rows to read)."""


class NotComparable(RunError):  # noqa: N818 - it is no error of the program
    """The recording cannot be compared with this configuration, or not as it is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that is not as it was computed. `sequence`: None for a slice, and for a record without."""

    topic: str
    sequence: int | None
    time_ns: int
    record: str
    field: str
    recorded: str
    computed: str


@dataclass(slots=True)
class Comparison:
    """One topic. `compared`: records that stand on both sides, or should. `not_recorded`: computed, behind
    the last record of the recording. `not_computed`: recorded, behind the last that was computed.
    """

    topic: str
    compared: int = 0
    different: int = 0
    not_recorded: int = 0
    not_computed: int = 0
    first: Difference | None = None

    @property
    def equal(self) -> int:
        return self.compared - self.different

    def differs(self, found: Difference) -> None:
        self.different += 1
        if self.first is None or found.time_ns < self.first.time_ns:
            self.first = found


@dataclass(frozen=True, slots=True)
class Span:
    """What was read of one partition: its first and last offset, and how many messages."""

    topic: str
    partition: int
    first: int
    last: int
    messages: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared with what. `first`: the difference of the earliest event time."""

    comparisons: tuple[Comparison, ...]
    spans: tuple[Span, ...]

    @property
    def equal(self) -> bool:
        return not any(comparison.different for comparison in self.comparisons)

    @property
    def first(self) -> Difference | None:
        found = [comparison.first for comparison in self.comparisons if comparison.first is not None]
        return min(found, key=lambda difference: difference.time_ns, default=None)


def verify(folder: Path, config: Config, progress: Progress) -> Verification:
    """Compare a whole recording. Raises `NotComparable`, `ConfigError`, `JournalError` and `RecordingError`,
    the last also where files are missing.
    """
    terms, kafka = required(config)
    account = read_topics(folder).account
    if account != config.account.id:
        raise NotComparable(
            f"{folder} is a recording of account {account!r}, and the configuration is of "
            f"{config.account.id!r}; name the configuration of {account!r}"
        )
    files = {
        (topic, kafka.account_partition): files_of(folder, topic, kafka.account_partition)
        for topic in (JOURNAL, *OUTPUTS)
    }
    files |= {(BARS, p): files_of(folder, BARS, p) for p in partitions_of(folder, BARS)}
    journal = files[JOURNAL, kafka.account_partition]
    if not journal:
        raise NotComparable(
            f"{folder} has no journal of account {account!r}, partition {kafka.account_partition}: nothing "
            f"is written yet (a recorder writes when it stops, or after some minutes), or [kafka] "
            f"account_partition is another"
        )
    for (topic, partition), held in files.items():
        _refuse_late_beginning(folder, topic, partition, held)
    setup = Setup.of(config, paper=False)
    count = _Count(progress, sum(file.rows for held in files.values() for file in held))
    outputs = [_Output(topic, count.rows(files[topic, kafka.account_partition])) for topic in OUTPUTS]
    bars = {partition: held for (topic, partition), held in files.items() if topic == BARS}
    market = _Market(setup, bars, count)
    run = _Run(setup, grace_of(terms), outputs, market)
    for rows in count.portions(journal):
        run.journal(rows)
    run.finish()
    spans = [
        Span(topic, partition, held[0].first, held[-1].last, sum(file.rows for file in held))
        for (topic, partition), held in sorted(files.items())
        if held
    ]
    return Verification((*(output.result for output in outputs), market.result), tuple(spans))


def _refuse_late_beginning(folder: Path, topic: str, partition: int, held: Sequence[TopicFile]) -> None:
    if held and held[0].follows > 0:
        raise NotComparable(
            f"{folder} has topic {topic} partition {partition} from offset {held[0].follows:,} on only; "
            f"what stood before it was gone from the topic, or its file is, and decides what follows"
        )


class _Count:
    """Reads rows, and says how many."""

    def __init__(self, progress: Progress, total: int):
        self.progress = progress
        self.total = total
        self.done = 0

    def portions(self, files: Sequence[TopicFile]) -> Iterator[list[Row]]:
        for rows in read_rows(files):
            yield rows
            self.done += len(rows)
            self.progress(self.done, self.total)

    def rows(self, files: Sequence[TopicFile]) -> Iterator[Row]:
        return (row for rows in self.portions(files) for row in rows)


class _Run:
    """The account, fed with its recorded journal."""

    def __init__(self, setup: Setup, grace_ns: int, outputs: list["_Output"], market: "_Market"):
        config = setup.config
        self.config = config
        self.names = names_of(config)
        self.align = Journal(len(config.instruments), len(config.strategies), grace_ns)
        self.account = Account(config, setup.rules)
        self.outputs = {output.result.topic: output for output in outputs}
        self.market = market
        self.last = -1  # sequence
        self.unknown: set[str] = set()

    def journal(self, rows: list[Row]) -> None:
        messages: list[Message] = [(0, row.offset, row.key, row.value) for row in rows]
        journal, refused = journal_rows(messages, self.config)
        if refused is not None:
            self._note_unknown(refused)
        self._slices(journal, rows)
        for batch in self.align.step(journal):
            for said in self.account.step(batch):
                for record in outputs_out(said, self.names).records:
                    assert record.sequence is not None
                    self.last = record.sequence
                    self.outputs[record.topic].computed(record, record.sequence)
        self._refuse_another_configuration()

    def _slices(self, journal: JournalRows, rows: list[Row]) -> None:
        events = journal.events
        for k in (events["kind"] == EventKind.SLICE).nonzero()[0].tolist():
            value = rows[k].value
            assert value is not None
            self.market.recorded(
                self.names.instruments[int(events["instrument"][k])], int(events["time_ns"][k]), value
            )

    def _note_unknown(self, refused: DeadLetters) -> None:
        """Instruments and strategies that the journal names and the configuration does not."""
        known = {"", *self.names.instruments, *self.names.strategies}
        for reason, raw in zip(refused.reason.tolist(), refused.raw, strict=True):
            if reason == DeadLetter.UNKNOWN_SYMBOL:
                record = json.loads(raw)
                self.unknown |= {record["instrument"], *record.get("signals", ())} - known

    def _refuse_another_configuration(self) -> None:
        """A name that is not known is a dead letter here and there, unless the configuration is another."""
        results = [*(output.result for output in self.outputs.values()), self.market.result]
        if self.unknown and any(result.different for result in results):
            raise NotComparable(
                f"the journal names {', '.join(sorted(self.unknown))}, which the configuration does not "
                f"have, and what follows differs; name the configuration that account "
                f"{self.config.account.id!r} ran with"
            )

    def finish(self) -> None:
        for output in self.outputs.values():
            output.finish(self.last)
        self.market.finish()
        self._refuse_another_configuration()
        for result in (output.result for output in self.outputs.values()):
            if result.not_recorded and not result.compared:
                raise NotComparable(
                    f"none of {result.not_recorded:,} {result.topic} is in the recording; record the rest "
                    f"of the topics: sluice record --until-end"
                )
        if not self.market.result.compared or not any(o.result.compared for o in self.outputs.values()):
            raise NotComparable(
                "nothing of the recording can be compared yet: it ends before the first slice of the market "
                "or the first record of the account; record more: sluice record --until-end"
            )


class _Output:
    """What an account says in one topic, as recorded, beside what is computed; both by sequence."""

    def __init__(self, topic: str, rows: Iterator[Row]):
        self.result = Comparison(topic)
        self.rows = rows
        self.row = next(rows, None)
        self.passed = -1  # highest sequence of the rows before

    def computed(self, record: Outgoing, sequence: int) -> None:
        """The next record of the account in this topic."""
        while self.row is not None and self._is_extra(self.row, sequence):
            self._extra(self.row)
        if self.row is None:
            self.result.not_recorded += 1
        elif self.row.sequence == sequence:
            self.result.compared += 1
            if (self.row.key, self.row.value) != (record.key, record.value):
                self.result.differs(self._difference(sequence, self.row, record))
            self._advance(self.row)
        else:
            self.result.compared += 1
            self.result.differs(self._difference(sequence, None, record))

    def finish(self, last: int) -> None:
        """No more is computed; the last record of all topics was `last`."""
        while self.row is not None:
            if self._is_extra(self.row, last + 1):
                self._extra(self.row)
            else:
                self.result.not_computed += 1
                self._advance(self.row)

    def _is_extra(self, row: Row, due: int) -> bool:
        """Whether the account said no such thing: without number, twice, or with another's number."""
        return row.sequence is None or row.sequence <= self.passed or row.sequence < due

    def _extra(self, row: Row) -> None:
        self.result.compared += 1
        self.result.differs(self._difference(row.sequence, row, None))
        self._advance(row)

    def _advance(self, row: Row) -> None:
        if row.sequence is not None:
            self.passed = max(self.passed, row.sequence)
        self.row = next(self.rows, None)

    def _difference(self, sequence: int | None, row: Row | None, record: Outgoing | None) -> Difference:
        was = None if row is None else (row.key, row.value)
        now = None if record is None else (record.key, record.value)
        return _difference(self.result.topic, sequence, was, now)


# --- the market stage


class _Stage:
    """The market stage of one symbol."""

    def __init__(self, setup: Setup, symbol: str):
        plan = setup.plan
        self.config = setup.config
        self.index = setup.config.instruments.index(symbol)
        self.quality = Quality(setup.limits, setup.sessions, plan)
        self.machines = (Indicators(plan), Strategies(plan), SignalFilter(plan))

    def slices(self, bars: BarBatch) -> Iterator[tuple[int, bytes]]:
        """Times and wire forms."""
        for item in self.quality.step(bars):
            if isinstance(item, MarketBatch):
                for machine in self.machines:
                    machine.step(item)
                batch = journal_slices(item, self.index)
                records = slices_out(batch, self.config).records
                yield from zip(
                    batch.events["time_ns"].tolist(), [record.value for record in records], strict=True
                )


@dataclass(slots=True)
class _Series:
    """Slices of one symbol that were computed: times, rising; digests; and which of them were recorded."""

    times: "array[int]" = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)

    def add(self, time_ns: int, value: bytes) -> None:
        self.times.append(time_ns)
        self.digests += _digest(value)
        self.seen.append(0)

    def find(self, time_ns: int) -> int | None:
        k = bisect_left(self.times, time_ns)
        return k if k < len(self.times) and self.times[k] == time_ns else None

    def digest(self, k: int) -> bytes:
        return bytes(self.digests[k * DIGEST_BYTES : (k + 1) * DIGEST_BYTES])


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest()


class _Market:
    """Recorded bars through the market stage, as far as the recorded journal has come.

    Of what was computed only digests are kept: a journal may repeat itself from anywhere. Where one differs,
    the slice itself is computed once more.
    """

    def __init__(self, setup: Setup, bars: dict[int, list[TopicFile]], count: _Count):
        self.setup = setup
        self.bars = bars
        self.result = Comparison(f"{JOURNAL}, slices")
        self.partition = _partitions(setup.config, bars)
        self.series = {symbol: _Series() for symbol in setup.config.instruments}
        self.ahead = {p: self._slices(count.portions(files)) for p, files in bars.items()}
        self.worst: tuple[str, int, bytes] | None = None

    def _slices(self, portions: Iterator[list[Row]]) -> Iterator[list[tuple[str, int, bytes]]]:
        """Slices of one partition: symbol, time, wire form."""
        config, stages = self.setup.config, dict[str, _Stage]()
        for rows in portions:
            batches, _, _ = bars_of([(0, row.offset, row.key, row.value) for row in rows], config)
            out = []
            for batch in batches:
                if batch.symbol not in stages:
                    stages[batch.symbol] = _Stage(self.setup, batch.symbol)
                out += [(batch.symbol, *said) for said in stages[batch.symbol].slices(batch)]
            yield out

    def _more(self, partition: int) -> bool:
        """Compute the next portion of a partition, if there is one."""
        portion = next(self.ahead[partition], None)
        for symbol, time_ns, value in portion or ():
            self.series[symbol].add(time_ns, value)
        return portion is not None

    def recorded(self, symbol: str, time_ns: int, value: bytes) -> None:
        """A slice that stands in the journal."""
        if symbol not in self.partition:
            raise NotComparable(
                f"the journal has slices of {symbol}, and the recording none of its bars; record the bars "
                f"as well: sluice record --until-end"
            )
        series, partition = self.series[symbol], self.partition[symbol]
        while (not series.times or series.times[-1] < time_ns) and self._more(partition):
            pass
        k = series.find(time_ns)
        if k is None and (not series.times or series.times[-1] < time_ns):
            self.result.not_computed += 1
            return
        self.result.compared += 1
        if k is None:
            self.result.differs(_difference(self.result.topic, None, (None, value), None))
            return
        series.seen[k] = 1
        if series.digest(k) != _digest(value):
            if self.worst is None or time_ns < self.worst[1]:
                self.worst = symbol, time_ns, value
            self.result.different += 1

    def finish(self) -> None:
        for partition in self.bars:
            while self._more(partition):
                pass
        for symbol, series in self.series.items():
            last = series.seen.rfind(1)
            self.result.not_recorded += len(series.seen) - last - 1
            for k in range(last + 1):
                if not series.seen[k]:
                    self.result.compared += 1
                    text = json.dumps({"instrument": symbol, "time_ns": series.times[k]}).encode()
                    self.result.differs(_difference(self.result.topic, None, None, (None, text)))
        if self.worst is not None:
            symbol, time_ns, value = self.worst
            found = _difference(self.result.topic, None, (None, value), (None, self._again(symbol, time_ns)))
            self.result.different -= 1  # it is counted already
            self.result.differs(found)

    def _again(self, wanted: str, at_ns: int) -> bytes:
        """A slice that was computed before."""
        portions = self._slices(read_rows(self.bars[self.partition[wanted]]))
        return next(
            value
            for out in portions
            for symbol, time_ns, value in out
            if (symbol, time_ns) == (wanted, at_ns)
        )


def _partitions(config: Config, bars: dict[int, list[TopicFile]]) -> dict[str, int]:
    """Where the bars of each symbol are. Raises `NotComparable` where that is more than one place."""
    found: dict[str, int] = {}
    for partition, files in bars.items():
        for symbol in {key.decode("utf-8", "replace") for key in keys_of(files)} & set(config.instruments):
            if symbol in found:
                raise NotComparable(
                    f"bars of {symbol} stand in partitions {found[symbol]} and {partition}, and nothing "
                    f"tells in which order they were read"
                )
            found[symbol] = partition
    return found


# --- one difference, for people

Told = tuple[bytes | None, bytes | None]
"""Key and value of a message."""


def _difference(topic: str, sequence: int | None, was: Told | None, now: Told | None) -> Difference:
    recorded, computed = _fields(was), _fields(now)
    about = computed or recorded
    name = " ".join(str(about[part]) for part in ("type", "client_order_id", "instrument") if about.get(part))
    time_ns = about.get("time_ns")
    where = (topic, sequence, time_ns if isinstance(time_ns, int) else 0, name)
    if was is None or now is None:
        return Difference(*where, "", _shown(was and was[1]), _shown(now and now[1]))
    if was[0] != now[0]:
        return Difference(*where, "key", _shown(was[0]), _shown(now[0]))
    for part in {**computed, **recorded}:
        if recorded.get(part) != computed.get(part):
            return Difference(*where, part, _text(recorded.get(part)), _text(computed.get(part)))
    return Difference(*where, "", _shown(was[1]), _shown(now[1]))


def _fields(told: Told | None) -> dict[str, Any]:
    """The fields of a record; none where it is no JSON object."""
    try:
        fields = json.loads((told or (None, b""))[1] or b"")
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(value: object) -> str:
    return NOTHING if value is None else json.dumps(value, ensure_ascii=False)[:MOST_SHOWN]


def _shown(value: bytes | None) -> str:
    return NOTHING if value is None else value.decode("utf-8", "replace")[:MOST_SHOWN]
