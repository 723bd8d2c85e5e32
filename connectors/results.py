"""The results of a replay on disk.

In, under one key: `AccountBatch` and `DeadLetters`. While a replay runs, rows are appended to plain files of
fixed-width records under OUT/.work. The snapshot is the lengths of these files: a resumed run cuts them back
to the last complete epoch and writes on, so whatever dies, every row is there once. When the recording is
complete, `finish` turns them into Parquet and a summary.
"""

import base64
import fcntl
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from numpy.typing import NDArray

from schemas.batches import AccountBatch, DeadLetters
from schemas.codes import DeadLetter
from schemas.records import Decision, Equity, Execution, Order, Record, dtype_of
from schemas.topics import DEAD_LETTERS, DECISIONS, EQUITY, EXECUTIONS, ORDERS

KEY = "results"
WORK = ".work"
SUMMARY = "summary.json"
TABLES: dict[str, type[Record]] = {ORDERS: Order, EXECUTIONS: Execution, DECISIONS: Decision, EQUITY: Equity}

Item = AccountBatch | DeadLetters


class ResultsError(RuntimeError):
    """The output folder cannot be used."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a complete run left: rows by table (mapped from disk), dead letters as plain rows, the
    account's own figures.
    """

    out: Path
    tables: dict[str, NDArray[Any]]
    dead_letters: list[dict[str, Any]]
    account: dict[str, Any]


Finish = Callable[[Results], None]


class ResultsSink(FixedPartitionedSink[Item, dict[str, Any]]):
    """One partition, since a run has one account. `finals`: how many final batches make the recording
    complete.
    """

    def __init__(self, out: Path, finals: int, finish: Finish):
        if out.exists() and not out.is_dir():
            raise ResultsError(f"{out} is a file; results need a folder")
        self.out = out
        self.finals = finals
        self.finish = finish

    def list_parts(self) -> list[str]:
        return [KEY]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002 - there is one
        return 0

    def build_part(
        self,
        step_id: str,  # noqa: ARG002 - the form Bytewax calls
        for_part: str,  # noqa: ARG002
        resume_state: dict[str, Any] | None,
    ) -> "_Partition":
        return _Partition(self, resume_state)


class _Partition(StatefulSinkPartition[Item, dict[str, Any]]):
    def __init__(self, sink: ResultsSink, resumed: dict[str, Any] | None):
        self.sink = sink
        self.work = sink.out / WORK
        self.work.mkdir(parents=True, exist_ok=True)
        self.files: dict[str, IO[bytes]] = {"lock": (self.work / "lock").open("wb", buffering=0)}
        try:
            self._take(resumed)
        except ResultsError:
            self.close()
            raise

    def _take(self, resumed: dict[str, Any] | None) -> None:
        """Take the folder: alone, and at the place where the snapshot was."""
        try:
            fcntl.flock(self.files["lock"], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(
                f"another run writes to {self.sink.out}; wait for it, or use another folder"
            ) from None
        self.run = self._identify(resumed["run"] if resumed else None)
        self.finals = resumed["finals"] if resumed else 0
        self.account: dict[str, Any] | None = resumed["account"] if resumed else None
        if resumed is None:
            (self.sink.out / SUMMARY).unlink(missing_ok=True)  # of an earlier run
        for name in (*TABLES, DEAD_LETTERS):
            length = resumed["lengths"][name] if resumed else 0
            self.files[name] = self._open(name, length)

    def _identify(self, resumed: str | None) -> str:
        """The rows of a run carry its name, so that a snapshot is never continued on those of another."""
        path = self.work / "run"
        if resumed is None:
            path.write_text(secrets.token_hex(16), encoding="utf-8")
        found = path.read_text(encoding="utf-8") if path.is_file() else None
        if resumed not in (None, found):
            raise ResultsError(
                f"{self.sink.out} does not hold the rows of the run that this recovery directory continues; "
                f"use the output folder of that run, or start anew with an empty recovery directory"
            )
        assert found is not None
        return found

    def _open(self, name: str, length: int) -> IO[bytes]:
        path = self.work / name
        if length and (not path.is_file() or path.stat().st_size < length):
            raise ResultsError(
                f"{path} is shorter than the recovery snapshot says; the output folder does not belong to "
                f"this recovery directory. Start anew with an empty recovery directory."
            )
        file = path.open("r+b" if path.is_file() else "w+b", buffering=0)
        file.truncate(length)
        file.seek(length)
        return file

    def write_batch(self, values: list[Item]) -> None:
        for value in values:
            if isinstance(value, DeadLetters):
                if len(value):
                    _write(self.files[DEAD_LETTERS], _lines(value))
            else:
                for name in TABLES:
                    rows: NDArray[Any] = getattr(value, name)
                    if len(rows):
                        _write(self.files[name], rows.tobytes())
                self.account = value.account or self.account
            self.finals += value.final
        if self.finals == self.sink.finals and any(value.final for value in values):
            assert self.account is not None
            self.sink.finish(read_results(self.sink.out, self.account))

    def snapshot(self) -> dict[str, Any]:
        lengths = {name: file.tell() for name, file in self.files.items() if name != "lock"}
        return {
            "lengths": lengths,
            "finals": self.finals,
            "account": self.account,
            "run": self.run,
        }

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def read_results(out: Path, account: dict[str, Any]) -> Results:
    """The rows a run has written so far."""
    tables = {name: _mapped(out / WORK / name, dtype_of(model)) for name, model in TABLES.items()}
    with (out / WORK / DEAD_LETTERS).open("rb") as file:
        letters = [json.loads(line) for line in file]
    letters.sort(key=lambda row: (row["symbol"], row["end_ns"], row["reason"]))  # symbols arrive in no order
    return Results(out, tables, letters, account)


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r")


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: an unbuffered file may take less at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _lines(letters: DeadLetters) -> bytes:
    lines = []
    for k in range(len(letters)):
        prices = letters.prices[:, k].tolist()
        row = {
            "topic": letters.topic,
            "symbol": letters.symbol[k],
            "reason": DeadLetter(letters.reason[k]).name.lower(),
            "start_ns": int(letters.start_ns[k]),
            "end_ns": int(letters.end_ns[k]),
            **dict(zip(("open", "high", "low", "close", "volume"), prices, strict=True)),
            "raw": base64.b64encode(letters.raw[k]).decode(),
        }
        lines.append(json.dumps(row).encode() + b"\n")
    return b"".join(lines)
