"""What every process of ours has: it holds its recovery directory alone, ends cleanly when it is asked to,
and tells errors that its user can mend as messages.
"""

import fcntl
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

from bytewax.recovery import RecoveryConfig, init_db_dir

from connectors.control_files import ControlError
from connectors.kafka.client import KafkaProblem
from connectors.recording import RecordingError
from connectors.results import ResultsError
from flows.auditor import AuditAlarm, AuditError
from operators.journal import JournalError
from operators.shell import SnapshotError
from schemas.config import ConfigError


class RunError(RuntimeError):
    """A run could not be started or finished, for a reason its user can mend."""


USER_ERRORS = (
    AuditAlarm,
    AuditError,
    ConfigError,
    ControlError,
    JournalError,
    KafkaProblem,
    RecordingError,
    ResultsError,
    RunError,
    SnapshotError,
)


def known_error(error: BaseException | None) -> BaseException | None:
    """The error for people behind what Bytewax raises: it wraps what a step raised."""
    while error is not None and not isinstance(error, USER_ERRORS):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def telling_errors() -> Iterator[None]:
    """Raise what a user can mend as it was raised, without what Bytewax put around it."""
    try:
        yield
    except Exception as error:
        known = known_error(error)
        if known is None or known is error:
            raise
        raise known from None


@contextmanager
def hold_recovery(recovery: Path | None) -> Iterator[RecoveryConfig | None]:
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
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the input after the batch in hand; a second one ends the process at
    once, where a write waits for a broker that is away. Nothing is lost by that either.
    """

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of a signal handler
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
