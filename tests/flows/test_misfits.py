"""Runs that do not fit what they are given: each is refused with a message, and none changes a result."""

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_fixtures import Result, assert_same, replay, sluice, write_toml
from rich.console import Console
from test_cli import assert_message

from connectors.recording import BarRecording
from flows.process import USER_ERRORS
from flows.replay import prepare
from flows.run import run
from schemas.config import parse_config

Configuration = Callable[..., dict[str, Any]]


def interrupted(recording: Path, config: Any, out: Path, recovery: Path, **cuts: int) -> None:
    """A run that is stopped on its way."""
    ready = prepare(recording, parse_config(config), out, **cuts)

    def stop() -> None:
        pause = threading.Event()
        while ready.progress.rows < 1500:
            pause.wait(0.001)
        ready.progress.stop.set()

    threading.Thread(target=stop, daemon=True).start()
    assert run(ready, Console(quiet=True), recovery=recovery, snapshot_seconds=0, quiet=True) is None


def resumed(recording: Path, config: Any, out: Path, recovery: Path, **cuts: int) -> Result:
    ready = prepare(recording, parse_config(config), out, **cuts)
    summary = run(ready, Console(quiet=True), recovery=recovery, snapshot_seconds=0, quiet=True)
    assert summary is not None
    return Result(summary, out)


def test_other_windows_of_the_same_number_are_refused(
    dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    bars = BarRecording(dirty_recording, ["QQQ"])
    by_count: dict[int, dict[Any, int]] = {}
    for rows in range(500, 20_000, 50):
        windows = tuple(bars.windows(rows))
        by_count.setdefault(len(windows), {}).setdefault(windows, rows)
    one, other = next(list(sizes.values())[:2] for sizes in by_count.values() if len(sizes) > 1)
    config, out, recovery = configuration("toggle"), tmp_path / "out", tmp_path / "recovery"
    interrupted(dirty_recording, config, out, recovery, window_rows=one, batch_bars=40)
    with pytest.raises(USER_ERRORS, match="windows"):
        resumed(dirty_recording, config, out, recovery, window_rows=other, batch_bars=40)
    assert_same(
        resumed(dirty_recording, config, out, recovery, window_rows=one, batch_bars=40),
        replay(dirty_recording, config, tmp_path / "whole"),
    )


def test_the_output_folder_of_another_run_is_refused(
    dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    mine, poor = configuration("toggle"), configuration("toggle", account__cash=50_000)
    interrupted(dirty_recording, mine, tmp_path / "mine", tmp_path / "r1", batch_bars=40)
    resumed(dirty_recording, poor, tmp_path / "poor", tmp_path / "r2", batch_bars=40)
    with pytest.raises(USER_ERRORS, match="does not hold the rows"):
        resumed(dirty_recording, mine, tmp_path / "poor", tmp_path / "r1", batch_bars=40)


def test_ignored_rows_are_counted_over_an_interruption(
    dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    config = configuration("toggle", bars__other_symbols="ignore")
    whole = replay(dirty_recording, config, tmp_path / "whole")
    cuts = {"batch_bars": 40, "window_rows": 1}
    interrupted(dirty_recording, config, tmp_path / "out", tmp_path / "recovery", **cuts)
    result = resumed(dirty_recording, config, tmp_path / "out", tmp_path / "recovery", **cuts)
    assert result.summary["ignored_rows"] == whole.summary["ignored_rows"] > 0


@pytest.mark.parametrize(
    "changes",
    [{"calendar__exchange": "XXXX"}, {"bars__jump_limit": 5}, {"bars__max_gap_bars": 500_000}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_value_that_cannot_be_used_is_told_by_its_key(
    changes: dict[str, Any], clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration(**changes))
    ended = sluice("replay", clean_recording, "-c", config, "-o", tmp_path / "out")
    assert_message(ended, next(iter(changes)).split("__")[0])


@pytest.mark.parametrize("option", ["-o", "-r"])
def test_a_file_where_a_folder_should_be_is_told(
    option: str, clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration())
    (tmp_path / "file").touch()
    words = {"-o": tmp_path / "out", "-r": tmp_path / "recovery"} | {option: tmp_path / "file"}
    command = [word for pair in words.items() for word in pair]
    assert_message(sluice("replay", clean_recording, "-c", config, *command), str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["[old]", "[ab", "[/x]"])
def test_a_path_with_brackets_is_told_as_it_is(
    name: str, configuration: Configuration, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration())
    assert_message(sluice("replay", f"{tmp_path}/{name}", "-c", config, "-o", tmp_path / "out"), name)


def test_a_damaged_recovery_directory_is_told(
    dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration())
    command = ("replay", dirty_recording, "-c", config, "-o", tmp_path / "out", "-r", tmp_path / "recovery")
    assert sluice(*command).code == 0
    (tmp_path / "recovery" / "part-0.sqlite3").write_bytes(b"no database" * 1000)
    assert_message(sluice(*command), str(tmp_path / "recovery"))


def test_a_finished_run_is_not_continued_with_another_configuration_or_recording(
    dirty_recording: Path, clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    mine = write_toml(tmp_path / "mine.toml", configuration())
    other = write_toml(tmp_path / "other.toml", configuration(account__cash=50_000))
    more = ("-o", tmp_path / "out", "-r", tmp_path / "recovery")
    assert sluice("replay", dirty_recording, "-c", mine, *more).code == 0
    assert_message(sluice("replay", dirty_recording, "-c", other, *more), "snapshot")
    assert_message(sluice("replay", clean_recording, "-c", mine, *more), "snapshot")


def test_a_run_in_which_no_bar_was_accepted_is_not_judged(
    clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    past = configuration(calendar__first=dt.date(2010, 1, 1), calendar__last=dt.date(2010, 12, 31))
    config = write_toml(tmp_path / "config.toml", past)
    ended = sluice("replay", clean_recording, "-c", config, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "no bar was accepted" in ended.stderr
    assert "time_out_of_range" in ended.stderr
