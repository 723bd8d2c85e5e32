"""`sluice verify`: a sound recording is equal wherever it was cut, and one byte that is wrong is found."""

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from connectors import topic_recording
from connectors.config_file import DEPLOY, load_config
from connectors.kafka.sinks import Outbox
from connectors.recording import BarRecording, RecordingError
from connectors.topic_recording import (
    Description,
    PartitionWriter,
    Row,
    files_of,
    hold_recording,
)
from flows.graph import Setup
from flows.publish import moments
from flows.service import grace_of, required
from flows.verify import Comparison, NotComparable, Verification, verify
from flows.verify_cli import verify_command
from flows.wire import (
    bars_of,
    clock_out,
    journal_rows,
    names_of,
    order_rows,
    outputs_out,
    reports_out,
    slices_out,
)
from operators.account_machine import Account
from operators.journal import Journal
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from operators.venue_machine import ORDER, PaperVenue
from schemas.batches import MarketBatch, VenueInput
from schemas.config import Config
from schemas.topics import ALERTS, BARS, DECISIONS, JOURNAL, ORDERS

MINUTES = 330
PARTITION = 1
SLICES = "journal, slices"
History = dict[tuple[str, int], list[Row]]


@dataclass
class Live:
    """A deployment in memory: the machines of the graph, and what stands in its topics."""

    config: Config
    topics: History = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.setup = Setup.of(self.config, paper=False)
        grace_ns = grace_of(required(self.config)[0])
        instruments = len(self.config.instruments)
        self.align = Journal(instruments, len(self.config.strategies), grace_ns)
        self.account = Account(self.config, self.setup.rules)
        self.venue = PaperVenue(self.config, Setup.of(self.config, paper=True).sessions, grace_ns)
        self.names = names_of(self.config)
        self.applied = 0
        self.stages: dict[str, list[Any]] = {}

    def append(self, topic: str, partition: int, key: bytes, value: bytes, number: int | None = None) -> Row:
        rows = self.topics.setdefault((topic, partition), [])
        offset = rows[-1].offset + 1 if rows else 0
        rows.append(Row(offset, 1_000 + offset, key, value, number))
        return rows[-1]

    def keep(self, said: Outbox) -> None:
        for record in said.records:
            self.append(record.topic, PARTITION, record.key, record.value, record.sequence)

    def bar(self, symbol: str, value: bytes) -> None:
        partition = zlib.crc32(symbol.encode()) % 2
        row = self.append(BARS, partition, symbol.encode(), value)
        for batch in bars_of([(partition, row.offset, row.key, row.value)], self.config)[0]:
            if symbol not in self.stages:
                plan = self.setup.plan
                quality = Quality(self.setup.limits, self.setup.sessions, plan)
                self.stages[symbol] = [quality, Indicators(plan), Strategies(plan), SignalFilter(plan)]
            quality, *machines = self.stages[symbol]
            for item in quality.step(batch):
                if isinstance(item, MarketBatch):
                    for machine in machines:
                        machine.step(item)
                    slices = journal_slices(item, self.config.instruments.index(symbol))
                    self.keep(slices_out(slices, self.config))

    def settle(self) -> None:
        """Account and venue take turns until neither has anything to say."""
        while news := self.topics.get((JOURNAL, PARTITION), [])[self.applied :]:
            self.applied += len(news)
            messages = [(PARTITION, row.offset, row.key, row.value) for row in news]
            rows, _ = journal_rows(messages, self.config)
            orders = [np.zeros(0, ORDER)]
            for batch in self.align.step(rows):
                for said in self.account.step(batch):
                    outbox = outputs_out(said, self.names)
                    self.keep(outbox)
                    sent = [(0, 0, r.key, r.value) for r in outbox.records if r.topic == ORDERS]
                    orders.append(order_rows(sent, self.names))
            for told in self.venue.step(VenueInput(rows, np.concatenate(orders))):
                self.keep(reports_out(told, self.names))

    def repeat_slices(self, last: int) -> None:
        """What a market stage does that comes back after a crash."""
        rows = self.topics[JOURNAL, PARTITION]
        for row in [row for row in rows if b'"market_slice"' in (row.value or b"")][-last:]:
            assert row.key is not None
            assert row.value is not None
            self.append(JOURNAL, PARTITION, row.key, row.value)


def markers(rows: list[Row], every: int) -> list[Row]:
    """Offsets as they are with transactions: each ends with an offset that no message has."""
    return [row._replace(offset=row.offset + k // every) for k, row in enumerate(rows)]


TEXT = (
    (DEPLOY / "live.toml")
    .read_text()
    .replace("account_partition = 0", "account_partition = 1")
    .replace("fast = 20, slow = 60", "fast = 4, slow = 12")  # trades more
)


def config_of(folder: Path, old: str = "", new: str = "") -> Path:
    """The configuration, or one that says something else in one place."""
    path = folder / "live.toml"
    path.write_text(TEXT.replace(old, new) if old else TEXT)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return config_of(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def config(path: Path) -> Config:
    return load_config(path)


@pytest.fixture(scope="module")
def history(config: Config, clean_recording: Path) -> History:
    """A morning: the paper venue fills, a bar is unreadable, the market stage is killed and comes back."""
    live = Live(config)
    recording = BarRecording(clean_recording, config.instruments)
    for k, moment in enumerate(islice(moments(recording, live.setup.sessions), MINUTES)):
        for symbol, value in moment.bars:
            live.bar(symbol, value)
        if k == 50:
            live.append(BARS, 0, b"QQQ", b"{")
            live.repeat_slices(30)
        if k == 320:
            live.append(JOURNAL, PARTITION, b"paper", b"no record")  # halts the account: an alert
        live.settle()
        live.keep(clock_out(config.account.id, moment.time_ns + 2_000_000_000, []))
        live.settle()
    topics = live.topics
    for topic in (ORDERS, DECISIONS, ALERTS):
        topics[topic, PARTITION] = markers(topics[topic, PARTITION], 3)
    return topics


def write(history: History, folder: Path, account: str = "paper", rows: int = 100) -> Path:
    """A recording of it, in files of so many rows."""
    with pytest.MonkeyPatch.context() as patched, hold_recording(folder, Description(account, "")):
        patched.setattr(topic_recording, "MOST_ROWS", rows)
        for (topic, partition), held in history.items():
            writer = PartitionWriter(folder, topic, partition)
            for row in held:
                writer.add(row, 0.0)
                if writer.full:
                    writer.write()
            writer.write()
    return folder


def verified(folder: Path, config: Config) -> Verification:
    return verify(folder, config, lambda *_: None)


def by_topic(found: Verification) -> dict[str, Comparison]:
    return {comparison.topic: comparison for comparison in found.comparisons}


@pytest.fixture(scope="module")
def sound(history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(history, tmp_path_factory.mktemp("sound") / "recording")


def test_a_sound_recording_is_equal(history: History, config: Config, sound: Path) -> None:
    shown: list[tuple[int, int]] = []
    found = verify(sound, config, lambda done, total: shown.append((done, total)))
    assert found.equal
    assert found.first is None
    for topic in (ORDERS, DECISIONS, ALERTS):
        held = len(history[topic, PARTITION])
        assert by_topic(found)[topic] == Comparison(topic, compared=held), "all of it"
        assert held > 0
    assert by_topic(found)[SLICES] == Comparison(SLICES, compared=4 * MINUTES + 30)
    assert shown[-1] == (sum(map(len, history.values())),) * 2
    journal = history[JOURNAL, PARTITION]
    assert [(s.messages, s.first, s.last) for s in found.spans if s.topic == JOURNAL] == [
        (len(journal), 0, journal[-1].offset)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_where_the_topics_were_cut_makes_no_difference(
    history: History, config: Config, tmp_path: Path, seed: int
) -> None:
    """Every topic ends somewhere else; what is on one side only is counted apart, and nothing is lost."""
    chance = random.Random(seed)
    cut = {place: held[: chance.randrange(len(held) // 3, len(held) + 1)] for place, held in history.items()}
    found = verified(write(cut, tmp_path / "cut"), config)
    assert found.equal, found.first
    for topic in (ORDERS, DECISIONS, ALERTS):
        result = by_topic(found)[topic]
        assert result.compared + result.not_computed == len(cut[topic, PARTITION])
        assert not (result.not_computed and result.not_recorded)
    slices = sum(b'"market_slice"' in (row.value or b"") for row in cut[JOURNAL, PARTITION])
    result = by_topic(found)[SLICES]
    assert result.compared + result.not_computed == slices


Change = Callable[[list[Row]], list[Row]]


def changed(history: History, topic: str, change: Change) -> History:
    return {**history, (topic, PARTITION): change(list(history[topic, PARTITION]))}


def with_bytes(rows: list[Row], k: int, old: bytes, new: bytes) -> list[Row]:
    value = rows[k].value
    assert value is not None
    assert old in value
    return [*rows[:k], rows[k]._replace(value=value.replace(old, new, 1)), *rows[k + 1 :]]


@pytest.mark.parametrize("topic", [ORDERS, DECISIONS, ALERTS])
def test_one_byte_is_found(history: History, config: Config, tmp_path: Path, topic: str) -> None:
    rows = history[topic, PARTITION]
    k = len(rows) // 2
    said = json.loads(rows[k].value or b"")
    time_ns = said["time_ns"]
    new = b'"time_ns":%d' % (time_ns + 1)
    tampered = changed(history, topic, lambda rows: with_bytes(rows, k, b'"time_ns":%d' % time_ns, new))
    found = verified(write(tampered, tmp_path / "t"), config)
    assert not found.equal
    assert {c.topic: c.different for c in found.comparisons if c.different} == {topic: 1}
    first = found.first
    assert first is not None
    assert (first.topic, first.sequence, first.time_ns) == (topic, rows[k].sequence, time_ns)
    assert (first.field, first.recorded, first.computed) == ("time_ns", str(time_ns + 1), str(time_ns))
    assert said["instrument"] in first.record
    assert said["type"] in first.record


def test_bytes_that_say_the_same_are_not_the_same(history: History, config: Config, tmp_path: Path) -> None:
    tampered = changed(history, ORDERS, lambda rows: with_bytes(rows, 0, b'"type":', b'"type": '))
    first = verified(write(tampered, tmp_path / "t"), config).first
    assert first is not None
    assert first.field == ""
    assert first.recorded.startswith('{"type": "order"')
    assert first.computed.startswith('{"type":"order"')


def test_a_key_is_compared_too(history: History, config: Config, tmp_path: Path) -> None:
    tampered = changed(history, DECISIONS, lambda rows: [*rows[:-1], rows[-1]._replace(key=b"other")])
    first = verified(write(tampered, tmp_path / "t"), config).first
    assert first is not None
    assert (first.field, first.recorded, first.computed) == ("key", "other", "paper")


def renumbered(rows: list[Row]) -> list[Row]:
    return [row._replace(offset=k) for k, row in enumerate(rows)]


def places_of_slices(rows: list[Row], symbol: str) -> list[int]:
    wanted = f'"instrument":"{symbol}"'.encode()
    return [
        k
        for k, row in enumerate(rows)
        if b'"market_slice"' in (row.value or b"") and wanted in (row.value or b"")
    ]


def test_a_slice_that_differs_is_found(history: History, config: Config, tmp_path: Path) -> None:
    """PSQ has no signal of its own, and its volume decides nothing on that minute but fills."""
    rows = history[JOURNAL, PARTITION]
    k = places_of_slices(rows, "PSQ")[40]
    said = json.loads(rows[k].value or b"")
    new = b'"volume":%d' % (said["volume"] + 1)
    tampered = changed(
        history, JOURNAL, lambda rows: with_bytes(rows, k, b'"volume":%d' % said["volume"], new)
    )
    found = verified(write(tampered, tmp_path / "t"), config)
    assert by_topic(found)[SLICES].different == 1
    first = by_topic(found)[SLICES].first
    assert first is not None
    assert (first.record, first.time_ns, first.sequence) == ("market_slice PSQ", said["time_ns"], None)
    assert (first.field, first.recorded, first.computed) == (
        "volume",
        str(said["volume"] + 1),
        str(said["volume"]),
    )


def test_a_repeated_slice_that_differs_is_found(history: History, config: Config, tmp_path: Path) -> None:
    """The account passes it over; it is wrong all the same."""

    def repeated(rows: list[Row]) -> list[Row]:
        again = with_bytes(rows, places_of_slices(rows, "QQQ")[3], b'"low":"', b'"low":"1')
        return renumbered([*rows, again[places_of_slices(rows, "QQQ")[3]]])

    found = verified(write(changed(history, JOURNAL, repeated), tmp_path / "t"), config)
    assert {c.topic: c.different for c in found.comparisons if c.different} == {SLICES: 1}
    assert found.first is not None
    assert found.first.field == "low"


def test_a_slice_that_is_missing_or_made_up_is_found(
    history: History, config: Config, tmp_path: Path
) -> None:
    rows = history[JOURNAL, PARTITION]
    k = places_of_slices(rows, "PSQ")[3]
    time_ns = json.loads(rows[k].value or b"")["time_ns"]
    without = changed(history, JOURNAL, lambda rows: renumbered([*rows[:k], *rows[k + 1 :]]))
    result = by_topic(verified(write(without, tmp_path / "without"), config))[SLICES]
    assert result.different == 1
    assert result.first is not None
    assert (result.first.time_ns, result.first.recorded) == (time_ns, "nothing")

    def one_more(rows: list[Row]) -> list[Row]:
        made_up = with_bytes(rows, k, b'"time_ns":%d' % time_ns, b'"time_ns":%d' % (time_ns + 1))[k]
        return renumbered([*rows, made_up])

    result = by_topic(verified(write(changed(history, JOURNAL, one_more), tmp_path / "more"), config))[SLICES]
    assert result.different == 1
    assert result.first is not None
    assert (result.first.time_ns, result.first.computed) == (time_ns + 1, "nothing")


OTHERS: list[tuple[str, Change, str, str]] = [
    ("missing", lambda rows: [*rows[:4], *rows[5:]], "nothing", "{"),
    ("twice", lambda rows: [*rows[:5], rows[4], *rows[5:]], "{", "nothing"),
    ("without number", lambda rows: [*rows[:5], rows[4]._replace(sequence=None), *rows[5:]], "{", "nothing"),
    ("at the end without number", lambda rows: [*rows, rows[4]._replace(sequence=None)], "{", "nothing"),
    ("at the end twice", lambda rows: [*rows, rows[4]], "{", "nothing"),
]


@pytest.mark.parametrize(
    ("change", "recorded", "computed"), [row[1:] for row in OTHERS], ids=[r[0] for r in OTHERS]
)
def test_an_order_too_many_or_too_few_is_found(
    history: History, config: Config, tmp_path: Path, change: Change, recorded: str, computed: str
) -> None:
    tampered = changed(history, ORDERS, lambda rows: renumbered(change(rows)))
    found = verified(write(tampered, tmp_path / "t"), config)
    assert {c.topic: c.different for c in found.comparisons if c.different} == {ORDERS: 1}
    assert found.first is not None
    assert found.first.recorded.startswith(recorded)
    assert found.first.computed.startswith(computed)


def test_an_order_twice_is_found_behind_the_end_of_the_journal_too(
    history: History, config: Config, tmp_path: Path
) -> None:
    twice = changed(history, ORDERS, lambda rows: renumbered([*rows, rows[-1]]))
    at = b'"time_ns":%d' % json.loads(twice[ORDERS, PARTITION][-1].value or b"")["time_ns"]
    end = next(k for k, row in enumerate(twice[JOURNAL, PARTITION]) if at in (row.value or b""))
    cut = changed(twice, JOURNAL, lambda rows: rows[:end])
    found = verified(write(cut, tmp_path / "t"), config)
    assert by_topic(found)[ORDERS].not_computed > 0
    assert {c.topic: c.different for c in found.comparisons if c.different} == {ORDERS: 1}


# --- what cannot be compared


@pytest.mark.parametrize("topic", [JOURNAL, BARS, ORDERS, DECISIONS])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_missing_is_told(
    history: History, config: Config, tmp_path: Path, topic: str, which: int
) -> None:
    folder = write(history, tmp_path / "copy", rows=3)
    files_of(folder, topic, PARTITION)[which].path.unlink()
    with pytest.raises((NotComparable, RecordingError)) as told:
        verified(folder, config)
    if which:
        assert "are missing, between" in str(told.value)
        assert f"topic={topic}" in str(told.value)
    else:
        assert f"has topic {topic} partition 1 from offset 3 on only" in str(told.value)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ((JOURNAL, 1), "has no journal of account 'paper', partition 1"),
        ((BARS, 1), "and the recording none of its bars"),
        ((ORDERS, 1), "orders is in the recording"),
    ],
)
def test_a_topic_that_is_missing_is_told(
    history: History, config: Config, tmp_path: Path, place: tuple[str, int], said: str
) -> None:
    folder = write({k: v for k, v in history.items() if k != place}, tmp_path / "copy")
    with pytest.raises(NotComparable, match=said):
        verified(folder, config)


def test_a_recording_that_has_hardly_begun_cannot_be_compared(
    history: History, config: Config, tmp_path: Path
) -> None:
    start = {place: rows[:2] for place, rows in history.items() if place[0] in (BARS, JOURNAL)}
    with pytest.raises(NotComparable, match="record more"):
        verified(write(start, tmp_path / "start"), config)


def test_no_recording_is_told(config: Config, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recording of topics at"):
        verified(tmp_path, config)


def test_another_account_is_told(sound: Path, config: Config) -> None:
    other = config.model_copy(update={"account": config.account.model_copy(update={"id": "other"})})
    with pytest.raises(NotComparable, match=r"is a recording of account 'paper'.*'other'"):
        verified(sound, other)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"PSQ"', '"PSX"', "the journal names PSQ"),
        ('name = "ema_cross"', 'name = "another"', "the journal names ema_cross"),
    ],
)
def test_another_configuration_is_told(sound: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(NotComparable, match=said):
        verified(sound, load_config(config_of(tmp_path, old, new)))


def test_other_limits_are_a_difference(sound: Path, tmp_path: Path) -> None:
    path = config_of(tmp_path, "max_position_value = 100_000", "max_position_value = 10_000")
    found = verified(sound, load_config(path))
    assert not found.equal
    assert by_topic(found)[SLICES].different == 0


def test_bars_in_two_partitions_are_told(history: History, config: Config, tmp_path: Path) -> None:
    stray = renumbered(history[BARS, 0][:10])
    with pytest.raises(NotComparable, match=r"bars of .* stand in partitions 0 and 3"):
        verified(write({**history, (BARS, 3): stray}, tmp_path / "copy"), config)


# --- the command

app = typer.Typer()
app.command()(verify_command)


def said(*words: object) -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "250"})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, " ".join(ended.stderr.split())


def test_the_command_says_equal(sound: Path, path: Path) -> None:
    code, stdout, _ = said(sound, "-c", path, "--json")
    assert code == 0
    assert "journal partition 1" in stdout
    figures = json.loads(stdout.splitlines()[-1])
    assert figures["equal"] is True
    assert figures["first"] is None
    assert figures["topics"][ORDERS]["equal"] == figures["topics"][ORDERS]["compared"] > 0


def test_the_command_shows_the_first_difference(history: History, path: Path, tmp_path: Path) -> None:
    side = b'"side":"buy"'
    k = next(k for k, row in enumerate(history[ORDERS, PARTITION]) if side in (row.value or b""))
    tampered = changed(history, ORDERS, lambda rows: with_bytes(rows, k, side, b'"side":"sell"'))
    code, stdout, _ = said(write(tampered, tmp_path / "t"), "-c", path, "--json")
    assert code == 1
    assert "first difference" in stdout
    first = json.loads(stdout.splitlines()[-1])["first"]
    assert (first["topic"], first["field"]) == (ORDERS, "side")
    assert (first["recorded"], first["computed"]) == ('"sell"', '"buy"')


def test_the_command_says_why_it_cannot_compare(path: Path, tmp_path: Path) -> None:
    code, stdout, stderr = said(tmp_path / "none", "-c", path)
    assert (code, stdout) == (2, "")
    assert "not compared no recording of topics" in stderr
