"""The `sluice` command line.

Every command that judges prints a table for people and, last, with `--json` (always for `real` and `bench`), one JSON object.
Exit codes: 0 all held, 1 something did not hold, 2 could not be judged, 130 stopped.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from connectors.config_file import load_config
from connectors.results import SUMMARY, WORK
from flows.replay import WINDOW_ROWS, prepare
from flows.run import USER_ERRORS, RunError, run
from flows.summary import show

HELD, NOT_HELD, NOT_JUDGED, STOPPED = 0, 1, 2, 130

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0])

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="configuration of the deployment (TOML)")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the summary as one JSON object, last")]


@app.callback()
def about() -> None:
    """Sluice: bars go in, orders that passed every gate come out."""


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(help="recording of bars, made by import or generate")],
    config: ConfigOption,
    out: OutOption = Path("out"),
    recovery: Annotated[
        Path | None, typer.Option("--recovery", "-r", help="folder for snapshots; the same command continues a killed run")
    ] = None,
    snapshot_seconds: Annotated[int, typer.Option(min=0, help="seconds between snapshots; 0: after every batch")] = 5,
    workers: Annotated[int, typer.Option(min=1, max=64, help="worker threads; one is fastest, all give the same result")] = 1,
    window_rows: Annotated[int, typer.Option(min=1, help="rows read at a time: memory")] = WINDOW_ROWS,
    batch_bars: Annotated[int, typer.Option(min=0, help="most bars in a batch, 0: a window; changes no result")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded bars through the whole graph and show the result."""
    console = Console()
    ready = prepare(recording, load_config(config), out, window_rows=window_rows, batch_bars=batch_bars)
    if recovery is None and (out / WORK).exists():
        shutil.rmtree(out / WORK)
    summary = run(
        ready, console, workers=workers, recovery=recovery, snapshot_seconds=snapshot_seconds
    )
    if summary is None:
        if not ready.progress.stop.is_set():
            summary = _finished_before(out)
        if summary is None:
            how = "the same command continues" if recovery else "nothing was kept; use --recovery DIR to be able to continue"
            console.print(f"stopped after {ready.progress.rows:,} bars; {how}")
            raise typer.Exit(STOPPED)
    if recovery is None:
        shutil.rmtree(out / WORK)
    finish(console, show(summary, out), summary, as_json, all(row["held"] for row in summary["principles"].values()))


def _finished_before(out: Path) -> dict[str, Any] | None:
    """A resumed run that had nothing left to do: its result is there already."""
    path = out / SUMMARY
    if not path.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def finish(console: Console, table: Any, figures: dict[str, Any], as_json: bool, held: bool) -> None:
    """Show the table, then the figures as one line, and end with the exit code."""
    console.print(table)
    if as_json:
        print(json.dumps(figures))
    raise typer.Exit(HELD if held else NOT_HELD)


def main() -> None:
    """Entry point. What a user can mend is a message, not a traceback."""
    try:
        app()
    except (*USER_ERRORS, RunError) as error:
        Console(stderr=True).print(f"[bold red]error[/] {error}", highlight=False, markup=True)
        sys.exit(NOT_JUDGED)
