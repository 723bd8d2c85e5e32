"""What a user sees who makes a mistake: one message that says what to do, exit code 2, no traceback."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from replay_fixtures import Ended, sluice, write_toml
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli import app

Configuration = Callable[..., dict[str, Any]]


@pytest.fixture
def config(configuration: Configuration, tmp_path: Path) -> Path:
    return write_toml(tmp_path / "config.toml", configuration())


def replayed(recording: Path, config: Path, out: Path, *more: str | Path) -> Ended:
    return sluice("replay", recording, "-c", config, "-o", out, *more)


def assert_message(ended: Ended, *words: str) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.stderr + ended.stdout, ended
    assert ended.stderr.startswith("error "), ended
    assert len(ended.stderr.splitlines()) == 1, ended
    assert [word for word in words if word not in ended.stderr] == [], ended
    assert ended.stdout == "", ended


def test_a_recording_that_is_not_there(config: Path, tmp_path: Path) -> None:
    ended = replayed(tmp_path / "nowhere", config, tmp_path / "out")
    assert_message(ended, str(tmp_path / "nowhere"), "no such folder")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_recording(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_message(
        replayed(tmp_path / "empty", config, tmp_path / "out"), str(tmp_path / "empty"), "no recording"
    )


def test_a_configuration_that_is_not_there(clean_recording: Path, tmp_path: Path) -> None:
    ended = replayed(clean_recording, tmp_path / "none.toml", tmp_path / "out")
    assert_message(ended, "none.toml", "cannot be read")


def test_a_configuration_that_is_no_toml(clean_recording: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("account = {", encoding="utf-8")
    ended = replayed(clean_recording, tmp_path / "config.toml", tmp_path / "out")
    assert_message(ended, "config.toml", "not valid TOML")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"gates__cash__bufer": 1}, ["gates.cash.bufer", "unknown key"], id="unknown key"),
        pytest.param({"gates__cash__collar": None}, ["gates.cash.collar", "missing"], id="missing key"),
        pytest.param({"account__cash": -1}, ["account.cash", "-1"], id="negative cash"),
        pytest.param({"strategies__0__kind": "guess"}, ["kind", "guess", "sigor"], id="unknown strategy"),
        pytest.param(
            {"strategies__0__parameters": {"fast": 1}}, ["parameters.fast", "unknown"], id="unknown parameter"
        ),
        pytest.param(
            {"strategies__0__signals": ["SPY"]},
            ["signals", "SPY", "not in instruments"],
            id="other instrument",
        ),
    ],
)
def test_a_configuration_with_a_mistake_names_the_key(
    changes: dict[str, Any],
    words: list[str],
    clean_recording: Path,
    configuration: Configuration,
    tmp_path: Path,
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration(**changes))
    assert_message(replayed(clean_recording, config, tmp_path / "out"), *words)


def test_symbols_that_the_recording_does_not_have(
    clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    more = configuration(instruments=["QQQ", "TQQQ", "PSQ", "SQQQ", "SPY", "SSO"])
    ended = replayed(clean_recording, write_toml(tmp_path / "config.toml", more), tmp_path / "out")
    assert_message(ended, "SPY, SSO", "it has PSQ, QQQ, SQQQ, TQQQ")


def test_bars_of_another_length_than_configured(
    clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    early = {"entries_stop_minutes": 45, "cancel_entries_minutes": 35, "exits_begin_minutes": 30}
    session = early | {"reprice_minutes": 20, "force_minutes": 10, "flat_by_seconds": 60}
    slow = {"attempts": 3, "no_progress_seconds": 300, "instruments_to_kill": 2}
    longer = configuration(bars__interval_seconds=300, gates__session=session, breakers__exit_failure=slow)
    config = write_toml(tmp_path / "config.toml", longer)
    assert_message(replayed(clean_recording, config, tmp_path / "out"), "60 s", "interval_seconds is 300")


@pytest.mark.parametrize(
    "option", [("--workers", "0"), ("--batch-bars", "-1"), ("--window-rows", "-1"), ("--no-such-option",)]
)
def test_an_option_out_of_range_is_explained(
    option: tuple[str, ...], clean_recording: Path, config: Path, tmp_path: Path
) -> None:
    ended = replayed(clean_recording, config, tmp_path / "out", *option)
    assert ended.code == 2
    assert option[0] in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_the_commands_and_their_options() -> None:
    about = sluice("--help")
    assert (about.code, about.stderr) == (0, "")
    assert "replay" in about.stdout
    of_replay = sluice("replay", "--help")
    assert (of_replay.code, of_replay.stderr) == (0, "")
    options = ("--config", "--out", "--recovery", "--snapshot-seconds", "--workers", "--window-rows")
    for option in (*options, "--batch-bars", "--json"):
        assert option in of_replay.stdout


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def test_help_shows_the_names_of_sections() -> None:
    """In brackets, which the library takes for styles where they are not escaped."""
    named = 0
    for path, command in commands(get_command(app)):  # type: ignore[arg-type]
        sections = set(re.findall(r"\[\w+\]", " ".join(getattr(p, "help", "") or "" for p in command.params)))
        shown = CliRunner().invoke(app, [*path, "--help"]).output
        assert [section for section in sections if section not in shown] == [], path
        named += len(sections)
    assert named > 8
