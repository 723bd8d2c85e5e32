"""Runs a prepared replay in this process, and shows how far it is."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from bytewax.testing import cluster_main
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.replay_source import Progress as ReplayProgress
from flows.graph import compile_kernels
from flows.process import hold_recovery, stop_on_signal, telling_errors
from flows.replay import Replay
from operators.compiled import COLD

PLAIN_SECONDS = 5.0


def run(
    replay: Replay,
    console: Console,
    *,
    workers: int = 1,
    recovery: Path | None = None,
    snapshot_seconds: int = 5,
    quiet: bool = False,
) -> dict[str, Any] | None:
    """Run to the end of the recording and return the summary, or None where it was stopped before.

    Without recovery every window is an epoch, which gives back-pressure; with it, an epoch lasts
    `snapshot_seconds`. Raises `RunError` and the errors of configuration, recording and snapshot.
    """
    if COLD and not quiet:
        console.print("compiling kernels, once for this version: about a minute")
    compile_kernels(replay.setup)
    gc.freeze()  # what start-up made stays; looking through it again and again only costs time
    with (
        hold_recovery(recovery) as config,
        stop_on_signal(replay.progress.stop),
        _shown(replay.progress, console, quiet),
        telling_errors(),
    ):
        cluster_main(
            replay.flow,
            [],
            0,
            epoch_interval=timedelta(seconds=snapshot_seconds if recovery else 0),
            recovery_config=config,
            worker_count_per_proc=workers,
        )
    return replay.progress.summary


@contextmanager
def _shown(progress: ReplayProgress, console: Console, quiet: bool) -> Iterator[None]:
    """A progress bar on a terminal, a plain line now and then elsewhere."""
    if quiet:
        yield
        return
    done = threading.Event()
    show = _show_bar if console.is_terminal else _show_lines
    thread = threading.Thread(target=show, args=(progress, console, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _rate(progress: ReplayProgress) -> float:
    return progress.rows / max(time.perf_counter() - progress.started, 1e-9) if progress.rows else 0.0


def _show_bar(progress: ReplayProgress, console: Console, done: threading.Event) -> None:
    columns = (
        TextColumn("replay"),
        BarColumn(),
        TextColumn(
            "{task.percentage:>3.0f} %  {task.fields[bars]:,} bars  {task.fields[rate]:,.0f} bars/s  left"
        ),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("replay", total=progress.days, bars=0, rate=0.0)
        while not done.wait(0.1):
            bar.update(task, completed=progress.days_done, bars=progress.rows, rate=_rate(progress))
        bar.update(task, completed=progress.days_done, bars=progress.rows, rate=_rate(progress))


def _show_lines(progress: ReplayProgress, console: Console, done: threading.Event) -> None:
    while not done.wait(PLAIN_SECONDS):
        rate = _rate(progress)
        left = (
            (progress.days - progress.days_done)
            * progress.rows
            / max(progress.days_done, 1)
            / max(rate, 1e-9)
        )
        console.print(
            f"replay: {progress.days_done / max(progress.days, 1):.0%}, {progress.rows:,} bars, "
            f"{rate:,.0f} bars/s, about {left:,.0f} s left"
        )
