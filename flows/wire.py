"""Records of topics as batches of the graph, and back. Nothing here decides anything: what cannot be decoded
is a dead letter, and in the journal it also halts the account, as it may have been an execution.
"""

import base64
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.kafka.sinks import Outbox, Outgoing
from connectors.kafka.source import Polled
from connectors.kafka.topic_bars import IGNORED, TopicRows
from flows.bar_parser import LEFT, BarParser
from operators.account_state import COMMAND, EVENT, REPORT, records
from operators.control import read_command
from schemas.batches import AccountBatch, BarBatch, DeadLetters, JournalRows, SliceBatch, VenueBatch
from schemas.codecs import Refused, decimal_of, decode, encode, from_rows, millionths_of, to_rows
from schemas.codes import DeadLetter, EventKind, Verdict
from schemas.commands import Command
from schemas.config import Config
from schemas.records import (
    Alert,
    Bar,
    Decision,
    MarketSlice,
    Names,
    Order,
    Refusal,
    Report,
    Signal,
    Tick,
    dtype_of,
)
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

JOURNAL_RECORDS = (MarketSlice, Tick, Report, Command)
PRICES = ("open", "high", "low", "close")
MOST_RAW = 40_000  # bytes of a refused record that a dead letter keeps: in base64 they fit one record

Message = tuple[int, int, bytes | None, bytes | None]
"""(partition, offset, key, value)."""


def names_of(config: Config) -> Names:
    """What the indices of this configuration's rows stand for."""
    return Names(config.account.id, config.instruments, tuple(s.name for s in config.strategies))


def messages_of(polled: Polled) -> list[Message]:
    """Messages as they were polled; one without a place is none."""
    return [
        (m.partition() or 0, m.offset() or 0, _bytes(m.key()), _bytes(m.value())) for m in polled.messages
    ]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


# --- bars


def bars_of(messages: Sequence[Message], config: Config) -> tuple[list[BarBatch], DeadLetters | None, int]:
    """Bars by symbol, in order; what is no bar of an instrument; and how many were of other symbols, where
    the configuration ignores these.
    """
    rows = bar_rows([key for _, _, key, _ in messages], [value for *_, value in messages], config)
    refused = _Refused(BARS)
    for k, reason, symbol in rows.refused:
        refused.add(messages[k], reason, symbol)
    by_symbol: dict[int, list[int]] = {}
    symbols = rows.symbols.tolist()
    for k, index in enumerate(symbols):
        if index >= 0:
            by_symbol.setdefault(index, []).append(k)
    bars = [_bar_batch(config.instruments[index], rows, at) for index, at in by_symbol.items()]
    return bars, refused.letters(), symbols.count(IGNORED)


def bar_rows(keys: Sequence[bytes | None], values: Sequence[bytes | None], config: Config) -> TopicRows:
    """Messages of the topic of bars as columns."""
    symbols, times, prices = _bar_parser(config.instruments).parse(keys, values)
    rows = TopicRows(symbols, times, prices, [])
    for k in np.flatnonzero(symbols == LEFT).tolist():
        key, bar = keys[k], decode(Bar, values[k])
        if isinstance(bar, Refused):
            rows.refused.append((k, bar.reason, _text(key)))
        elif key != bar.symbol.encode():
            rows.refused.append((k, DeadLetter.WRONG_KEY, bar.symbol))
        elif bar.symbol in config.instruments:
            symbols[k] = config.instruments.index(bar.symbol)
            times[:, k] = bar.start_ns, bar.end_ns
            prices[:, k] = bar.open, bar.high, bar.low, bar.close, bar.volume
        elif config.bars.other_symbols == "ignore":
            symbols[k] = IGNORED
        else:
            rows.refused.append((k, DeadLetter.UNKNOWN_SYMBOL, bar.symbol))
    return rows


@lru_cache(maxsize=4)
def _bar_parser(instruments: tuple[str, ...]) -> BarParser:
    return BarParser(instruments)


def _bar_batch(symbol: str, rows: TopicRows, at: list[int]) -> BarBatch:
    start_ns, end_ns = rows.times.take(at, axis=1)
    reason = np.zeros(len(at), np.uint8)
    return BarBatch(symbol, start_ns, end_ns, rows.prices.take(at, axis=1), reason, int(end_ns.max()))


# --- journal


def journal_rows(messages: Sequence[Message], config: Config) -> tuple[JournalRows, DeadLetters | None]:
    """Records of the account's journal, one row for each message; n >= 1."""
    refused = _Refused(JOURNAL)
    n, names = len(messages), names_of(config)
    where = _places(names.instruments)
    events = np.zeros(n, EVENT)
    events["instrument"] = -1
    values = np.zeros((n, len(names.strategies)), np.int64)
    verdicts = np.full(values.shape, Verdict.ABSENT, np.uint8)
    reports = [np.zeros(0, REPORT)]
    commands: list[bytes] = []
    for k, message in enumerate(messages):
        _, _, key, value = message
        record = decode(JOURNAL_RECORDS, value)
        fault = _fault(record, key, config, where)
        report = None
        if fault == DeadLetter.NONE and isinstance(record, Report):
            report = _report_row(record, names)
            fault = DeadLetter.UNKNOWN_SYMBOL if report is None else DeadLetter.NONE
        if fault != DeadLetter.NONE:
            refused.add(message, fault, "")
            _row(events, k, EventKind.CONTROL, 0, len(commands))
            commands.append(f"no record, at {message[1]}".encode())
        elif isinstance(record, MarketSlice):
            _row(events, k, EventKind.SLICE, record.time_ns, 0)
            events["instrument"][k] = where[record.instrument]
            for name in PRICES:
                events[name][k] = millionths_of(getattr(record, name))
            events["volume"][k] = record.volume
            for s, name in enumerate(names.strategies):
                if name in record.signals:
                    values[k, s], verdicts[k, s] = record.signals[name].value, record.signals[name].verdict
        elif isinstance(record, Tick):
            _row(events, k, EventKind.TICK, record.time_ns, 0)
        elif report is not None:
            _row(events, k, EventKind.EXECUTION, int(report["time_ns"][0]), len(reports) - 1)
            reports.append(report)
        else:
            assert value is not None
            _row(events, k, EventKind.CONTROL, 0, len(commands))
            commands.append(value)
    offsets = np.array([offset for _, offset, _, _ in messages], np.int64)
    asked = records(COMMAND, len(commands))
    for k, raw in enumerate(commands):
        asked[k] = read_command(raw, config)
    return JournalRows(
        offsets, events, values, verdicts, np.concatenate(reports), asked.view(np.ndarray)
    ), refused.letters()


@lru_cache(maxsize=4)
def _places(instruments: tuple[str, ...]) -> dict[str, int]:
    return {name: k for k, name in enumerate(instruments)}


def _row(events: Any, k: int, kind: EventKind, time_ns: int, detail: int) -> None:
    events["kind"][k], events["time_ns"][k], events["detail"][k] = kind, time_ns, detail


def _fault(record: Any, key: bytes | None, config: Config, where: dict[str, int]) -> DeadLetter:
    """Why a record of the journal cannot be applied."""
    if isinstance(record, Refused):
        return record.reason
    if key != config.account.id.encode():
        return DeadLetter.WRONG_KEY
    if isinstance(record, MarketSlice):
        unknown = set(record.signals) - {s.name for s in config.strategies}
        if record.instrument not in where or unknown:
            return DeadLetter.UNKNOWN_SYMBOL
    return DeadLetter.NONE


def _report_row(report: Report, names: Names) -> NDArray[Any] | None:
    """One row of REPORT; None where it names what the account does not have."""
    try:
        return to_rows(Report, [report], names)
    except ValueError:
        return None


def slices_out(batch: SliceBatch, config: Config) -> Outbox:
    """Slices on their way to the journal, in order."""
    names = names_of(config)
    symbol = names.instruments[batch.instrument]
    key = names.account.encode()
    out = []
    for event, values, verdicts in zip(
        batch.events, batch.values.tolist(), batch.verdicts.tolist(), strict=True
    ):
        signals = {
            name: Signal(value=value, verdict=Verdict(verdict))
            for name, value, verdict in zip(names.strategies, values, verdicts, strict=True)
            if verdict != Verdict.ABSENT
        }
        prices = {name: decimal_of(int(event[name])) for name in PRICES}
        record = MarketSlice(
            instrument=symbol,
            time_ns=int(event["time_ns"]),
            **prices,
            volume=int(event["volume"]),
            signals=signals,
        )
        out.append(Outgoing(JOURNAL, key, encode(record)))
    return Outbox(out)


def clock_out(account: str, time_ns: int | None, commands: Sequence[bytes]) -> Outbox:
    """A tick, if the clock says one, and operators' commands on their way to the journal."""
    said = [*commands] if time_ns is None else [encode(Tick(time_ns=time_ns)), *commands]
    return Outbox([Outgoing(JOURNAL, account.encode(), value) for value in said])


def reports_out(batch: VenueBatch, names: Names) -> Outbox:
    """A venue's reports on their way to the journal, numbered, so that none is written twice."""
    key = names.account.encode()
    reports = from_rows(Report, batch.reports, names)
    return Outbox([Outgoing(JOURNAL, key, encode(r), batch.number + k) for k, r in enumerate(reports)])


# --- what the account says


def outputs_out(batch: AccountBatch, names: Names) -> Outbox:
    """Orders, decisions and alerts on their way to their topics, by sequence."""
    tables: tuple[tuple[str, type[Order | Decision | Alert], Any], ...] = (
        (ORDERS, Order, batch.orders),
        (DECISIONS, Decision, batch.decisions),
        (ALERTS, Alert, batch.alerts),
    )
    key = names.account.encode()
    out = [
        Outgoing(topic, key, encode(record), record.sequence)
        for topic, model, table in tables
        if len(table)  # the ids of no orders cost as much as those of many
        for record in from_rows(model, table, names)
    ]
    return Outbox(sorted(out, key=_sequence))


def _sequence(record: Outgoing) -> int:
    assert record.sequence is not None
    return record.sequence


def order_rows(messages: Sequence[Message], names: Names) -> Any:
    """Requests (n,) of `dtype_of(Order)` of the account. Raises `ValueError` for what is none: only the
    account itself writes there.
    """
    orders: list[Order] = []
    for partition, offset, _, value in messages:
        order = decode(Order, value)
        if isinstance(order, Refused):
            raise ValueError(
                f"topic {ORDERS}, partition {partition}, offset {offset}: {order.detail}; something else "
                f"than an account writes to this topic: see kafka.prefix and kafka.account_partition"
            )
        orders.append(order)
    return to_rows(Order, orders, names) if orders else np.zeros(0, dtype_of(Order))


# --- dead letters


def letters_out(letters: DeadLetters) -> Outbox:
    """Dead letters on their way to their topic; the key is the topic they came from."""
    out = []
    for k in range(len(letters)):
        partition, offset = letters.places[k] if letters.places else (-1, -1)
        raw = letters.raw[k] if letters.places else letters.raw[k] or _fields(letters, k)
        record = Refusal(
            topic=letters.topic,
            partition=partition,
            offset=offset,
            reason=DeadLetter(int(letters.reason[k])),
            symbol=letters.symbol[k],
            record=base64.b64encode(raw[:MOST_RAW]).decode(),
        )
        out.append(Outgoing(DEAD_LETTERS, letters.topic.encode(), encode(record)))
    return Outbox(out)


def _fields(letters: DeadLetters, k: int) -> bytes:
    """What is known of a record that decoded, and was refused for what it says."""
    prices = dict(zip((*PRICES, "volume"), letters.prices[:, k].tolist(), strict=True))
    times = {"start_ns": int(letters.start_ns[k]), "end_ns": int(letters.end_ns[k])}
    return json.dumps({"symbol": letters.symbol[k], **times, **prices}).encode()


class _Refused:
    """Dead letters of one topic, as they are found."""

    def __init__(self, topic: str):
        self.topic = topic
        self.rows: list[tuple[Message, DeadLetter, str]] = []

    def add(self, message: Message, reason: DeadLetter, symbol: str) -> None:
        self.rows.append((message, reason, symbol))

    def letters(self) -> DeadLetters | None:
        if not self.rows:
            return None
        messages, reasons, symbols = (list(column) for column in zip(*self.rows, strict=True))
        raw = [value or b"" for _, _, _, value in messages]
        places = [(partition, offset) for partition, offset, _, _ in messages]
        return DeadLetters.of_bytes(self.topic, symbols, reasons, raw, places)


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")[:32]
