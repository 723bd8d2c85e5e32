"""What happened in a scenario, as lines for people: the journal beside what the account answered."""

from collections.abc import Iterator
from typing import Any

from flows.simulation.run import Finding, Played
from flows.simulation.shadow import BELOW, MEANING, Statement
from schemas.codes import (
    AlertKind,
    Breaker,
    ControlAction,
    EventKind,
    ExecutionKind,
    Intent,
    OrderKind,
    Outcome,
    Reason,
    Side,
    Stage,
)
from schemas.config import MINUTE_NS, NS
from schemas.records import MICRO


def lines_of(played: Played, last: int = 40) -> list[str]:
    """The last events, oldest first: when, what entered the account, what left it."""
    return list(_lines(played))[-last:]


def sentence(played: Played, found: Finding) -> str:
    """Which statement did not hold, where, when, and the two numbers that were compared."""
    when = f" at {clock(played, found.time_ns)}" if found.time_ns else ""
    note = f", {found.note}" if found.note else ""
    return (
        f"{found.statement.name} {MEANING[found.statement]}: {_place(played, found)}{when}{note}, "
        f"{found.observed} beside {found.limit}"
    )


def _place(played: Played, found: Finding) -> str:
    symbols = played.scenario.config.instruments
    if 0 <= found.instrument < len(symbols):
        return symbols[found.instrument]
    if found.instrument > BELOW:
        return "account"
    place = BELOW - found.instrument
    return f"breaker {place}" if found.statement == Statement.O13 else AlertKind(place).name


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


def _marked(table: Any, name: str, symbols: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """(time, sequence, text) of each row of an output; no text where there is nothing to say."""
    for row in table:
        symbol = symbols[row["instrument"]] if name != "equity" and row["instrument"] >= 0 else ""
        if name == "execution":
            yield int(row["known_ns"]), -1, _execution(row, symbol)
        elif name in SAYS:
            yield int(row["time_ns"]), int(row["sequence"]), SAYS[name](row, symbol)


def _order(row: Any, symbol: str) -> str:
    price = f"{row['limit_price'] / MICRO:.4f}" if row["limit_price"] else "market"
    return (
        f"{OrderKind(row['kind']).name} {Intent(row['intent']).name} {Side(row['side']).name} "
        f"{row['quantity']} {symbol} at {price} #{row['order_ns'] % 10**15 // NS}.{row['attempt']}"
    )


def _decision(row: Any, symbol: str) -> str:
    if row["outcome"] in (Outcome.REFUSED, Outcome.RECORDED):
        return ""
    moved = f"{row['position']} to {row['approved']}"
    return f"{Stage(row['stage']).name} {Reason(row['reason']).name} {moved} {symbol}"


def _execution(row: Any, symbol: str) -> str:
    kind, cash = ExecutionKind(row["kind"]).name, row["cash"] / MICRO
    return f"booked {kind} {symbol}, position {row['position']}, cash {cash:,.2f}"


def _alert(row: Any, symbol: str) -> str:
    kind = AlertKind(row["kind"]).name
    if row["kind"] in (AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED):
        kind += f" {Breaker(row['breaker']).name}"
    return f"ALERT {kind} {symbol} {row['observed']} {row['limit']}"


TABLES = ("order", "execution", "decision", "equity", "alert")
SAYS = {"order": _order, "decision": _decision, "alert": _alert}


def _row(played: Played, event: Any) -> str:
    names = played.scenario.config.instruments
    if event.kind == EventKind.SLICE:
        return f"{names[event.instrument]} {event.close / MICRO:.4f} x{event.volume}"
    if event.kind == EventKind.EXECUTION:
        report = played.journal.reports[event.detail]
        name = names[report.instrument] if 0 <= report.instrument < len(names) else "-"
        text = f"{ExecutionKind(report.kind).name} {name} #{report.order_ns % 10**15 // NS}.{report.attempt}"
        if report.kind in (ExecutionKind.FILL, ExecutionKind.BUST):
            text += f" {Side(report.side).name} {report.quantity} at {report.price / MICRO:.4f}"
            text += f" id {report.execution_id}"
        if report.kind == ExecutionKind.POSITION:
            text += f" {report.quantity}"
        return f"{text} so far {report.cumulative}"
    if event.kind == EventKind.CONTROL:
        command = played.scenario.commands[event.detail]
        return f"COMMAND {ControlAction(command.action).name} keys {command.keys}"
    return ""
