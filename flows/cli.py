"""The `sluice` command line.

Every command that judges prints a table for people and, last, with `--json` (always for `real` and `bench`),
one JSON object. Exit codes: 0 all held, 1 something did not hold, 2 could not be judged, 130 stopped.
"""

import json
import shutil
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from connectors.bar_import import BarImportError, import_bars, report_table
from connectors.calendars import load_sessions
from connectors.config_file import DEPLOY, load_config
from connectors.results import SUMMARY, WORK
from connectors.synthetic import Family, write_synthetic
from flows.audit_cli import audit
from flows.bench import bench as run_bench
from flows.control_cli import control_app
from flows.explain_cli import explain_command
from flows.graph import Setup
from flows.kafka_cli import topics_app
from flows.live_cli import live_command, paper_command, publish_command
from flows.process import USER_ERRORS, RunError
from flows.real import replay_families
from flows.record_cli import record_command
from flows.replay import prepare, prepare_topic
from flows.run import run
from flows.simulation.command import simulate
from flows.summary import show
from flows.verify_cli import verify_command
from operators.quality import SymbolJudge
from schemas.config import NS

DEFAULT_CONFIG = DEPLOY / "demo.toml"
FAMILIES_CONFIG = DEPLOY / "us-families.toml"
DEMO_FAMILIES = (
    Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)), thin={"PSQ": 0.02}),
)
HELD, NOT_HELD, NOT_JUDGED, STOPPED = 0, 1, 2, 130

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0]
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="configuration of the deployment (TOML)")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the summary as one JSON object, last")]
FirstOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="first day to take")]
LastOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="last day to take")]


def make_console() -> Console:
    """A terminal has a width of its own; a file or a pipe gets one that fits the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


app.command("explain")(explain_command)
app.command()(audit)
app.command()(simulate)
app.add_typer(control_app)
LIVE = "Live: trade from Kafka topics"
app.command("live", rich_help_panel=LIVE)(live_command)
app.command("paper", rich_help_panel=LIVE)(paper_command)
app.command("publish", rich_help_panel=LIVE)(publish_command)
app.command("record", rich_help_panel=LIVE)(record_command)
app.command("verify", rich_help_panel=LIVE)(verify_command)
app.add_typer(topics_app, name="topics", rich_help_panel=LIVE)


@app.callback()
def about() -> None:
    """Sluice: bars go in, orders that passed every gate come out."""


@app.command()
def replay(
    config: ConfigOption,
    recording: Annotated[
        Path | None, typer.Argument(help="recording of bars, made by import or generate")
    ] = None,
    topic: Annotated[
        bool, typer.Option("--topic", help="instead of a recording: the topic of bars of section \\[kafka]")
    ] = False,
    out: OutOption = Path("out"),
    first: FirstOption = None,
    last: LastOption = None,
    recovery: Annotated[
        Path | None,
        typer.Option(
            "--recovery", "-r", help="folder for snapshots; the same command continues a killed run"
        ),
    ] = None,
    snapshot_seconds: Annotated[
        int, typer.Option(min=0, help="seconds between snapshots; 0: after every batch")
    ] = 5,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="worker threads; one is fastest, all give the same result")
    ] = 1,
    window_rows: Annotated[int, typer.Option(min=0, help="rows read at a time, 0: by number of symbols")] = 0,
    batch_bars: Annotated[
        int, typer.Option(min=0, help="most bars in a batch, 0: a window; changes no result")
    ] = 0,
    control: Annotated[
        Path | None, typer.Option(help="folder of operators' commands, which take effect at their times")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay bars of a recording, or of their topic, through the whole graph and show the result."""
    console = make_console()
    if topic == (recording is not None):
        raise RunError("name a recording to replay, or --topic to replay the topic of bars: one of the two")
    settled = load_config(config)
    how: dict[str, Any] = {
        "window_rows": window_rows,
        "batch_bars": batch_bars,
        "durable": recovery is not None,
        "control": control,
        "config_path": config,
    }
    if recording is not None:
        ready = prepare(recording, settled, out, first=_day(first), last=_day(last), **how)
    elif first is None and last is None:
        ready = prepare_topic(settled, out, **how)
    else:
        raise RunError("--first and --last are for recordings: a topic is replayed from its beginning")
    summary = run(ready, console, workers=workers, recovery=recovery, snapshot_seconds=snapshot_seconds)
    if summary is None:
        if not ready.progress.stop.is_set():
            summary = _finished_before(out)
        if summary is None:
            kept = (
                "the same command continues"
                if recovery
                else "nothing was kept; use --recovery DIR to be able to continue"
            )
            console.print(f"stopped after {ready.progress.rows:,} bars; {kept}")
            raise typer.Exit(STOPPED)
    if recovery is None:
        shutil.rmtree(out / WORK)
    if summary["bars"] == 0:
        refused = ", ".join(f"{reason} {count:,}" for reason, count in summary["dead_letters"].items())
        raise RunError(f"no bar was accepted, so there is nothing to judge; refused: {refused or 'none'}")
    finish(
        console,
        show(summary, out),
        summary,
        as_json,
        all(row["held"] for part in ("principles", "statements") for row in summary[part].values()),
    )


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="a CSV or Parquet file, or a folder of SYMBOL.csv or SYMBOL.parquet")
    ],
    recording: Annotated[Path, typer.Argument(help="the recording to make; must not exist")],
    interval: Annotated[int, typer.Option(min=1, help="length of a bar in seconds")] = 60,
    stamped: Annotated[str | None, typer.Option(help="whether a time is a bar's start or its end")] = None,
    zone: Annotated[
        str | None, typer.Option(help="time zone of times without one, such as America/New_York")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="unit of epoch numbers: s, ms, us or ns")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PART, where usual names do not do: start, end, time, symbol, open, ..."),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="symbol of a file that names none")] = None,
    first: FirstOption = None,
    last: LastOption = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", help="its \\[calendar] and \\[bars] judge the bars")
    ] = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Turn bars of your own into a recording and show what is in it."""
    console = make_console()
    setup = Setup.of(load_config(config), paper=True)
    limits = replace(setup.limits, interval_ns=interval * NS)
    report = import_bars(
        source,
        recording,
        interval_ns=interval * NS,
        sessions=setup.sessions,
        judge=SymbolJudge(limits, setup.sessions),
        columns=_columns(column or []),
        stamped=stamped,
        zone=zone,
        unit=unit,
        symbol=symbol,
        first=_day(first),
        last=_day(last),
    )
    console.print(report_table(report))
    if as_json:
        refused = {reason.name.lower(): count for reason, count in sorted(report.refused.items())}
        print(json.dumps({"rows": report.rows, "recorded": report.recorded, "refused": refused}))


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _columns(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, equals, part = pair.rpartition("=")
        if not equals:
            raise BarImportError(f"--column {pair}: write it as NAME=PART, such as --column Last=close")
        columns[name] = part
    return columns


@app.command()
def generate(
    recording: Annotated[Path, typer.Argument(help="the recording to make; must not exist")],
    days: Annotated[int, typer.Option(min=1, help="sessions")] = 60,
    seed: Annotated[int, typer.Option(help="the same seed gives the same bars")] = 7,
    first: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="first day")] = datetime(2024, 10, 1),  # noqa: DTZ001
    clean: Annotated[
        bool, typer.Option("--clean", help="without the dirty records that a real feed has")
    ] = False,
    exchange: Annotated[str, typer.Option(help="exchange calendar")] = "XNYS",
) -> None:
    """Make a recording of a synthetic market: the QQQ family, which obeys its leverage, half days, gaps
    and some dirt.
    """
    sessions = load_sessions(exchange, first.date(), first.date() + timedelta(days=2 * days + 30))
    rows = write_synthetic(recording, sessions, DEMO_FAMILIES, first.date(), days, seed, dirty=not clean)
    make_console().print(f"{rows:,} bars of a synthetic market in {recording}")


@app.command()
def real(
    data: Annotated[Path, typer.Argument(help="folder that holds bars_1m/SYMBOL.parquet")],
    config: ConfigOption = FAMILIES_CONFIG,
) -> None:
    """Replay every strategy over every leveraged family that has bars, and show one table."""
    console = make_console()
    table, rows = replay_families(data, load_config(config), console)
    finish(console, table, {"rows": rows}, True, all(row["principles_held"] == 5 for row in rows))


@app.command()
def bench(
    folder: Annotated[Path, typer.Option(help="where the benchmark's recordings are kept")] = Path(".bench"),
) -> None:
    """Measure bars a second and peak memory of whole replays; takes some minutes."""
    console = make_console()
    table, figures = run_bench(folder, console)
    finish(console, table, figures, True, True)


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
    sys.path.insert(0, "")  # a configuration may name modules of the folder it is used from
    try:
        app()
    except (*USER_ERRORS, RunError, BarImportError) as error:
        told = f"[bold red]error[/] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        sys.exit(NOT_JUDGED)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        sys.exit(STOPPED)
