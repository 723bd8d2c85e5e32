"""Recordings of topics: every message once, byte for byte, wherever a writer dies; damage is found."""

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import topic_recording
from connectors.recording import RecordingError
from connectors.topic_recording import (
    DESCRIPTION,
    Description,
    PartitionWriter,
    Row,
    files_of,
    hold_recording,
    keys_of,
    partitions_of,
    read_rows,
    read_topics,
)

OURS = Description("paper", "p.")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_recording, "MOST_ROWS", 10)


def rows(first: int, last: int) -> list[Row]:
    return [Row(k, 1_000 + k, b"key %d" % (k % 2), b"value %d" % k, k) for k in range(first, last)]


def write(folder: Path, given: list[Row], start: int | None = None) -> PartitionWriter:
    """What one run of a recorder does."""
    writer = PartitionWriter(folder, "bars", 3)
    if start is not None:
        writer.start_at(start)
    for row in given:
        writer.add(row, 0.0)
        if writer.full:
            writer.write()
    writer.write()
    return writer


def read(folder: Path) -> list[Row]:
    return [row for portion in read_rows(files_of(folder, "bars", 3)) for row in portion]


def names(folder: Path) -> list[str]:
    return [file.path.name for file in files_of(folder, "bars", 3)]


blobs = st.none() | st.binary(max_size=40)
numbers = st.none() | st.integers(0, 2**62)


@st.composite
def messages(draw: st.DrawFn) -> list[Row]:
    """Offsets rise, with holes."""
    out, offset = [], draw(st.integers(0, 10))
    for _ in range(draw(st.integers(0, 60))):
        out.append(Row(offset, draw(st.integers(-1, 2**50)), draw(blobs), draw(blobs), draw(numbers)))
        offset += draw(st.integers(1, 3))
    return out


@given(messages(), st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_is_there_once_wherever_a_recorder_stopped(
    tmp_path_factory: pytest.TempPathFactory, given: list[Row], stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    for stop in [*sorted(stops), len(given)]:
        writer = PartitionWriter(folder, "bars", 3)
        write(folder, [row for row in given[:stop] if row.offset >= (writer.recorded or 0)], 0)
    assert read(folder) == given
    files = files_of(folder, "bars", 3)
    assert all(a.rows + b.rows > 10 for a, b in pairwise(files)), "small neighbours"
    assert all(file.rows <= 10 for file in files)


def test_files_are_named_by_their_first_offset_and_know_what_they_follow(tmp_path: Path) -> None:
    write(tmp_path, [*rows(5, 15), *rows(17, 20)], start=4)
    place = tmp_path / "topic=bars" / "partition=00003"
    assert sorted(path.name for path in place.iterdir()) == [
        "offset=000000000000005.parquet",
        "offset=000000000000017.parquet",
    ]
    assert [(f.follows, f.first, f.last, f.rows) for f in files_of(tmp_path, "bars", 3)] == [
        (4, 5, 14, 10),
        (15, 17, 19, 3),
    ]
    assert PartitionWriter(tmp_path, "bars", 3).recorded == 20
    assert PartitionWriter(tmp_path, "bars", 4).recorded is None
    assert partitions_of(tmp_path, "bars") == [3]
    assert keys_of(files_of(tmp_path, "bars", 3)) == {b"key 0", b"key 1"}


def test_the_columns_are_what_others_can_read(tmp_path: Path) -> None:
    write(tmp_path, [Row(0, 7, None, b"\xff\x00", None), Row(1, 8, b"k", None, 5)])
    (file,) = files_of(tmp_path, "bars", 3)
    assert pl.read_parquet(file.path)["value"].to_list() == [b"\xff\x00", None]
    with pq.ParquetFile(file.path) as opened:
        assert opened.read().to_pylist() == [
            {"offset": 0, "timestamp_ms": 7, "key": None, "value": b"\xff\x00", "sequence": None},
            {"offset": 1, "timestamp_ms": 8, "key": b"k", "value": None, "sequence": 5},
        ]
        assert opened.metadata.row_group(0).column(3).compression == "ZSTD"


def test_a_file_is_full_by_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_recording, "MOST_BYTES", 1_000)
    given = [Row(k, 0, None, os.urandom(400), None) for k in range(6)]
    write(tmp_path, given)
    assert [file.rows for file in files_of(tmp_path, "bars", 3)] == [3, 3]
    write(tmp_path, [Row(6, 0, None, os.urandom(400), None)])
    assert [file.rows for file in files_of(tmp_path, "bars", 3)] == [3, 3, 1]


STEPS = ("open", "fsync", "replace")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [0, 4, 10], ids=["first file", "joins a file", "new file"])
def test_a_writer_that_dies_at_a_step_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: int
) -> None:
    write(tmp_path, rows(0, before))
    writer = PartitionWriter(tmp_path, "bars", 3)
    for row in rows(before, before + 5):
        writer.add(row, 0.0)

    def dies(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if step == "fsync":
            patched.setattr(os, "fsync", dies)
        else:
            patched.setattr(Path, step, dies)
        with pytest.raises(RecordingError, match=r"cannot be written: No space left"):
            writer.write()
    assert read(tmp_path) == rows(0, before)
    again = PartitionWriter(tmp_path, "bars", 3)
    assert not list(tmp_path.rglob("*.tmp"))
    write(tmp_path, rows(again.recorded or 0, 20))
    assert read(tmp_path) == rows(0, 20)


def test_a_file_that_is_gone_between_others_is_missed(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 30))
    files_of(tmp_path, "bars", 3)[1].path.unlink()
    with pytest.raises(RecordingError, match=r"offsets 10 to 19 are missing, between offset=0+\.parquet"):
        files_of(tmp_path, "bars", 3)
    with pytest.raises(RecordingError, match="offsets 10 to 19 are missing"):
        PartitionWriter(tmp_path, "bars", 3)


def test_every_flipped_byte_of_a_file_is_found_or_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 10))
    (file,) = files_of(tmp_path, "bars", 3)
    sound, refused = file.path.read_bytes(), 0
    for at in range(len(sound)):
        file.path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        try:
            found = read(tmp_path)
        except RecordingError:
            refused += 1
        else:
            assert found == rows(0, 10), f"byte {at}"
    assert refused > len(sound) * 0.9


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_file_of_something_else_is_damaged(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, rows(0, 10))
    (tmp_path / "topic=bars" / "partition=00003" / "offset=000000000000010.parquet").write_bytes(content)
    with pytest.raises(RecordingError, match=r"offset=000000000000010.parquet is damaged"):
        read(tmp_path)


def test_a_renamed_file_is_damaged(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 10))
    (file,) = files_of(tmp_path, "bars", 3)
    file.path.rename(file.path.with_name("offset=000000000000001.parquet"))
    with pytest.raises(RecordingError, match="its first offset is 0"):
        files_of(tmp_path, "bars", 3)


def test_a_reader_is_not_disturbed_by_a_recorder(tmp_path: Path) -> None:
    write(tmp_path, rows(0, 4))
    files = files_of(tmp_path, "bars", 3)
    write(tmp_path, rows(4, 8))
    assert [row for portion in read_rows(files) for row in portion] == rows(0, 4)


def test_a_recording_is_of_one_account_and_one_prefix(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    with hold_recording(folder, OURS):
        assert read_topics(folder) == OURS
    assert json.loads((folder / DESCRIPTION).read_text())["format_version"] == 1
    with hold_recording(folder, OURS):
        pass
    for other, what in (
        (Description("b", "p."), "account 'paper'"),
        (Description("paper", ""), "prefix 'p.'"),
    ):
        with pytest.raises(RecordingError, match=what), hold_recording(folder, other):
            pass


def test_one_recorder_holds_a_recording(tmp_path: Path) -> None:
    with (
        hold_recording(tmp_path, OURS),
        pytest.raises(RecordingError, match="another recorder writes"),
        hold_recording(tmp_path, OURS),
    ):
        pass


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="is no recording of topics"), hold_recording(tmp_path, OURS):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_recorder_that_died_before_it_began_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "recording-of-topics.tmp").write_text("{")
    with hold_recording(tmp_path, OURS):
        assert read_topics(tmp_path) == OURS


DESCRIPTIONS = [
    (None, "no recording of topics"),
    ("{", "is damaged"),
    ("[]", "format version None is not known"),
    ('{"format_version": 2}', "format version 2 is not known"),
    ('{"format_version": 1, "account": 1, "prefix": ""}', "must be texts"),
]


@pytest.mark.parametrize(("content", "said"), DESCRIPTIONS)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / DESCRIPTION).write_text(content)
    with pytest.raises(RecordingError, match=said):
        read_topics(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RecordingError, match=r"file/recording cannot be written: Not a directory"),
        hold_recording(tmp_path / "file" / "recording", OURS),
    ):
        pass
