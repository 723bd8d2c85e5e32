"""`sluice verify`: runs a recording of topics again and compares it with itself.

Exit codes: 0 equal, 1 different, 2 could not be compared.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from connectors.config_file import DEPLOY, load_config
from connectors.recording import RecordingError
from flows.process import RunError
from flows.verify import Comparison, Difference, Verification, verify
from operators.journal import JournalError
from schemas.config import ConfigError

EQUAL, DIFFERENT, NOT_COMPARED = 0, 1, 2
CANNOT = (ConfigError, JournalError, RecordingError, RunError)


def verify_command(
    recording: Annotated[Path, typer.Argument(help="folder that `sluice record` has made")],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="configuration that the account ran with (TOML)")
    ] = DEPLOY / "live.toml",
    as_json: Annotated[
        bool, typer.Option("--json", help="print the comparison as one JSON object, last")
    ] = False,
) -> None:
    """Compute orders, decisions, alerts and slices again, and compare every byte with the recorded ones."""
    try:
        result = _verify(recording, config)
    except CANNOT as error:
        told = f"[bold red]not compared[/] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        raise typer.Exit(NOT_COMPARED) from None
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    _show(console, recording, result)
    if as_json:
        print(json.dumps(_figures(result)))
    raise typer.Exit(EQUAL if result.equal else DIFFERENT)


def _verify(recording: Path, config: Path) -> Verification:
    columns = (
        TextColumn("verify"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    settled = load_config(config)
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("verify", total=None)
        return verify(recording, settled, lambda done, total: shown.update(task, completed=done, total=total))


def _show(console: Console, recording: Path, result: Verification) -> None:
    table = Table(title=escape(f"{recording}, computed again"), title_justify="left")
    table.add_column("topic")
    for name in ("compared", "equal", "different", "not recorded yet", "not computed yet"):
        table.add_column(name, justify="right")
    for comparison in result.comparisons:
        table.add_row(*_cells(comparison))
    console.print(table)
    for span in result.spans:
        if span.topic in ("bars", "journal"):
            read = f"{span.messages:,} messages, offsets {span.first:,} to {span.last:,}"
            console.print(f"read: {span.topic} partition {span.partition}, {read}", highlight=False)
    if any(comparison.not_recorded or comparison.not_computed for comparison in result.comparisons):
        console.print(
            "what is not there yet lies behind the end of the recording: record on, and verify again"
        )
    if result.first is not None:
        _show_difference(console, result.first)


def _cells(comparison: Comparison) -> tuple[str, ...]:
    different = f"{comparison.different:,}"
    return (
        comparison.topic,
        f"{comparison.compared:,}",
        f"{comparison.equal:,}",
        f"[bold red]{different}[/]" if comparison.different else different,
        f"{comparison.not_recorded:,}",
        f"{comparison.not_computed:,}",
    )


def _show_difference(console: Console, first: Difference) -> None:
    table = Table(title="first difference", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _words(first).items():
        table.add_row(name, escape(value))
    console.print(table)


def _words(first: Difference) -> dict[str, str]:
    at = datetime.fromtimestamp(first.time_ns // 1_000_000_000, UTC)
    return {
        "topic": first.topic,
        "sequence": "none" if first.sequence is None else f"{first.sequence:,}",
        "event time": f"{at:%Y-%m-%d %H:%M:%S} UTC",
        "record": first.record,
        "field": first.field or "all of it",
        "recorded": first.recorded,
        "computed": first.computed,
    }


def _figures(result: Verification) -> dict[str, Any]:
    return {
        "equal": result.equal,
        "topics": {
            comparison.topic: {**asdict(comparison), "equal": comparison.equal}
            for comparison in result.comparisons
        },
        "first": None if result.first is None else asdict(result.first),
        "read": [asdict(span) for span in result.spans],
    }
