"""The results of a replay on disk.

In, under one key: `AccountBatch` and `DeadLetters`. While a replay runs, rows are appended to plain files
of fixed-width records under OUT/.work: with every snapshot in a run that can be continued, else when they
outgrow memory. The snapshot is the lengths of these files: a resumed run cuts them back to the last
complete epoch and writes on, so whatever dies, every row is there once. When the recording is complete,
`finish` turns them into Parquet and a summary.
"""

import fcntl
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from numpy.typing import NDArray

from schemas.batches import AccountBatch, DeadLetters
from schemas.codes import DeadLetter
from schemas.records import Alert, Decision, Equity, Execution, Order, Record, dtype_of
from schemas.topics import ALERTS, DEAD_LETTERS, DECISIONS, EQUITY, EXECUTIONS, ORDERS

KEY = "results"
WORK = ".work"
SUMMARY = "summary.json"
TEXTS = "texts"
PRICES = ("open", "high", "low", "close", "volume")
LETTER = np.dtype(
    [(name, "<i8") for name in ("reason", "start_ns", "end_ns")]
    + [(name, "<f8") for name in PRICES]
    + [(f"{text}_{part}", "<i8") for text in ("topic", "symbol", "raw") for part in ("at", "length")]
)
MEMORY_BYTES = 1 << 25  # of a table, before its rows go to a file
TABLES: dict[str, type[Record]] = {
    ORDERS: Order,
    EXECUTIONS: Execution,
    DECISIONS: Decision,
    EQUITY: Equity,
    ALERTS: Alert,
}

Item = AccountBatch | DeadLetters


class ResultsError(RuntimeError):
    """The output folder cannot be used."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a complete run left: rows by table, in parts; dead letters as a frame; the figures of the
    account itself.
    """

    out: Path
    tables: dict[str, list[NDArray[Any]]]
    dead_letters: pl.DataFrame
    account: dict[str, Any]


Finish = Callable[[Results], None]


class ResultsSink(FixedPartitionedSink[Item, dict[str, Any]]):
    """One partition, since a run has one account. `finals`: how many final batches make the recording
    complete. `durable`: rows are on disk with every snapshot; without, only what memory should not hold is.
    """

    def __init__(self, out: Path, finals: int, finish: Finish, *, durable: bool):
        if out.exists() and not out.is_dir():
            raise ResultsError(f"{out} is a file; results need a folder")
        self.out = out
        self.finals = finals
        self.finish = finish
        self.durable = durable

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


class _Rows:
    """Rows of one table: the newest in memory, those before them in a file."""

    def __init__(self, path: Path, dtype: np.dtype[Any], length: int):
        if length and (not path.is_file() or path.stat().st_size < length):
            raise ResultsError(
                f"{path} is shorter than the recovery snapshot says; the output folder does not belong to "
                f"this recovery directory. Start anew with an empty recovery directory."
            )
        self.path = path
        self.dtype = dtype
        self.file = path.open("r+b" if path.is_file() else "w+b", buffering=0)
        self.file.truncate(length)
        self.file.seek(length)
        self.parts: list[NDArray[Any]] = []
        self.held = 0
        self.length = length

    def append(self, rows: NDArray[Any]) -> None:
        self.parts.append(rows)
        self.held += rows.nbytes
        self.length += rows.nbytes
        if self.held > MEMORY_BYTES:
            self.spill()

    def spill(self) -> int:
        """Put all rows into the file; its length."""
        for rows in self.parts:
            rest = memoryview(rows.tobytes())
            while rest:
                rest = rest[self.file.write(rest) :]  # an unbuffered file may take less at once
        self.parts, self.held = [], 0
        return self.file.tell()

    def all(self) -> list[NDArray[Any]]:
        """All rows, in order, in as many parts as they came in or as one that is mapped from the file."""
        if self.file.tell() == 0:
            return self.parts
        self.spill()
        return [np.memmap(self.path, self.dtype, "c")]


class _Partition(StatefulSinkPartition[Item, dict[str, Any]]):
    def __init__(self, sink: ResultsSink, resumed: dict[str, Any] | None):
        self.sink = sink
        self.work = sink.out / WORK
        self.work.mkdir(parents=True, exist_ok=True)
        self.lock = (self.work / "lock").open("wb")
        self.tables: dict[str, _Rows] = {}
        try:
            self._take(resumed)
        except ResultsError:
            self.close()
            raise

    def _take(self, resumed: dict[str, Any] | None) -> None:
        """Take the folder: alone, and at the place where the snapshot was."""
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(
                f"another run writes to {self.sink.out}; wait for it, or use another folder"
            ) from None
        self.run = self._identify(resumed["run"] if resumed else None)
        self.finals = resumed["finals"] if resumed else 0
        self.account: dict[str, Any] | None = resumed["account"] if resumed else None
        if resumed is None:
            (self.sink.out / SUMMARY).unlink(missing_ok=True)  # of an earlier run
        dtypes = {name: dtype_of(model) for name, model in TABLES.items()}
        dtypes |= {DEAD_LETTERS: LETTER, TEXTS: np.dtype(np.uint8)}
        for name, dtype in dtypes.items():
            self.tables[name] = _Rows(self.work / name, dtype, resumed["lengths"][name] if resumed else 0)

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

    def write_batch(self, values: list[Item]) -> None:
        for value in values:
            if isinstance(value, DeadLetters):
                if len(value):
                    self._refuse(value)
            else:
                for name in TABLES:
                    rows: NDArray[Any] = getattr(value, name)
                    if len(rows):
                        self.tables[name].append(rows)
                self.account = value.account or self.account
            self.finals += value.final
        if self.finals == self.sink.finals and any(value.final for value in values):
            self.sink.finish(self._results())

    def _refuse(self, letters: DeadLetters) -> None:
        """Dead letters as rows of fixed width; names and raw records, which have none, as texts beside."""
        texts = self.tables[TEXTS]
        rows = np.zeros(len(letters), LETTER)
        rows["reason"], rows["start_ns"], rows["end_ns"] = letters.reason, letters.start_ns, letters.end_ns
        for k, name in enumerate(PRICES):
            rows[name] = letters.prices[k]
        places: dict[bytes, tuple[int, int]] = {b"": (0, 0)}
        for field, values in (
            ("topic", [letters.topic.encode()] * len(letters)),
            ("symbol", [symbol.encode() for symbol in letters.symbol]),
            ("raw", letters.raw),
        ):
            for text in dict.fromkeys(values):
                if text not in places:
                    places[text] = (texts.length, len(text))
                    texts.append(np.frombuffer(text, np.uint8))
            rows[f"{field}_at"], rows[f"{field}_length"] = np.array([places[text] for text in values]).T
        self.tables[DEAD_LETTERS].append(rows)

    def _results(self) -> Results:
        assert self.account is not None
        rows, texts = (
            np.concatenate([np.zeros(0, self.tables[name].dtype), *self.tables[name].all()])
            for name in (DEAD_LETTERS, TEXTS)
        )
        letters = _letters(rows, texts.tobytes())
        return Results(
            self.sink.out, {name: self.tables[name].all() for name in TABLES}, letters, self.account
        )

    def snapshot(self) -> dict[str, Any]:
        if not self.sink.durable:
            return {}
        lengths = {name: rows.spill() for name, rows in self.tables.items()}
        return {"lengths": lengths, "finals": self.finals, "account": self.account, "run": self.run}

    def close(self) -> None:
        for rows in self.tables.values():
            rows.file.close()
        self.lock.close()


def _letters(rows: NDArray[Any], texts: bytes) -> pl.DataFrame:
    """The dead letters with their texts, in an order that does not depend on how they arrived."""

    def text(field: str) -> list[bytes]:
        places = zip(rows[f"{field}_at"].tolist(), rows[f"{field}_length"].tolist(), strict=True)
        return [texts[at : at + length] for at, length in places]

    names = [reason.name.lower() for reason in DeadLetter]
    columns = {name: np.ascontiguousarray(rows[name]) for name in ("start_ns", "end_ns", *PRICES)}
    frame = pl.DataFrame(
        {
            "topic": pl.Series(text("topic"), dtype=pl.Binary).cast(pl.String),
            "symbol": pl.Series(text("symbol"), dtype=pl.Binary).cast(pl.String),
            "reason": pl.Series(names, dtype=pl.String).gather(pl.Series(rows["reason"])),
            **columns,
            "raw": pl.Series(text("raw"), dtype=pl.Binary),
        }
    )
    return frame.sort("symbol", "end_ns", "reason", maintain_order=True)  # symbols arrive in no order
