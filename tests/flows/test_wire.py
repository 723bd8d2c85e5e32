"""Records of topics as batches, and back."""

import base64
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from base_config import base_with
from hypothesis import given
from hypothesis import strategies as st

from flows.wire import (
    MOST_RAW,
    bars_of,
    clock_out,
    journal_rows,
    letters_out,
    names_of,
    order_rows,
    outputs_out,
    reports_out,
    slices_out,
)
from operators.account_state import COMMAND, EVENT, records
from operators.control import KILL_FILE
from schemas.batches import AccountBatch, DeadLetters, SliceBatch, VenueBatch
from schemas.codecs import MAX_BYTES, decode, encode, from_rows
from schemas.codes import (
    ControlAction,
    ControlRefusal,
    DeadLetter,
    EventKind,
    HaltLevel,
    Intent,
    OrderKind,
    Side,
    Verdict,
)
from schemas.commands import Command, Signature
from schemas.config import Config, parse_config
from schemas.records import (
    MAX_INT,
    Alert,
    Bar,
    Decision,
    MarketSlice,
    Order,
    Refusal,
    Report,
    Signal,
    Tick,
    dtype_of,
    fields_of,
)
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

TIME = 1_751_549_400_000_000_000
MINUTE = 60_000_000_000
BAR: dict[str, Any] = {
    "type": "bar",
    "version": 1,
    "symbol": "QQQ",
    "start_ns": TIME,
    "end_ns": TIME + MINUTE,
    "open": 100.25,
    "high": 101.0,
    "low": 100.0,
    "close": 100.5,
    "volume": 1200.0,
    "source": "feed",
}


def configuration(**changes: Any) -> Config:
    strategy = {
        "kind": "toggle",
        "parameters": {},
        "signals": ["QQQ"],
        "family": "QQQ",
        "capital_share": Decimal("0.5"),
        "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
    }
    data = base_with() | {"strategies": [strategy | {"name": name} for name in ("one", "two")]}
    return parse_config(base_with(data, **changes))


CONFIG = configuration()
NAMES = names_of(CONFIG)
KEY = CONFIG.account.id.encode()


def at(offset: int, value: bytes | None, key: bytes | None = KEY) -> Any:
    """A message in partition 7."""
    return 7, offset, key, value


def bar(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (BAR | changes).items() if v is not ...}).encode()


# --- bars

PRICE = st.floats(0, 1e9)
BARS_OF_TESTS = st.builds(
    Bar,
    symbol=st.sampled_from(CONFIG.instruments),
    start_ns=st.integers(0, MAX_INT),
    end_ns=st.integers(0, MAX_INT),
    open=PRICE,
    high=PRICE,
    low=PRICE,
    close=PRICE,
    volume=PRICE,
    source=st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
)


@given(st.lists(BARS_OF_TESTS))
def test_bars_keep_their_numbers_and_the_order_of_their_symbol(bars: list[Bar]) -> None:
    batches, letters, ignored = bars_of(
        [at(k, encode(one), one.symbol.encode()) for k, one in enumerate(bars)], CONFIG
    )
    assert (letters, ignored) == (None, 0)
    assert len({batch.symbol for batch in batches}) == len(batches)
    for batch in batches:
        mine = [one for one in bars if one.symbol == batch.symbol]
        assert batch.start_ns.tolist() == [one.start_ns for one in mine]
        assert batch.end_ns.tolist() == [one.end_ns for one in mine]
        assert batch.prices.T.tolist() == [[o.open, o.high, o.low, o.close, o.volume] for o in mine]
        assert batch.prices.flags.c_contiguous
        assert batch.complete_ns == max(one.end_ns for one in mine)
        assert not batch.reason.any()
    assert sum(len(batch) for batch in batches) == len(bars)


NO_BARS: list[tuple[DeadLetter, bytes | None, bytes | None]] = [
    (DeadLetter.MALFORMED, None, b"QQQ"),
    (DeadLetter.MALFORMED, b"", b"QQQ"),
    (DeadLetter.MALFORMED, b"\xff", b"QQQ"),
    (DeadLetter.MALFORMED, bar()[:-1], b"QQQ"),
    (DeadLetter.OVERSIZE, bar() + b" " * MAX_BYTES, b"QQQ"),
    (DeadLetter.DUPLICATE_KEY, bar()[:-1] + b',"open":1}', b"QQQ"),
    (DeadLetter.MISSING_FIELD, bar(volume=...), b"QQQ"),
    (DeadLetter.WRONG_TYPE, bar(open="100"), b"QQQ"),
    (DeadLetter.WRONG_TYPE, bar(start_ns=True), b"QQQ"),
    (DeadLetter.UNKNOWN_FIELD, bar(colour="red"), b"QQQ"),
    (DeadLetter.UNKNOWN_ENUM, bar(type="tick"), b"QQQ"),
    (DeadLetter.WRONG_VERSION, bar(version=2), b"QQQ"),
    (DeadLetter.NOT_FINITE, bar(close=float("nan")), b"QQQ"),
    (DeadLetter.TIME_OUT_OF_RANGE, bar(start_ns=-1), b"QQQ"),
    (DeadLetter.WRONG_KEY, bar(), b"TQQQ"),
    (DeadLetter.WRONG_KEY, bar(), b""),
    (DeadLetter.WRONG_KEY, bar(), None),
    (DeadLetter.WRONG_KEY, bar(symbol="ABC"), b"QQQ"),
    (DeadLetter.UNKNOWN_SYMBOL, bar(symbol="ABC"), b"ABC"),
]


@pytest.mark.parametrize(("reason", "value", "key"), NO_BARS)
def test_what_is_no_bar_is_a_dead_letter_and_its_neighbours_are_not(
    reason: DeadLetter, value: bytes | None, key: bytes | None
) -> None:
    good = bar()
    batches, letters, ignored = bars_of([at(1, good, b"QQQ"), at(5, value, key), at(6, good, b"QQQ")], CONFIG)
    assert [(batch.symbol, len(batch)) for batch in batches] == [("QQQ", 2)]
    assert ignored == 0
    assert letters is not None
    assert (letters.topic, letters.reason.tolist(), letters.raw) == (BARS, [reason], [value or b""])
    assert letters.places == [(7, 5)]


def test_bars_of_other_symbols_are_counted_where_they_are_ignored() -> None:
    strangers = [at(k, bar(symbol="ABC"), b"ABC") for k in range(3)]
    config = configuration(bars__other_symbols="ignore")
    assert bars_of(strangers, config) == ([], None, 3)
    _, letters, _ = bars_of([at(0, bar(symbol="ABC"), b"QQQ")], config)
    assert letters is not None
    assert letters.reason.tolist() == [DeadLetter.WRONG_KEY]


@given(st.lists(st.tuples(st.binary() | st.none(), st.binary(max_size=40) | st.none())))
def test_arbitrary_bytes_are_all_dead_letters_that_can_be_written(
    messages: list[tuple[bytes | None, bytes | None]],
) -> None:
    batches, letters, _ = bars_of([at(k, *message) for k, message in enumerate(messages)], CONFIG)
    assert batches == []
    assert (letters is None) == (not messages)
    for record, (value, _) in zip(letters_out(letters).records if letters else [], messages, strict=True):
        said = decode(Refusal, record.value)
        assert isinstance(said, Refusal)
        assert base64.b64decode(said.record) == (value or b"")


# --- dead letters


def test_a_dead_letter_says_where_the_record_stood_and_keeps_its_bytes() -> None:
    _, letters, _ = bars_of([at(3, b"\xff", b"QQQ"), at(4, b"x" * (MAX_BYTES + 1), b"\xff" * 99)], CONFIG)
    assert letters is not None
    one, two = letters_out(letters).records
    assert {(r.topic, r.key, r.sequence) for r in (one, two)} == {(DEAD_LETTERS, b"bars", None)}
    assert decode(Refusal, one.value) == Refusal(
        topic=BARS, partition=7, offset=3, reason=DeadLetter.MALFORMED, symbol="QQQ", record="/w=="
    )
    long = decode(Refusal, two.value)
    assert isinstance(long, Refusal)
    assert (long.offset, long.reason, long.symbol) == (4, DeadLetter.OVERSIZE, "\ufffd" * 32)
    assert base64.b64decode(long.record) == b"x" * MOST_RAW


def test_a_bar_that_decoded_and_was_refused_is_told_by_its_fields() -> None:
    letters = DeadLetters(
        BARS,
        ["QQQ"],
        np.array([DeadLetter.HIGH_BELOW_LOW], np.uint8),
        np.array([TIME]),
        np.array([TIME + MINUTE]),
        np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]),
        [b""],
    )
    (record,) = letters_out(letters).records
    said = decode(Refusal, record.value)
    assert isinstance(said, Refusal)
    assert (said.partition, said.offset, said.reason) == (-1, -1, DeadLetter.HIGH_BELOW_LOW)
    fields = {"symbol": "QQQ", "start_ns": TIME, "end_ns": TIME + MINUTE}
    fields |= {"open": 1.0, "high": 2.0, "low": 3.0, "close": 4.0, "volume": 5.0}
    assert json.loads(base64.b64decode(said.record)) == fields


# --- slices: out to the journal, and in again

MICROS = st.integers(1 - 10**18, 10**18 - 1)


@st.composite
def slice_batches(draw: st.DrawFn) -> SliceBatch:
    n = draw(st.integers(1, 4))
    events = np.zeros(n, EVENT)
    instrument = draw(st.integers(0, len(NAMES.instruments) - 1))
    events["kind"], events["instrument"] = EventKind.SLICE, instrument
    for name, numbers in (
        ("time_ns", st.integers(0, MAX_INT)),
        *((name, MICROS) for name in ("open", "high", "low", "close")),
        ("volume", st.integers(-MAX_INT, MAX_INT)),
    ):
        events[name] = draw(st.lists(numbers, min_size=n, max_size=n))
    verdicts = np.array(
        draw(st.lists(st.lists(st.sampled_from(Verdict), min_size=2, max_size=2), min_size=n, max_size=n)),
        np.uint8,
    )
    signals = st.lists(st.integers(-1_000_000, 1_000_000), min_size=2, max_size=2)
    values = np.array(draw(st.lists(signals, min_size=n, max_size=n)), np.int64)
    values[verdicts == Verdict.ABSENT] = 0
    return SliceBatch(instrument, events, values, verdicts, 0, final=False)


@given(slice_batches(), st.integers(0, 10**12))
def test_slices_come_back_from_the_journal_as_they_went(batch: SliceBatch, offset: int) -> None:
    sent = slices_out(batch, CONFIG).records
    assert {(record.topic, record.key, record.sequence) for record in sent} == {(JOURNAL, KEY, None)}
    rows, letters = journal_rows([at(offset + k, r.value, r.key) for k, r in enumerate(sent)], CONFIG)
    assert letters is None
    assert rows.offsets.tolist() == list(range(offset, offset + len(sent)))
    assert rows.events.tobytes() == batch.events.tobytes()
    assert rows.values.tobytes() == batch.values.tobytes()
    assert rows.verdicts.tobytes() == batch.verdicts.tobytes()


@given(slice_batches())
def test_the_same_slice_has_the_same_bytes(batch: SliceBatch) -> None:
    again = replace(batch, events=batch.events.copy(), complete_ns=5)
    assert slices_out(batch, CONFIG) == slices_out(again, CONFIG)


# --- the rest of the journal


def values_of(model: Any, name: str) -> st.SearchStrategy[int]:
    """Everything that a field of a row can hold and its record allows."""
    kind, enumeration = next((k, e) for n, k, e in fields_of(model) if n == name)
    match kind.name:
        case "time":
            return st.integers(0, MAX_INT)
        case "money":
            return MICROS
        case "symbol":
            return st.integers(-1, len(NAMES.instruments) - 1)
        case "strategy":
            return st.integers(-1, len(NAMES.strategies) - 1)
        case "enum":
            assert enumeration is not None
            return st.sampled_from([int(member) for member in enumeration])
    return st.integers(-MAX_INT, MAX_INT)


def tables(model: Any, most: int = 4) -> st.SearchStrategy[Any]:
    """Rows (n,) of a record."""
    dtype = dtype_of(model)
    row = st.tuples(*(values_of(model, name) for name in dtype.names or ()))
    return st.lists(row, max_size=most).map(lambda rows: np.array(rows, dtype))


@given(tables(Report), st.integers(0, 10**12))
def test_reports_come_back_from_the_journal_as_they_went(reports: Any, number: int) -> None:
    sent = reports_out(VenueBatch(number, reports), NAMES).records
    assert [record.sequence for record in sent] == list(range(number, number + len(reports)))
    rows, letters = journal_rows([at(k, r.value, r.key) for k, r in enumerate(sent)], CONFIG)
    assert letters is None
    assert rows.reports.tobytes() == reports.tobytes()
    assert rows.events["kind"].tolist() == [EventKind.EXECUTION] * len(reports)
    assert rows.events["detail"].tolist() == list(range(len(reports)))
    assert rows.events["time_ns"].tolist() == reports["time_ns"].tolist()


def test_the_clock_says_its_time_and_then_what_operators_said() -> None:
    records_said = clock_out("test", 5, [b"one", b"two"]).records
    assert [(r.topic, r.key, r.value) for r in records_said] == [
        (JOURNAL, b"test", encode(Tick(time_ns=5))),
        (JOURNAL, b"test", b"one"),
        (JOURNAL, b"test", b"two"),
    ]
    assert clock_out("test", None, []).records == []
    rows, letters = journal_rows([at(0, records_said[0].value)], CONFIG)
    assert letters is None
    assert (rows.events["kind"].tolist(), rows.events["time_ns"].tolist()) == ([EventKind.TICK], [5])
    assert rows.events["instrument"].tolist() == [-1]


SLICE = MarketSlice(
    instrument="QQQ",
    time_ns=TIME,
    open=Decimal(1),
    high=Decimal(1),
    low=Decimal(1),
    close=Decimal(1),
    volume=1,
    signals={"one": Signal(value=7, verdict=Verdict.PASSED)},
)
REPORT_ROW = np.zeros(1, dtype_of(Report))
REPORT = from_rows(Report, REPORT_ROW, NAMES)[0]
KILL = Command(
    account=CONFIG.account.id,
    command_id=TIME,
    action=ControlAction.KILL,
    issuer=KILL_FILE,
    reason="a test",
    expires_ns=MAX_INT,
    breaker="",
    strategy="",
    instrument="",
    limit="",
    value=Decimal(0),
    signatures=[],
)

POISON: list[tuple[DeadLetter, bytes | None, bytes | None]] = [
    (DeadLetter.MALFORMED, None, KEY),
    (DeadLetter.MALFORMED, b"\x00", KEY),
    (DeadLetter.OVERSIZE, b"x" * (MAX_BYTES + 1), KEY),
    (DeadLetter.UNKNOWN_ENUM, bar(), KEY),
    (DeadLetter.WRONG_KEY, encode(SLICE), b"another"),
    (DeadLetter.WRONG_KEY, encode(Tick(time_ns=1)), None),
    (DeadLetter.WRONG_KEY, encode(REPORT), b""),
    (DeadLetter.WRONG_KEY, encode(KILL), b"another"),
    (DeadLetter.UNKNOWN_SYMBOL, encode(SLICE.model_copy(update={"instrument": "ABC"})), KEY),
    (DeadLetter.UNKNOWN_SYMBOL, encode(SLICE.model_copy(update={"instrument": ""})), KEY),
    (
        DeadLetter.UNKNOWN_SYMBOL,
        encode(SLICE.model_copy(update={"signals": {"three": SLICE.signals["one"]}})),
        KEY,
    ),
    (DeadLetter.UNKNOWN_SYMBOL, encode(REPORT.model_copy(update={"instrument": "ABC"})), KEY),
    (DeadLetter.UNKNOWN_SYMBOL, encode(REPORT.model_copy(update={"client_order_id": "not ours"})), KEY),
    (DeadLetter.UNKNOWN_SYMBOL, encode(REPORT.model_copy(update={"client_order_id": ""})), KEY),
]


@pytest.mark.parametrize(("reason", "value", "key"), POISON)
def test_poison_in_the_journal_is_a_dead_letter_and_a_command_that_halts(
    reason: DeadLetter, value: bytes | None, key: bytes | None
) -> None:
    messages = [at(10, encode(SLICE)), at(11, value, key), at(12, encode(REPORT)), at(13, value, key)]
    rows, letters = journal_rows(messages, CONFIG)
    assert letters is not None
    assert letters.topic == JOURNAL
    assert letters.reason.tolist() == [reason, reason]
    assert letters.raw == [value or b""] * 2
    assert letters.places == [(7, 11), (7, 13)]
    kinds = [EventKind.SLICE, EventKind.CONTROL, EventKind.EXECUTION, EventKind.CONTROL]
    assert rows.events["kind"].tolist() == kinds
    assert rows.events["detail"].tolist() == [0, 0, 0, 1]
    assert rows.offsets.tolist() == [10, 11, 12, 13]
    assert rows.reports.tobytes() == REPORT_ROW.tobytes()
    assert rows.commands["refusal"].tolist() == [ControlRefusal.MALFORMED] * 2
    one, two = rows.commands
    assert one.tobytes() != two.tobytes()  # each halts anew: the journal drops commands that it knows


def test_a_command_stands_in_the_journal_as_it_was_signed() -> None:
    signed = {"issuer": "nobody", "signatures": [Signature(key="nobody", signature="AAAA")]}
    forged = KILL.model_copy(update=signed)
    rows, letters = journal_rows([at(0, encode(KILL)), at(1, encode(forged))], CONFIG)
    assert letters is None
    assert rows.commands.dtype == records(COMMAND, 0).dtype
    assert rows.commands["refusal"].tolist() == [ControlRefusal.NONE, ControlRefusal.FORGED]
    assert rows.commands["action"].tolist() == [ControlAction.KILL] * 2
    assert rows.commands["command_id"].tolist() == [TIME, TIME]
    assert rows.events["time_ns"].tolist() == [0, 0]


@given(st.lists(st.tuples(st.binary() | st.none(), st.binary(max_size=8) | st.none()), min_size=1))
def test_arbitrary_bytes_in_the_journal_never_raise_and_all_halt(
    messages: list[tuple[bytes | None, bytes | None]],
) -> None:
    rows, letters = journal_rows([at(k, *message) for k, message in enumerate(messages)], CONFIG)
    assert letters is not None
    assert len(letters) == len(messages)
    assert rows.commands["refusal"].tolist() == [ControlRefusal.MALFORMED] * len(messages)


# --- what the account says


@st.composite
def account_batches(draw: st.DrawFn) -> AccountBatch:
    tables_of = {model: draw(tables(model)) for model in (Order, Decision, Alert)}
    numbers = iter(draw(st.permutations(range(sum(len(table) for table in tables_of.values())))))
    for table in tables_of.values():
        table["sequence"] = sorted(next(numbers) for _ in table)
    nothing = np.zeros(0)
    orders, decisions, alerts = tables_of.values()
    return AccountBatch(
        orders, nothing, decisions, nothing, alerts, HaltLevel.ACTIVE, final=False, account=None
    )


@given(account_batches())
def test_outputs_leave_by_sequence_and_say_what_the_account_said(batch: AccountBatch) -> None:
    sent = outputs_out(batch, NAMES).records
    assert [record.sequence for record in sent] == list(range(len(sent)))
    assert {record.key for record in sent} <= {KEY}
    for topic, model, table in (
        (ORDERS, Order, batch.orders),
        (DECISIONS, Decision, batch.decisions),
        (ALERTS, Alert, batch.alerts),
    ):
        said = [decode(model, record.value) for record in sent if record.topic == topic]
        assert said == from_rows(model, table, NAMES)


@given(tables(Order))
def test_the_venue_reads_the_orders_that_the_account_wrote(orders: Any) -> None:
    messages = [at(k, encode(order)) for k, order in enumerate(from_rows(Order, orders, NAMES))]
    assert order_rows(messages, NAMES).tobytes() == orders.tobytes()


def test_an_order_has_the_id_that_its_account_symbol_time_intent_and_attempt_give() -> None:
    rows = np.zeros(1, dtype_of(Order))
    rows["kind"], rows["side"], rows["intent"] = OrderKind.NEW, Side.SELL, Intent.EXIT
    rows["instrument"], rows["strategy"], rows["order_ns"], rows["attempt"] = 1, 0, TIME, 2
    nothing = {model: np.zeros(0, dtype_of(model)) for model in (Decision, Alert)}
    empty = np.zeros(0)
    batch = AccountBatch(
        rows, empty, nothing[Decision], empty, nothing[Alert], HaltLevel.ACTIVE, final=False, account=None
    )
    (record,) = outputs_out(batch, NAMES).records
    order = decode(Order, record.value)
    assert isinstance(order, Order)
    assert order.client_order_id == f"test-TQQQ-{TIME}-exit-2"


@pytest.mark.parametrize("value", [None, b"\x00", bar(), encode(Tick(time_ns=1))])
def test_what_is_no_order_stops_the_venue_with_its_place(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"topic orders, partition 7, offset 9: .*kafka\.prefix"):
        order_rows([at(9, value)], NAMES)
