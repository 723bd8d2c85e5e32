"""The tables of a result folder, read as a stranger would: nothing is taken for granted.

In: `orders`, `executions`, `decisions`, `alerts` and `equity` as Parquet. Out: batches for the auditor, cut
between two times, so that the rows of one time come together. Memory is a few windows. What is missing, empty
or not readable, or has other columns, types or names than the configuration says, is an `AuditError`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.auditor.machine import AuditBatch, AuditError, Rows
from schemas.records import (
    Alert,
    Decision,
    Equity,
    Execution,
    Names,
    Order,
    Record,
    arrow_schema_of,
    dtype_of,
    fields_of,
    order_ids,
)
from schemas.topics import ALERTS, DECISIONS, EQUITY, EXECUTIONS, ORDERS

MODELS: Mapping[str, type[Record]] = {
    ORDERS: Order,
    EXECUTIONS: Execution,
    DECISIONS: Decision,
    ALERTS: Alert,
    EQUITY: Equity,
}
TIME = {ORDERS: "time_ns", EXECUTIONS: "known_ns", DECISIONS: "time_ns", ALERTS: "time_ns", EQUITY: "time_ns"}
"""The column that orders each table."""

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
Ranges = Callable[[Rows], NDArray[np.int64]]


class ResultTables:
    """The five tables of one result folder. Raises `AuditError` where they cannot be a whole run."""

    def __init__(self, out: Path, names: Names):
        self.out = out
        self.names = names
        if not out.is_dir():
            raise AuditError(
                f"no results at {out}: no such folder; name the folder a replay wrote with --out"
            )
        self.rows = {name: self._open(name) for name in MODELS}
        for name in (DECISIONS, EQUITY):
            if not self.rows[name]:
                raise AuditError(f"{self.path(name)} is empty; not even a quiet run leaves no {name}")
        if self.rows[ORDERS] and not self.rows[EXECUTIONS]:
            raise AuditError(
                f"{self.path(EXECUTIONS)} is empty, but there are {self.rows[ORDERS]:,} orders; rows are lost"
            )

    def path(self, name: str) -> Path:
        return self.out / f"{name}.parquet"

    def _open(self, name: str) -> int:
        """Check columns and types; the number of rows."""
        path, model = self.path(name), MODELS[name]
        if not path.is_file():
            raise AuditError(f"{path} is missing; without it nothing can be audited")
        try:
            schema = dict(pl.read_parquet_schema(path))
            rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        except UNREADABLE as error:
            raise AuditError(f"{path} is not readable: {_short(error)}") from None
        due = dict(pl.DataFrame(arrow_schema_of(model).empty_table()).schema)
        if schema != due:
            wrong = [
                f"{column} is {schema.get(column, 'missing')}, expected {due.get(column, 'no such column')}"
                for column in {**due, **schema}
                if schema.get(column) != due.get(column)
            ]
            raise AuditError(
                f"{path} has another form: {'; '.join(wrong) or 'the columns are in another order'}"
            )
        return int(rows)

    def read(self, name: str, start: int, rows: int) -> Rows:
        """Rows of one table in their fixed-width form."""
        path = self.path(name)
        try:
            frame = pl.scan_parquet(path, glob=False).slice(start, rows).collect()
            return self._decoded(name, frame, start)
        except UNREADABLE as error:
            raise AuditError(f"{path} is not readable from row {start:,} on: {_short(error)}") from None

    def _decoded(self, name: str, frame: pl.DataFrame, start: int) -> Rows:
        model, path = MODELS[name], self.path(name)
        table = np.empty(frame.height, dtype_of(model))
        for column, kind, enumeration in fields_of(model):
            values = frame[column]
            if values.null_count():
                raise AuditError(
                    f"{path}: {column} is empty in {values.null_count():,} rows from {start:,} on"
                )
            match kind.name:
                case "order_id":
                    continue
                case "symbol":
                    table[column] = _places(path, values, ["", *self.names.instruments]) - 1
                case "strategy":
                    table[column] = _places(path, values, ["", *self.names.strategies]) - 1
                case "enum":
                    assert enumeration is not None
                    table[column] = _places(path, values, [member.name.lower() for member in enumeration])
                case "money":
                    table[column] = values.to_physical().cast(pl.Int64).to_numpy()
                case _:
                    table[column] = values.to_physical().to_numpy()
        if "client_order_id" in frame.columns:
            self._check_ids(path, table, frame["client_order_id"], start)
        return table

    def _check_ids(self, path: Path, table: Rows, written: pl.Series, start: int) -> None:
        """An order's id is a function of its other fields. A charge of no instrument names no order."""
        same = pc.equal(order_ids(table, self.names), written.to_arrow().cast("string")).to_numpy(False)
        wrong = np.flatnonzero(~same & (table["instrument"] >= 0))
        if len(wrong):
            row = int(wrong[0])
            raise AuditError(
                f"{path}: client_order_id of row {start + row:,} is {written[row]!r}, which is not what its "
                f"other fields make; {len(wrong):,} rows are like this"
            )


def _places(path: Path, values: pl.Series, names: list[str]) -> NDArray[np.int64]:
    """Places of values in `names`; a value that is none of them raises."""
    text = values.cast(pl.String)
    places = text.cast(pl.Enum(names), strict=False).to_physical().cast(pl.Int64)
    if places.null_count():
        unknown = text.filter(places.is_null()).unique().sort().head(3).to_list()
        raise AuditError(
            f"{path}: {values.name} is {', '.join(map(repr, unknown))}, which the configuration does not "
            f"know; known: {', '.join(name for name in names if name)}"
        )
    return places.to_numpy()


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]


class _Lane:
    """One table, read in order."""

    def __init__(self, tables: ResultTables, name: str, start: int):
        self.tables = tables
        self.name = name
        self.taken = start  # rows handed out
        self.ahead = tables.read(name, start, 0)  # rows read and not handed out

    @property
    def unread(self) -> int:
        return self.tables.rows[self.name] - self.taken - len(self.ahead)

    def fill(self, rows: int) -> None:
        """Hold at least `rows` rows, or all that are left."""
        if len(self.ahead) < rows and self.unread:
            more = self.tables.read(self.name, self.taken + len(self.ahead), rows)
            self.ahead = np.concatenate([self.ahead, more])

    def before(self, time_ns: int) -> int:
        """Rows at the front that are of an earlier time."""
        later = self.ahead[TIME[self.name]] >= time_ns
        return int(later.argmax()) if later.any() else len(later)

    def take(self, rows: int) -> Rows:
        taken, self.ahead = self.ahead[:rows], self.ahead[rows:]
        self.taken += rows
        return taken


class Windows:
    """All tables side by side, a window of time after the other. `ranges`: the bars that executions happened
    in, see `AuditBatch`. `place`: where to go on, from `snapshot`.
    """

    def __init__(
        self,
        tables: ResultTables,
        rows: int,
        ranges: Ranges | None = None,
        place: Mapping[str, int] | None = None,
    ):
        self.rows = rows
        self.ranges = ranges
        self.lanes = {name: _Lane(tables, name, place[name] if place else 0) for name in MODELS}
        self.done = place is not None and all(place[name] == tables.rows[name] for name in MODELS)

    def snapshot(self) -> dict[str, int]:
        return {name: lane.taken for name, lane in self.lanes.items()}

    def next(self) -> AuditBatch | None:
        """The next window, None after the last one."""
        if self.done:
            return None
        counts = self._counts()
        taken = {name: lane.take(counts[name]) for name, lane in self.lanes.items()}
        self.done = not any(len(lane.ahead) + lane.unread for lane in self.lanes.values())
        ranges = self.ranges(taken[EXECUTIONS]) if self.ranges else None
        return AuditBatch(**taken, ranges=ranges, final=self.done)

    def _counts(self) -> dict[str, int]:
        """Rows of each table that make a window: all before the first time that may go on in what is not read
        yet.
        """
        rows = self.rows
        while True:
            for lane in self.lanes.values():
                lane.fill(rows)
            ends = [lane.ahead[TIME[name]][-1] for name, lane in self.lanes.items() if lane.unread]
            if not ends:
                return {name: len(lane.ahead) for name, lane in self.lanes.items()}
            counts = {name: lane.before(int(min(ends))) for name, lane in self.lanes.items()}
            if any(counts.values()):
                return counts
            rows *= 2
