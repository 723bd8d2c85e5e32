"""What happened in a scenario, as lines for people: the journal beside what the account answered."""

from collections.abc import Iterator
from typing import Any

from flows.simulation.run import Played
from schemas.codes import (
    AlertKind,
    Breaker,
    ControlAction,
    EventKind,
    ExecutionKind,
    Intent,
    OrderKind,
    Reason,
    Side,
    Stage,
)
from schemas.config import MINUTE_NS, NS
from schemas.records import MICRO


def lines_of(played: Played, last: int = 40) -> list[str]:
    """The last events, oldest first: when, what entered the account, what left it."""
    return list(_lines(played))[-last:]


def clock(played: Played, time_ns: int) -> str:
    """A time as session and minutes since its open."""
    opens = played.rules.session_open_ns
    s = max(int((opens <= time_ns).sum()) - 1, 0)
    minutes, rest = divmod(int(time_ns - opens[s]), MINUTE_NS)
    return f"{s}/{minutes:03d}:{rest / NS:06.3f}"


def _lines(played: Played) -> Iterator[str]:
    journal = played.journal
    events = journal.events[: played.rows]
    account_ns, row = 0, 0
    tables = [
        _marked(table, name, played.scenario.config.instruments)
        for table, name in zip(played.outputs(), TABLES, strict=True)
    ]
    pending = [next(table, None) for table in tables]
    while row < len(events):
        first = row
        while row < len(events) and events[row].time_ns == events[first].time_ns:
            row += 1
        account_ns = max(account_ns, int(events[first].time_ns))
        rows = [_row(played, events[k]) for k in range(first, row)]
        said = ", ".join(text for text in rows if text)
        out: list[tuple[int, str]] = []
        for k, table in enumerate(tables):
            while pending[k] is not None and pending[k][0] <= account_ns:  # type: ignore[index]
                _, sequence, text = pending[k]  # type: ignore[misc]
                if text:
                    out.append((sequence, text))
                pending[k] = next(table, None)
        if said or out:
            when = clock(played, int(events[first].time_ns))
            yield f"{when}  {said or '.'}"
            yield from (f"{'':14}-> {text}" for _, text in sorted(out))


TABLES = ("order", "execution", "decision", "equity", "alert")


def _marked(table: Any, name: str, symbols: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """(time, sequence, text with the instrument as a place) of each row of an output."""
    for row in table:
        symbol = "" if name == "equity" or row["instrument"] < 0 else symbols[row["instrument"]]
        if name == "order":
            kind = OrderKind(row["kind"]).name
            limit = row["limit_price"] / MICRO
            text = (
                f"{kind} {Intent(row['intent']).name} {Side(row['side']).name} {row['quantity']} "
                f"{symbol} at {limit or 'market'} #{row['order_ns'] % 10**15 // NS}.{row['attempt']}"
            )
            yield int(row["time_ns"]), int(row["sequence"]), text
        elif name == "decision":
            if row["outcome"] in (2, 3):
                continue
            text = f"{Stage(row['stage']).name} {Reason(row['reason']).name} {row['position']} to {row['approved']}"
            yield int(row["time_ns"]), int(row["sequence"]), f"{text} {symbol}"
        elif name == "alert":
            kind = AlertKind(row["kind"]).name
            if row["kind"] in (AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED):
                kind += f" {Breaker(row['breaker']).name}"
            text = f"ALERT {kind} {symbol} {row['observed']} {row['limit']}"
            yield int(row["time_ns"]), int(row["sequence"]), text
        elif name == "execution":
            text = f"booked {ExecutionKind(row['kind']).name}, position {row['position']}, cash {row['cash'] / MICRO:,.2f}"
            yield int(row["known_ns"]), -1, f"{text} {symbol}"


def _row(played: Played, event: Any) -> str:
    names = played.scenario.config.instruments
    if event.kind == EventKind.SLICE:
        return f"{names[event.instrument]} {event.close / MICRO:.4f} x{event.volume}"
    if event.kind == EventKind.EXECUTION:
        report = played.journal.reports[event.detail]
        name = names[report.instrument] if 0 <= report.instrument < len(names) else "-"
        text = f"{ExecutionKind(report.kind).name} {name} #{report.order_ns % 10**15 // NS}.{report.attempt}"
        if report.kind in (ExecutionKind.FILL, ExecutionKind.BUST):
            text += f" {Side(report.side).name} {report.quantity} at {report.price / MICRO:.4f} id {report.execution_id}"
        if report.kind == ExecutionKind.POSITION:
            text += f" {report.quantity}"
        return f"{text} so far {report.cumulative}"
    if event.kind == EventKind.CONTROL:
        command = played.scenario.commands[event.detail]
        return f"COMMAND {ControlAction(command.action).name} keys {command.keys}"
    return ""
