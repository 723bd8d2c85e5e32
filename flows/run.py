"""Runs a prepared replay in this process: progress, a graceful stop, recovery, and errors that say what to
do.
"""

import fcntl
import gc
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from connectors.control_files import ControlError
from connectors.recording import RecordingError
from connectors.replay_source import Progress as ReplayProgress
from connectors.results import ResultsError
from flows.auditor import AuditAlarm, AuditError
from flows.graph import compile_kernels
from flows.replay import Replay
from operators.account_machine import JournalError
from operators.compiled import COLD
from operators.shell import SnapshotError
from schemas.config import ConfigError

USER_ERRORS = (
    AuditAlarm,
    AuditError,
    ConfigError,
    ControlError,
    JournalError,
    RecordingError,
    ResultsError,
    SnapshotError,
)
PLAIN_SECONDS = 5.0


class RunError(RuntimeError):
    """A run could not be started or finished, for a reason its user can mend."""


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
        _locked(recovery) as config,
        _stop_on_signal(replay.progress),
        _shown(replay.progress, console, quiet),
    ):
        try:
            cluster_main(
                replay.flow,
                [],
                0,
                epoch_interval=timedelta(seconds=snapshot_seconds if recovery else 0),
                recovery_config=config,
                worker_count_per_proc=workers,
            )
        except Exception as error:
            for known in _chain(error):
                if isinstance(known, USER_ERRORS):
                    raise known from None
            raise
    return replay.progress.summary


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it: Bytewax wraps what a step raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def _locked(recovery: Path | None) -> Iterator[RecoveryConfig | None]:
    """Prepare the recovery directory and hold it alone: two runs on one directory would double every
    effect.
    """
    if recovery is None:
        yield None
        return
    if recovery.exists() and not recovery.is_dir():
        raise RunError(f"--recovery {recovery} is a file; snapshots need a folder")
    recovery.mkdir(parents=True, exist_ok=True)
    with (recovery / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another run holds the recovery directory {recovery}; wait for it, or give this run another "
                f"--recovery"
            ) from None
        stores = sorted(recovery.glob("part-*.sqlite3"))
        for store in stores:
            _check_store(store)
        if not stores:
            init_db_dir(recovery, 1)
        yield RecoveryConfig(recovery)


def _check_store(store: Path) -> None:
    """A damaged store must be a message, not a crash of the library that opens it."""
    try:
        with closing(sqlite3.connect(store)) as database:
            (said,) = database.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise RunError(f"{store} is damaged ({said}); start anew with an empty recovery directory")


@contextmanager
def _stop_on_signal(progress: ReplayProgress) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the input after the batch in hand; a second SIGINT interrupts."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of a signal handler
        progress.stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


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
            f"replay: day {progress.days_done:.0f} of {progress.days}, {progress.rows:,} bars, "
            f"{rate:,.0f} bars/s, about {left:,.0f} s left"
        )
