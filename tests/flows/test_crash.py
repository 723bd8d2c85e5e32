"""Real processes, really killed. Whatever dies and whenever, the same command continues to the same bytes."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from replay_fixtures import (
    DEADLINE,
    SLUICE,
    Ended,
    Result,
    assert_same,
    finish,
    last_json,
    replay,
    start,
    write_toml,
)

Configuration = Callable[..., dict[str, Any]]

BATCH_BARS = 5
KILLS = 6


@dataclass(frozen=True, slots=True)
class Case:
    """One recording with its configuration file, and what an uninterrupted run makes of it."""

    recording: Path
    config: Path
    whole: Result

    @property
    def bytes_of_equity(self) -> int:
        return self.whole.table("equity").height * 7 * 8


@pytest.fixture(scope="module")
def case(
    dirty_recording: Path, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    folder = tmp_path_factory.mktemp("crash")
    config = write_toml(folder / "config.toml", configuration("toggle"))
    return Case(dirty_recording, config, replay(dirty_recording, configuration("toggle"), folder / "whole"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run that will be interrupted keeps its things."""

    case: Case
    out: Path
    recovery: Path

    def command(self, workers: int = 1) -> list[str | Path]:
        return [
            *(
                SLUICE,
                "replay",
                self.case.recording,
                "-c",
                self.case.config,
                "-o",
                self.out,
                "-r",
                self.recovery,
            ),
            *(
                "--snapshot-seconds",
                "0",
                "--batch-bars",
                str(BATCH_BARS),
                "--workers",
                str(workers),
                "--json",
            ),
        ]

    def flow(self) -> list[str | Path]:
        call = f"flows.replay:flow('{self.case.recording}', '{self.case.config}', '{self.out}', {BATCH_BARS})"
        return [sys.executable, "-m", "bytewax.run", call, "-r", self.recovery, "-s", "0", "-b", "0"]

    def start_until(self, fraction: float, command: Sequence[str | Path]) -> "subprocess.Popen[str]":
        """Start the command and return once it has written that share of the equity table.

        And more than was there before, so that each run gets further than the one before it. A run that
        cannot be continued keeps its rows in memory: 0 waits until it has taken its folder.
        """
        file = self.out / ".work" / ("equity" if fraction > 0 else "run")
        before = file.stat().st_size if file.is_file() else 0
        wanted = max(fraction * self.case.bytes_of_equity, before + 1)
        process = start(command)
        deadline = time.monotonic() + DEADLINE
        while not (file.is_file() and file.stat().st_size >= wanted):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"ended or stuck before {fraction:.3f}: {finish(process)}")
            time.sleep(0.0005)
        return process

    def interrupt(self, fraction: float, command: Sequence[str | Path], number: signal.Signals) -> Ended:
        process = self.start_until(fraction, command)
        process.send_signal(number)
        return finish(process)

    def kill(self, fraction: float, command: Sequence[str | Path]) -> None:
        ended = self.interrupt(fraction, command, signal.SIGKILL)
        assert ended.code == -signal.SIGKILL, f"not killed at {fraction:.3f}: {ended}"
        print(f"killed at {fraction:.3f}: {(self.out / '.work' / 'equity').stat().st_size} bytes")
        assert not (self.out / "summary.json").exists(), f"complete before it was killed at {fraction:.3f}"

    def result(self) -> Result:
        return Result(json.loads((self.out / "summary.json").read_text(encoding="utf-8")), self.out)

    def assert_like_the_whole_run(self, about: str = "") -> None:
        result, whole = self.result(), self.case.whole
        assert_same(result, whole)
        assert result.table("dead_letters").equals(whole.table("dead_letters"), null_equal=True), about
        of_a_run = ("seconds", "bars_per_second", "config")
        figures = {key: value for key, value in result.summary.items() if key not in of_a_run}
        assert figures == {key: whole.summary[key] for key in figures}, about


@pytest.fixture
def place(case: Case, tmp_path: Path) -> Place:
    return Place(case, tmp_path / "out", tmp_path / "recovery")


def random_moments(seed: int, n: int) -> list[float]:
    """Shares of the whole run, rising."""
    generator = random.Random(seed)
    return sorted(generator.uniform(0.02, 0.85) for _ in range(n))


@pytest.mark.parametrize(
    "workers",
    [pytest.param([1] * (KILLS + 1), id="one worker"), pytest.param([2, 1, 3, 4, 1, 2, 1], id="others")],
)
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(workers: list[int], place: Place) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random_moments(seed, KILLS)
    about = f"seed {seed}: killed at {moments} with workers {workers}"
    print(about)
    for moment, n in zip(moments, workers, strict=False):
        place.kill(moment, place.command(n))
    ended = finish(start(place.command(workers[-1])))
    assert ended.code == 0, f"{about}: {ended}"
    assert last_json(ended) == place.result().summary
    place.assert_like_the_whole_run(about)


def test_a_bytewax_run_killed_again_and_again_ends_like_one_that_was_not(place: Place) -> None:
    seed = random.SystemRandom().randrange(10**6)
    moments = random_moments(seed, 2)
    about = f"seed {seed}: killed at {moments}"
    print(about)
    place.recovery.mkdir()
    prepared = finish(start([sys.executable, "-m", "bytewax.recovery", place.recovery, "1"]))
    assert prepared.code == 0, prepared
    for moment in moments:
        place.kill(moment, place.flow())
    ended = finish(start(place.flow()))
    assert ended.code == 0, f"{about}: {ended}"
    place.assert_like_the_whole_run(about)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_and_the_same_command_continues(number: signal.Signals, place: Place) -> None:
    stopped = place.interrupt(0.3, place.command(), number)
    assert (stopped.code, stopped.stderr) == (130, "")
    assert "the same command continues" in stopped.stdout
    assert not (place.out / "summary.json").exists()
    ended = finish(start(place.command()))
    assert (ended.code, ended.stderr) == (0, "")
    place.assert_like_the_whole_run()


def test_a_stopped_run_without_recovery_says_that_nothing_was_kept(case: Case, tmp_path: Path) -> None:
    place = Place(case, tmp_path / "out", tmp_path / "recovery")
    command = [word for word in place.command() if word not in ("-r", place.recovery)]
    stopped = place.interrupt(0, command, signal.SIGINT)
    assert (stopped.code, stopped.stderr) == (130, "")
    assert "nothing was kept" in stopped.stdout
    assert "--recovery" in stopped.stdout
    ended = finish(start(command))
    assert ended.code == 0, ended
    place.assert_like_the_whole_run()


def test_a_second_run_on_the_same_recovery_directory_is_refused(place: Place) -> None:
    first = place.start_until(0.05, place.command())
    first.send_signal(signal.SIGSTOP)  # alive and holding the directory, however long the second takes
    try:
        second = finish(start(place.command()))
    finally:
        first.send_signal(signal.SIGCONT)
        ended = finish(first)
    assert_refused(second, "another run holds the recovery directory", str(place.recovery))
    assert ended.code == 0, ended
    place.assert_like_the_whole_run()


def assert_refused(ended: Ended, *words: str) -> None:
    """Exit code 2 and one message that says these words; no traceback."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.stderr.startswith("error "), ended.stderr
    assert [word for word in words if word not in ended.stderr] == [], ended.stderr


def test_another_configuration_is_refused(place: Place, configuration: Configuration, tmp_path: Path) -> None:
    place.kill(0.2, place.command())
    other = write_toml(tmp_path / "other.toml", configuration("toggle", account__cash=50_000))
    command = [other if word == place.case.config else word for word in place.command()]
    assert_refused(finish(start(command)), "snapshot", "parameters", "empty recovery directory")
    ended = finish(start(place.command()))
    assert ended.code == 0, ended
    place.assert_like_the_whole_run()


def test_another_recording_is_refused(place: Place, clean_recording: Path) -> None:
    place.kill(0.2, place.command())
    command = [clean_recording if word == place.case.recording else word for word in place.command()]
    assert_refused(finish(start(command)), "snapshot", "recording", "empty recovery directory")


def test_another_batch_size_is_refused(place: Place) -> None:
    place.kill(0.2, place.command())
    command = ["20" if word == str(BATCH_BARS) else word for word in place.command()]
    assert_refused(finish(start(command)), "snapshot", "batch_bars", str(BATCH_BARS), "20")


def test_a_lost_output_folder_is_refused(place: Place) -> None:
    place.kill(0.4, place.command())
    shutil.rmtree(place.out)
    assert_refused(finish(start(place.command())), str(place.out), "empty recovery directory")


def test_a_finished_run_started_again_shows_the_same_result(place: Place) -> None:
    first = finish(start(place.command()))
    again = finish(start(place.command()))
    assert (first.code, again.code, again.stderr) == (0, 0, "")
    assert last_json(again) == last_json(first)
    assert first.stdout.endswith(again.stdout)  # a slow run also tells how far it is
    place.assert_like_the_whole_run()


def test_a_run_killed_while_it_writes_its_result_writes_it_again(place: Place) -> None:
    process = place.start_until(1.0, place.command())
    process.kill()
    finish(process)
    ended = finish(start(place.command()))
    assert ended.code == 0, ended
    place.assert_like_the_whole_run()
