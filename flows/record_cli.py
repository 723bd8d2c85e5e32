"""`sluice record`: takes the topics of an account into files."""

import json
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.config_file import DEPLOY, load_config
from flows.process import stop_on_signal
from flows.record import Recorded, record
from flows.service import set_up_logging


def record_command(
    recording: Annotated[
        Path, typer.Argument(help="folder of the recording; made, or continued where it ends")
    ],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="configuration with \\[kafka] (TOML)")
    ] = DEPLOY / "live.toml",
    until_end: Annotated[
        bool, typer.Option("--until-end", help="stop where the topics ended when this began")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print what was recorded as one JSON object, last")
    ] = False,
) -> None:
    """Record bars, journal, orders, decisions, alerts and dead letters. Stop it with SIGTERM or Ctrl-C."""
    set_up_logging()
    settled = load_config(config)
    stop, console = Event(), Console(stderr=True)
    columns = (
        TextColumn("record"),
        BarColumn(),
        TextColumn("{task.fields[read]:,} messages, {task.fields[written]:,} in files"),
        TimeElapsedColumn(),
    )
    with stop_on_signal(stop), Progress(*columns, console=console) as shown:
        task = shown.add_task("record", total=None, read=0, written=0)

        def show(done: Recorded) -> None:
            read, written = sum(done.read.values()), sum(done.written.values())
            shown.update(task, completed=read, total=read + done.left, read=read, written=written)

        done = record(settled, recording, stop, until_end=until_end, progress=show)
    told = ", ".join(f"{count:,} {topic}" for topic, count in done.written.items())
    Console().print(f"recorded: {told}", highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps({"recording": str(recording), **asdict(done)}))
