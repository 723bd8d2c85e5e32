"""`sluice explain`: why there was an order at a bar, or why not."""

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import exchange_calendars
import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from flows.explanation import Explanation, GateFacts, Row, SignalFacts, explain
from flows.lineage import LineageError, Show, open_result
from operators.compiled import COLD

WIDTH = 150
PATIENCE = 2.0  # seconds of silence before progress is shown
SOME_DAYS = timedelta(days=30)
DECISION_COLUMNS = ("stage", "outcome", "reason", "target", "approved", "position", "observed", "limit")
ORDER_COLUMNS = ("kind", "intent", "side", "quantity", "limit_price", "expires_ns", "client_order_id")
EXECUTION_COLUMNS = ("known_ns", "kind", "side", "quantity", "price", "fee", "position", "client_order_id")
ALERT_COLUMNS = ("kind", "breaker", "strategy", "observed", "limit")


def explain_command(
    out: Annotated[Path, typer.Argument(help="folder of a finished replay")],
    symbol: Annotated[str, typer.Option("--symbol", "-s", help="instrument")],
    at: Annotated[
        str,
        typer.Option(
            "--at",
            "-t",
            metavar="TIME",
            help="end of the bar, such as '2025-03-11 10:31', in the time zone of the exchange; with Z or an "
            "offset, such as 2025-03-11T14:31Z, as it says",
        ),
    ],
    recording: Annotated[
        Path | None, typer.Option(help="the recording that was replayed, if it has moved")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="the configuration of the replay, if it has moved")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print all of it as one JSON object, and nothing else")
    ] = False,
) -> None:
    """Say why there was an order at a bar of a replay, or why there was none.

    The bars are run through the same stages again up to that bar, and what comes out is compared with the
    result. Exit codes: 0 explained, 2 could not be, also where the result says something else.
    """
    errors = Console(stderr=True)
    if COLD:
        errors.print("compiling kernels, once for this version: about a minute")
    result = open_result(out, recording, config)
    calendar = result.setup.config.calendar
    zone = exchange_zone(calendar.exchange, calendar.last)
    asked_ns = parse_time(at, zone)
    with _progress(errors) as show:
        said = explain(result, symbol, asked_ns, zone, show)
    if as_json:
        print(json.dumps(asdict(said), allow_nan=False))
    else:
        console = Console()
        (console if console.is_terminal else Console(width=WIDTH)).print(page(said))
    if said.differences:
        raise LineageError(
            f"{out} was made by other code, other bars or other commands: {'; '.join(said.differences)}; "
            f"replay again to explain it"
        )


def exchange_zone(exchange: str, last: date) -> ZoneInfo:
    """The time zone of an exchange whose calendar covers the days before `last`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # within the library
        calendar = exchange_calendars.get_calendar(
            exchange, start=(last - SOME_DAYS).isoformat(), end=last.isoformat()
        )
    return ZoneInfo(str(calendar.tz))


def parse_time(text: str, zone: ZoneInfo) -> int:
    """A time in ns: as it says with Z or an offset, else in `zone`. Raises `LineageError`."""
    example = "write it as '2025-03-11 10:31' or 2025-03-11T14:31Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise LineageError(f"--at {text!r} is no time; {example}") from None
    if len(text.strip()) <= len("2025-03-11"):
        raise LineageError(f"--at {text!r} is a day without a time; {example}")
    if not 1970 <= moment.year < 2200:
        raise LineageError(f"--at {text!r} is no time of a replay; {example}")
    if moment.tzinfo is None:
        early, late = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if early != late:
            why = "comes twice" if early < late else "does not exist"
            raise LineageError(f"--at {text!r} {why} in {zone}, where the clock changes; give an offset")
        moment = early
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed // timedelta(microseconds=1)) * 1000


@contextmanager
def _progress(console: Console) -> Iterator[Show]:
    """A bar on a terminal, a line now and then elsewhere, once it takes long."""
    begun = said = time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("running again", total=None, visible=False)

        def show(done: float, days: int) -> None:
            nonlocal said
            now = time.perf_counter()
            bar.update(task, completed=done, total=days, visible=now - begun > PATIENCE)
            if not console.is_terminal and now - said > PATIENCE:
                said = now
                console.print(f"running again: day {done:.0f} of {days}")

        yield show


# --- the page


def page(said: Explanation) -> Group:
    """The explanation from top to bottom, in the order of the graph."""
    parts: list[Any] = [Text(said.sentence, style="bold"), _place(said)]
    if said.differences:
        parts.insert(0, Text("\n".join(said.differences), style="bold red"))
    parts.append(_bar(said))
    parts += (
        [_rows("Dead letters", said.dead_letters, tuple(said.dead_letters[0]))] if said.dead_letters else []
    )
    for signal in said.signals:
        parts.append(_signal(signal))
    parts.append(_allocation(said))
    if said.gates:
        parts.append(_gates(said.gates))
    for title, rows, columns in (
        ("Decisions", said.decisions, DECISION_COLUMNS),
        ("Orders", said.orders, ORDER_COLUMNS),
        ("Executions that came at this bar", said.executions, EXECUTION_COLUMNS),
        ("Executions that followed", said.followed, EXECUTION_COLUMNS),
        ("Alerts", said.alerts, ALERT_COLUMNS),
    ):
        if rows:
            parts.append(_rows(title, rows, columns))
    if said.earlier:
        words = [f"{row['table']}: {row.get('kind') or row.get('reason')}" for row in said.earlier]
        parts.append(Text(f"before the bar's end: {', '.join(words)}"))
    parts.append(_account(said))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=escape(title), title_justify="left", show_header=bool(columns))
    if not columns:
        table.add_column(style="bold")
        table.add_column()
    return table


def _place(said: Explanation) -> Text:
    note = f" ({said.note})" if said.note else ""
    return Text(f"{said.instrument} at {said.time}, {said.zone}{note}", style="dim")


def _bar(said: Explanation) -> Any:
    if said.bar is None:
        return Text(f"Bar: none, as {said.absent}" if said.absent else "Bar: none")
    table = _table("Bar", "start", "open", "high", "low", "close", "volume")
    bar = said.bar
    table.add_row(
        bar.start,
        *(f"{price:,}" for price in (bar.open, bar.high, bar.low, bar.close)),
        f"{bar.volume:,.0f}",
    )
    return table


def _signal(signal: SignalFacts) -> Table:
    title = f"Signal of {signal.strategy} on {signal.reads}, for {signal.trades}"
    table = _table(title + ("" if signal.moves else ", which is not this instrument"))
    for name, value in signal.features.items():
        table.add_row(escape(name), "pending" if value is None else f"{value:,.6g}")
    table.add_row(signal.emits, "none" if signal.raw is None else f"{signal.raw:.6g}")
    table.add_row("filter", escape(signal.words))
    table.add_row("least score to enter", f"{signal.floor:.6g}")
    table.add_row("bars of cool-down left", str(signal.wait))
    table.add_row("passed before, now", f"{signal.held:+.6g}, {signal.passed:+.6g}")
    return table


def _allocation(said: Explanation) -> Table:
    facts = said.allocation
    table = _table("Allocation")
    for sleeve in facts.sleeves:
        weight = f", {sleeve.weight:.1%} of equity in {sleeve.instrument}" if sleeve.instrument else ""
        table.add_row(f"{sleeve.strategy} on {sleeve.reads}", f"{sleeve.value:+.6g} {sleeve.tier}{weight}")
    table.add_row("weight", f"{facts.weight:.1%} of equity")
    why = (
        "" if facts.reason in ("none", "target") else f", by {facts.stage}: {facts.reason.replace('_', ' ')}"
    )
    table.add_row("target", f"{facts.target:,}{why}")
    table.add_row("position", f"{facts.position:,}, {facts.phase}")
    table.add_row("open order", facts.live or "none")
    return table


def _gates(gates: list[GateFacts]) -> Table:
    table = _table("Gates, in order of authority", "gate", "verdict", "allowed", "of", "why")
    styles = {"allowed": "green", "reduced": "yellow", "refused": "red"}
    for gate in gates:
        verdict = f"[{styles[gate.verdict]}]{gate.verdict}[/]"
        if not gate.asked:
            verdict = f"not asked, {gate.verdict}"
        table.add_row(
            gate.stage.replace("_", " "),
            verdict,
            f"{gate.allowed:,}",
            f"{gate.wanted:,}",
            escape(gate.words),
            style=None if gate.asked else "dim",
        )
    return table


def _rows(title: str, rows: list[Row], columns: tuple[str, ...]) -> Table:
    table = _table(title, *(name.removesuffix("_ns").replace("_", " ") for name in columns))
    for row in rows:
        table.add_row(*(escape(_cell(row[name])) for name in columns))
    return table


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _account(said: Explanation) -> Table:
    facts = said.account
    table = _table("Account when it decided")
    level = facts.level + (", flattening" if facts.flattening else "")
    left = f", {facts.to_close} to the close" if facts.to_close else ""
    table.add_row("halt level", level)
    table.add_row("breakers tripped", "\n".join(facts.breakers) or "none")
    table.add_row("day", f"{facts.day_phase.replace('_', ' ')}{left}")
    table.add_row("cash, reserved, equity", f"{facts.cash}, {facts.reserved}, {facts.equity}")
    if facts.blocked:
        table.add_row(f"{said.instrument} blocked", facts.blocked.replace("_", " "))
    return table
