"""Commands that trade from topics: live, paper, publish."""

from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.config_file import DEPLOY, load_config
from connectors.kafka.client import check_broker, client_settings
from connectors.recording import BarRecording
from flows.graph import Setup
from flows.live import live
from flows.paper import paper
from flows.process import RunError, stop_on_signal
from flows.publish import Followers, Publisher, moments, moments_in, publish
from flows.service import grace_of, required, run_service

LIVE_CONFIG = DEPLOY / "live.toml"

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="configuration with \\[live] and \\[kafka] (TOML)")
]
RecoveryOption = Annotated[
    Path, typer.Option("--recovery", "-r", help="folder of snapshots; made when it is not there")
]
SecondsOption = Annotated[int, typer.Option(min=1, help="seconds from one snapshot to the next")]
PortOption = Annotated[
    int | None, typer.Option("--metrics-port", help="instead of metrics.port, for a second process")
]


def live_command(
    recovery: RecoveryOption,
    config: ConfigOption = LIVE_CONFIG,
    control: Annotated[Path | None, typer.Option(help="control folder of the account")] = None,
    shard: Annotated[
        str, typer.Option(help="this process has only: account, market or market:0-3 (partitions of bars)")
    ] = "",
    snapshot_seconds: SecondsOption = 5,
    metrics_port: PortOption = None,
) -> None:
    """Trade from topics: bars in, orders out. Stop it with SIGTERM or Ctrl-C."""
    run_service(live(load_config(config), control, shard), recovery, snapshot_seconds, metrics_port)


def paper_command(
    recovery: RecoveryOption,
    config: ConfigOption = LIVE_CONFIG,
    snapshot_seconds: SecondsOption = 5,
    metrics_port: PortOption = None,
) -> None:
    """The paper venue: takes the orders of a live account and reports to its journal."""
    run_service(paper(load_config(config)), recovery, snapshot_seconds, metrics_port)


def publish_command(
    recording: Annotated[Path, typer.Argument(help="recording of bars, made by import or generate")],
    config: ConfigOption = LIVE_CONFIG,
    speed: Annotated[
        str, typer.Option(help="1 is the pace they had, 60 a minute in a second, max as fast as possible")
    ] = "1",
    follow: Annotated[
        list[str] | None,
        typer.Option(help="metrics address of a process that must have read a bar before the next one"),
    ] = None,
    first: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="first day to take")] = None,
    last: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="last day to take")] = None,
) -> None:
    """Feed the bars of a recording into their topic, and the clock with them."""
    settled = load_config(config)
    terms, kafka = required(settled)
    setup = Setup.of(settled, paper=False)
    bars = BarRecording(
        recording, settled.instruments, first.date() if first else None, last.date() if last else None
    )
    settings = client_settings(kafka, "publish")
    check_broker(settings)
    publisher = Publisher(settings, settled, kafka, grace_of(terms))
    followers = Followers(follow or [], settings, kafka.prefix)
    stop, console, published = Event(), Console(), 0
    columns = (
        TextColumn("publish"),
        BarColumn(),
        TextColumn("{task.fields[bars]:,} bars"),
        TimeRemainingColumn(),
    )
    with stop_on_signal(stop), Progress(*columns, console=console) as shown:
        task = shown.add_task("publish", total=moments_in(bars, setup.sessions), bars=0)
        for count in publish(
            moments(bars, setup.sessions),
            publisher,
            followers,
            interval_ns=settled.interval_ns,
            speed=_speed(speed),
            ticks=terms.clock == "publisher",
            stop=stop,
        ):
            published += count
            shown.update(task, advance=1, bars=published)
    console.print(f"{published:,} bars published")


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise RunError(f"--speed {text}: must be a number above 0, such as 60, or max")
    return speed
