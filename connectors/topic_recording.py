"""Recordings of topics: what stood in them, byte for byte.

A recording is a folder: `recording-of-topics.json` (format version, account, prefix of the topics) and
`topic=NAME/partition=NNNNN/offset=NNNNNNNNNNNNNNN.parquet`, NAME without prefix. A file is named by the
offset of its first row; one row is one message.

In: messages of one partition, `PartitionWriter`. Out: the same, `read_rows`. State: the files themselves;
where they end is where reading goes on.

Always true: a file appears complete or not at all, so each message is there once, whenever a writer dies.
Messages join the last file while it is small, in one step, so many stops do not make many files. A file
knows the offset that it was read from, so a missing one is found; all of it has checksums.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.recording import RecordingError

FORMAT_VERSION = 1
DESCRIPTION = "recording-of-topics.json"
MOST_ROWS = 50_000  # of a file
MOST_BYTES = 64 << 20  # of a file, not compressed; it is held in memory to be written
PORTION = 5_000  # rows that are read at a time
FOLLOWS = b"follows"
SEAL_BYTES = 4
UNFINISHED = "*.tmp"
SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("sequence", pa.int64()),
    ]
)


class Row(NamedTuple):
    """A message. `sequence`: its header of that name, where it has one."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """What a recording says of itself."""

    account: str
    prefix: str


@dataclass(frozen=True, slots=True)
class TopicFile:
    """One file. `follows`: the offset it was read from, where the file before it ends. `first` and `last`:
    offsets of its rows. `size`: bytes, not compressed.
    """

    path: Path
    follows: int
    first: int
    last: int
    rows: int
    size: int


# --- the folder


@contextmanager
def hold_recording(folder: Path, description: Description) -> Iterator[None]:
    """Make the recording, or take up one of the same account and topics, and hold it alone.

    Raises `RecordingError` for another one's, for a folder of something else, and while it is held.
    """
    if folder.is_dir() and not (folder / DESCRIPTION).exists() and _holds_something(folder):
        raise RecordingError(f"{folder} is no recording of topics, and not empty; choose a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise RecordingError(f"{folder} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(
                f"another recorder writes to {folder}; wait for it, or choose another folder"
            ) from None
        if (folder / DESCRIPTION).exists():
            _refuse_another(folder, read_topics(folder), description)
        else:
            content = {"format_version": FORMAT_VERSION} | {
                "account": description.account,
                "prefix": description.prefix,
            }
            _write(folder / DESCRIPTION, (json.dumps(content, indent=2) + "\n").encode())
        yield


def _holds_something(folder: Path) -> bool:
    """Whether anything is there beside what a recorder leaves that died before it began."""
    return any(path.name != "lock" and not path.match(UNFINISHED) for path in folder.iterdir())


def _refuse_another(folder: Path, found: Description, wanted: Description) -> None:
    for what, mine, theirs in (
        ("account", wanted.account, found.account),
        ("[kafka] prefix", wanted.prefix, found.prefix),
    ):
        if mine != theirs:
            raise RecordingError(
                f"{folder} is a recording with {what} {theirs!r}, and the configuration has {mine!r}; "
                f"choose another folder"
            )


def read_topics(folder: Path) -> Description:
    """What the recording says of itself. Raises `RecordingError` for none, or an unknown version."""
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RecordingError(
            f"no recording of topics at {folder}: it has no {DESCRIPTION}; `sluice record` makes one"
        ) from None
    except ValueError as error:
        raise RecordingError(f"{path} is damaged: {error}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise RecordingError(
            f"{path}: format version {version!r} is not known, this program reads {FORMAT_VERSION}"
        )
    account, prefix = content.get("account"), content.get("prefix")
    if not isinstance(account, str) or not isinstance(prefix, str):
        raise RecordingError(f"{path} is damaged: account and prefix must be texts")
    return Description(account, prefix)


def partitions_of(folder: Path, topic: str) -> list[int]:
    """Partitions of which something is recorded."""
    names = [path.name for path in (folder / f"topic={topic}").glob("partition=*")]
    return sorted(int(name.removeprefix("partition=")) for name in names)


def files_of(folder: Path, topic: str, partition: int) -> list[TopicFile]:
    """The files of a partition, in order. Raises `RecordingError` where one is damaged, or missing between
    others.
    """
    paths = sorted(_place(folder, topic, partition).glob("offset=*.parquet"))
    files = [_described(path) for path in paths]
    for before, after in pairwise(files):
        if after.follows != before.last + 1:
            raise RecordingError(
                f"{after.path.parent}: offsets {before.last + 1:,} to {after.follows - 1:,} are missing, "
                f"between {before.path.name} and {after.path.name}; put back the file that is gone, or "
                f"record anew into another folder"
            )
    return files


def _place(folder: Path, topic: str, partition: int) -> Path:
    return folder / f"topic={topic}" / f"partition={partition:05d}"


def _described(path: Path) -> TopicFile:
    try:
        _check_seal(path)
        about = pq.read_metadata(path)
        group = about.row_group(0)
        follows = int(about.metadata[FOLLOWS])
        span = group.column(0).statistics
        file = TopicFile(path, follows, span.min, span.max, about.num_rows, group.total_byte_size)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from None
    if path.name != _name(file.first) or file.follows > file.first:
        raise _damaged(path, f"its first offset is {file.first}, read from {file.follows} on")
    return file


def _sealed(content: bytes) -> bytes:
    """A file of Parquet with a checksum before its footer: pages have theirs, the footer has none, and
    readers may crash on a damaged one. What stands between pages and footer is read by nobody else.
    """
    at = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return b"".join((content[:at], _seal(content[at:]), content[at:]))


def _seal(footer: bytes) -> bytes:
    return zlib.crc32(footer).to_bytes(SEAL_BYTES, "little")


def _check_seal(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-(SEAL_BYTES + length + 8), os.SEEK_END)
        if file.read(SEAL_BYTES) != _seal(file.read()):
            raise ValueError("its footer has another checksum")


def _name(offset: int) -> str:
    return f"offset={offset:015d}.parquet"


def _damaged(path: Path, why: object) -> RecordingError:
    return RecordingError(f"{path} is damaged: {why}; put it back from a copy, or record anew")


# --- reading


def read_rows(files: Sequence[TopicFile]) -> Iterator[list[Row]]:
    """All messages, in order, in portions. Raises `RecordingError` where a file is damaged or gone."""
    for file in files:
        table = _read(file)
        for batch in table.to_batches(max_chunksize=PORTION):
            yield [Row(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def keys_of(files: Sequence[TopicFile]) -> set[bytes]:
    """Keys of all messages."""
    keys: set[bytes | None] = set()
    for file in files:
        keys.update(_read(file, ["key"])["key"].unique().to_pylist())
    return {key for key in keys if key is not None}


def _read(file: TopicFile, columns: list[str] | None = None) -> Any:
    """The rows that the file had when it was described; a recorder may have added more since."""
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as opened:
            table = opened.read(columns).slice(0, file.rows)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file.path, error) from None
    if columns is None:
        if table.schema.remove_metadata() != SCHEMA:
            raise _damaged(file.path, "it has other columns")
        offsets = table["offset"].to_numpy()
        if len(offsets) != file.rows or offsets[-1] != file.last or not (np.diff(offsets) > 0).all():
            raise _damaged(file.path, f"its offsets do not go up from {file.first} to {file.last}")
    return table


# --- writing


class PartitionWriter:
    """Takes the messages of one partition into files. Nothing is there before `write`."""

    def __init__(self, folder: Path, topic: str, partition: int):
        self.folder = _place(folder, topic, partition)
        for left in self.folder.glob(UNFINISHED):
            left.unlink()
        files = files_of(folder, topic, partition)
        self.last = files[-1] if files else None
        self.begin = 0
        self.waiting: list[Row] = []
        self.waiting_bytes = 0
        self.since = 0.0

    @property
    def recorded(self) -> int | None:
        """The offset behind what the files hold; None where they hold nothing."""
        return None if self.last is None else self.last.last + 1

    def start_at(self, offset: int) -> None:
        """Where reading begins, when nothing is recorded."""
        self.begin = offset

    def add(self, row: Row, now: float) -> None:
        """The next message. `now`: seconds on any clock that only goes forward."""
        if not self.waiting:
            self.since = now
        self.waiting.append(row)
        self.waiting_bytes += len(row.key or b"") + len(row.value or b"")

    @property
    def full(self) -> bool:
        """Whether what waits is a file of its own."""
        return len(self.waiting) >= MOST_ROWS or self.waiting_bytes >= MOST_BYTES

    def write(self) -> None:
        """Put what waits into the last file, or into a new one. Raises `RecordingError`; then this writer is
        not to be used any more, and nothing was lost: the topic still has what waited.
        """
        if not self.waiting:
            return
        table = _table(self.waiting)
        follows, first = self.begin if self.last is None else self.last.last + 1, self.waiting[0].offset
        if self.last is not None and self._joins(self.last):
            table = pa.concat_tables([_read(self.last), table])
            follows, first = self.last.follows, self.last.first
        path = self.folder / _name(first)
        buffer = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata({FOLLOWS: str(follows)}),
            buffer,
            compression="zstd",
            row_group_size=max(MOST_ROWS, len(table)),
            write_page_checksum=True,
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, _sealed(buffer.getvalue().to_pybytes()))
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from None
        self.last = _described(path)
        self.waiting, self.waiting_bytes = [], 0

    def _joins(self, last: TopicFile) -> bool:
        return last.rows + len(self.waiting) <= MOST_ROWS and last.size + self.waiting_bytes <= MOST_BYTES


def _table(rows: Sequence[Row]) -> Any:
    columns = zip(SCHEMA, zip(*rows, strict=True), strict=True)
    return pa.Table.from_arrays([pa.array(values, field.type) for field, values in columns], schema=SCHEMA)


def _write(path: Path, content: bytes) -> None:
    """A file that is there complete, and durably, or not at all."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
