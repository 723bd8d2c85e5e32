"""What an operator types, what the account would make of it, and what the operator is told."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from connectors.config_file import load_config
from connectors.control_files import COMMANDS, KILL, ControlError
from flows.control_cli import PASSPHRASE, control_app, load_commands
from operators.account_state import LIMITS
from schemas.codecs import decode
from schemas.codes import Breaker, ControlAction, ControlRefusal
from schemas.commands import Command
from schemas.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "deploy" / "demo.toml").read_text(encoding="utf-8")
AT = "2025-08-08T15:30:00Z"
AT_NS = int(np.datetime64("2025-08-08T15:30:00", "ns").astype(np.int64))
MINUTE = 60_000_000_000


@dataclass
class Ended:
    code: int
    text: str

    def says(self, *words: str) -> bool:
        """Whatever the width of the terminal."""
        text = " ".join(self.text.split())
        missing = [word for word in words if word not in text]
        assert missing == [], self
        return True


def sluice(*arguments: object) -> Ended:
    """Run a command; what `main` tells the user of is told here."""
    result = CliRunner(env={"COLUMNS": "150"}).invoke(control_app, [str(part) for part in arguments])
    if isinstance(result.exception, ControlError | ConfigError):
        return Ended(2, str(result.exception))
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return Ended(result.exit_code, result.output)


class Desk:
    """A control folder, a configuration, and operators with their keys."""

    def __init__(self, folder: Path, text: str = DEMO) -> None:
        self.home = folder
        self.folder = folder / "control"
        self.folder.mkdir()
        lines = []
        for name in ("alice", "bob", "eve"):
            ended = sluice("keygen", name, "--folder", folder)
            assert ended.code == 0, ended
            if name != "eve":
                lines.append(ended.text.splitlines()[-1])
        self.config = folder / "config.toml"
        self.config.write_text("\n".join([text, "[control.keys]", *lines]), encoding="utf-8")

    def key(self, name: str) -> Path:
        return self.home / f"{name}.pem"

    def say(self, command: str, *arguments: object, by: str = "alice", at: str | None = AT) -> Ended:
        keys = [part for name in by.split() for part in ("--key", self.key(name))]
        time = [] if at is None else ["--at", at]
        common = ["--config", self.config, *keys, "--reason", "why not", *time]
        return sluice(command, self.folder, *arguments, *common)

    def approve(self, command_id: object, by: str = "bob", at: str | None = AT) -> Ended:
        time = [] if at is None else ["--at", at]
        key = ["--key", self.key(by)]
        return sluice("approve", self.folder, command_id, "--config", self.config, *key, *time)

    def rows(self) -> Any:
        return load_commands(self.folder, load_config(self.config))[1]

    def given(self) -> list[Command]:
        path = self.folder / COMMANDS
        lines = path.read_bytes().splitlines() if path.exists() else []
        commands = [decode(Command, line) for line in lines]
        assert all(isinstance(command, Command) for command in commands)
        return commands  # type: ignore[return-value]

    def waiting(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.folder / "pending").glob("*"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# --- stopping


@pytest.mark.parametrize("action", ["reduce", "halt", "flatten", "kill"])
def test_one_key_stops(desk: Desk, action: str) -> None:
    ended = desk.say(action)
    assert ended.code == 0, ended
    assert ended.says(action, "account demo", "2025-08-08 15:30:00Z", "valid until 2025-08-08 15:40:00Z")
    times, rows = load_commands(desk.folder, load_config(desk.config))
    assert times.tolist() == [AT_NS]
    row = rows[0]
    assert (row.action, row.keys, row.refusal) == (ControlAction[action.upper()], 1, ControlRefusal.NONE)
    assert (row.command_id, row.expires_ns) == (AT_NS, AT_NS + 10 * MINUTE)
    (command,) = desk.given()
    assert (command.issuer, command.reason) == ("alice", "why not")


def test_kill_without_a_key_puts_a_kill_file_there(desk: Desk) -> None:
    ended = sluice("kill", desk.folder)
    assert ended.code == 0, ended
    assert ended.says(KILL, "killed")
    (row,) = desk.rows()
    assert (row.action, row.keys, row.refusal) == (ControlAction.KILL, 1, ControlRefusal.NONE)
    assert sluice("kill", desk.folder).code == 0


def test_kill_with_a_key_needs_the_configuration(desk: Desk) -> None:
    ended = sluice("kill", desk.folder, "--key", desk.key("alice"))
    assert ended.code == 2
    assert ended.says("needs --config")
    assert not (desk.folder / KILL).exists()


def test_commands_of_one_moment_stay_apart(desk: Desk) -> None:
    for action in ("halt", "flatten", "reduce"):
        assert desk.say(action).code == 0
    assert [command.command_id for command in desk.given()] == [AT_NS, AT_NS + 1, AT_NS + 2]


def test_a_command_counts_from_now_unless_told_otherwise(desk: Desk) -> None:
    before = int(np.datetime64("now", "ns").astype(np.int64))
    assert desk.say("halt", "--expires", 3, at=None).code == 0
    (command,) = desk.given()
    assert before - MINUTE < command.command_id < before + 60 * MINUTE
    assert command.expires_ns == command.command_id + 3 * MINUTE


def test_a_time_has_any_zone(desk: Desk) -> None:
    assert desk.say("halt", at="2025-08-08T11:30:00-04:00").code == 0
    assert desk.given()[0].command_id == AT_NS


# --- what adds risk


ADDS_RISK: list[tuple[str, ...]] = [
    ("resume",),
    ("release", "--breaker", "daily_loss"),
    ("release", "--instrument", "TQQQ"),
    ("limit", "daily_loss", "0.05", "--raise"),
]


@pytest.mark.parametrize("words", ADDS_RISK, ids=str)
def test_two_keys_at_once_add_risk(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.say(*words, by="alice bob").code == 0
    (row,) = desk.rows()
    assert (row.keys, row.refusal) == (2, ControlRefusal.NONE)
    assert desk.waiting() == []


@pytest.mark.parametrize("words", ADDS_RISK, ids=str)
def test_one_key_waits_for_another(desk: Desk, words: tuple[str, ...]) -> None:
    ended = desk.say(*words)
    assert ended.code == 0, ended
    approval = f"sluice approve {desk.folder} {AT_NS} --config {desk.config} --key FILE"
    assert ended.says("waits for a second key until 2025-08-08 15:40:00Z", approval)
    assert (desk.waiting(), desk.given()) == ([AT_NS], [])

    ended = desk.approve(AT_NS)
    assert ended.code == 0, ended
    (row,) = desk.rows()
    assert (row.command_id, row.keys, row.refusal) == (AT_NS, 2, ControlRefusal.NONE)
    assert [signature.key for signature in desk.given()[0].signatures] == ["alice", "bob"]
    assert desk.waiting() == []


def test_the_same_key_cannot_approve(desk: Desk) -> None:
    desk.say("resume")
    ended = desk.approve(AT_NS, by="alice")
    assert ended.code == 2
    assert ended.says("needs 2 different keys")
    assert (desk.waiting(), desk.given()) == ([AT_NS], [])


def test_the_same_key_twice_is_not_two(desk: Desk) -> None:
    assert desk.say("resume", by="alice alice").says("needs 2 different keys")
    assert (desk.waiting(), desk.given()) == ([], [])


def test_an_approval_after_the_command_expired(desk: Desk) -> None:
    desk.say("resume")
    ended = desk.approve(AT_NS, at="2025-08-08T15:40:01Z")
    assert ended.code == 2
    assert ended.says("expired at 2025-08-08 15:40:00Z", "issue it again")
    assert desk.approve(AT_NS, at=None).says("expired")
    assert desk.given() == []


def test_an_approval_after_a_newer_halt(desk: Desk) -> None:
    """The account would refuse it as replayed."""
    desk.say("resume")
    desk.say("halt", by="bob", at="2025-08-08T15:31:00Z")
    ended = desk.approve(AT_NS, at="2025-08-08T15:32:00Z")
    assert ended.code == 2
    assert ended.says("is older than one of 2025-08-08 15:31:00Z")
    assert desk.waiting() == [AT_NS]


@pytest.mark.parametrize(
    "alter",
    [
        lambda raw: raw.replace(b'"0.050000"', b'"0.900000"'),
        lambda raw: raw.replace(b'"account":"demo"', b'"account":"other"'),
        lambda raw: raw.replace(str(AT_NS).encode(), str(AT_NS + 1).encode(), 1),
        lambda raw: raw[:-20],
        lambda _: b"",
    ],
    ids=["value", "account", "id", "torn", "empty"],
)
def test_what_was_altered_while_it_waited_is_not_approved(
    desk: Desk, alter: Callable[[bytes], bytes]
) -> None:
    desk.say("limit", "daily_loss", "0.05", "--raise")
    path = desk.folder / "pending" / f"{AT_NS}.json"
    assert alter(path.read_bytes()) != path.read_bytes()
    path.write_bytes(alter(path.read_bytes()))
    ended = desk.approve(AT_NS)
    assert ended.code == 2
    assert ended.says("issue it again")
    assert desk.given() == []


def test_a_command_that_waits_under_the_id_of_another_is_not_approved(desk: Desk) -> None:
    desk.say("limit", "daily_loss", "0.05", "--raise")
    path = desk.folder / "pending" / f"{AT_NS}.json"
    path.rename(path.with_name(f"{AT_NS + 1}.json"))
    ended = desk.approve(AT_NS + 1)
    assert ended.code == 2
    assert ended.says("is not what its issuer signed")
    assert desk.given() == []


def test_an_approval_of_nothing(desk: Desk) -> None:
    ended = desk.approve(7)
    assert ended.code == 2
    assert ended.says("no such command; waiting here: none")


def test_a_resume_beside_a_kill_file_says_what_to_do(desk: Desk) -> None:
    sluice("kill", desk.folder)
    ended = desk.say("resume", by="alice bob")
    assert ended.code == 2
    assert ended.says(f"{desk.folder / KILL} is there", "remove it, then resume")
    assert desk.given() == []


# --- limits and releases


@pytest.mark.parametrize(
    ("name", "value", "units"),
    [
        ("daily_loss", "0.01", 10_000),
        ("max_position_value", "5000.5", 5_000_500_000),
        ("max_positions", "2", 2),
    ],
)
def test_a_limit_is_lowered_by_one_key(desk: Desk, name: str, value: str, units: int) -> None:
    assert desk.say("limit", name, value, "--lower").code == 0
    (row,) = desk.rows()
    assert (row.action, row.value, row.refusal) == (ControlAction.LOWER_LIMIT, units, ControlRefusal.NONE)
    assert (LIMITS.names or ())[row.limit] == name


def test_a_release_says_what_in_numbers(desk: Desk) -> None:
    strategy = load_config(desk.config).strategies[0].name
    about = ("--breaker", "repeated_execution", "--strategy", strategy, "--instrument", "PSQ")
    assert desk.say("release", *about, by="bob alice").code == 0
    (row,) = desk.rows()
    assert (row.breaker, row.strategy, row.instrument) == (Breaker.REPEATED_EXECUTION, 0, 2)


# --- mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("limit", "daily_loss", "1.5", "--raise"), "daily_loss cannot be 1.5"),
        (("limit", "daily_loss", "x", "--raise"), "value 'x': money is a decimal string"),
        (("limit", "max_positions", "1.5", "--raise"), "max_positions is a count"),
        (("limit", "cash", "1", "--raise"), "limit 'cash': not one of max_position_value"),
        (("limit", "", "1", "--raise"), "needs the name of a limit"),
        (("release",), "needs an instrument"),
        (("release", "--breaker", "drawdown", "--instrument", "QQQ"), "neither strategy nor instrument"),
        (("release", "--breaker", "strategy_loss"), "needs a strategy alone"),
        (
            ("release", "--breaker", "exit_failure", "--instrument", "ABC"),
            "has no instrument ABC; it has QQQ",
        ),
        (("release", "--breaker", "strategy_loss", "--strategy", "abc"), "has no strategy abc; it has"),
        (("release", "--breaker", "x"), "breaker 'x': not one of daily_loss"),
        (("release", "--instrument", "a b"), "instrument 'a b': "),
    ],
    ids=str,
)
def test_a_command_that_means_nothing_is_not_signed(desk: Desk, words: tuple[str, ...], told: str) -> None:
    ended = desk.say(*words, by="alice bob")
    assert ended.code == 2, ended
    assert ended.says(told)
    assert (desk.given(), desk.waiting()) == ([], [])


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("yesterday", "--at yesterday: write it as 2025-08-08T15:30:00Z"),
        ("2025-08-08T15:30:00", "say its zone"),
        ("1969-12-31T00:00:00Z", "command_id"),
        ("9999-12-31T00:00:00Z", "command_id"),
    ],
)
def test_a_time_that_is_none(desk: Desk, at: str, told: str) -> None:
    ended = desk.say("halt", at=at)
    assert ended.code == 2
    assert ended.says(told)
    assert desk.given() == []


def test_a_reason_is_needed_and_is_text(desk: Desk) -> None:
    for reason in ("", "x" * 201, "a\nb"):
        ended = sluice("halt", desk.folder, "-c", desk.config, "-k", desk.key("alice"), "-r", reason)
        assert ended.code == 2
        assert ended.says("reason")
    assert sluice("halt", desk.folder, "-c", desk.config, "-k", desk.key("alice")).code == 2
    assert desk.given() == []


def test_a_key_that_the_configuration_does_not_know(desk: Desk) -> None:
    ended = desk.say("halt", by="eve")
    assert ended.code == 2
    assert ended.says(f"{desk.key('eve')}: its public key", f"not in [control.keys] of {desk.config}")
    assert desk.given() == []


def test_a_key_is_needed(desk: Desk) -> None:
    assert sluice("halt", desk.folder, "-c", desk.config, "-r", "x").code == 2
    assert desk.given() == []


def test_a_control_folder_that_is_not_there_is_not_made(desk: Desk) -> None:
    other = desk.home / "other"
    halt = ("-c", desk.config, "-k", desk.key("alice"), "-r", "x")
    for words in (("kill", other), ("halt", other, *halt), ("resume", other, *halt), ("status", other)):
        ended = sluice(*words)
        assert ended.code == 2
        assert ended.says(f"{other}: no such folder")
    assert not other.exists()


def test_a_configuration_that_is_wrong(desk: Desk) -> None:
    desk.config.write_text("x = 1", encoding="utf-8")
    ended = desk.say("halt")
    assert ended.code == 2
    assert ended.says("unknown key")


def test_a_torn_line_halts_and_the_next_command_is_whole(desk: Desk) -> None:
    desk.say("halt")
    path = desk.folder / COMMANDS
    path.write_bytes(path.read_bytes()[:-30])
    assert desk.say("flatten", at="2025-08-08T15:31:00Z").code == 0
    rows = desk.rows()
    assert rows.refusal.tolist() == [ControlRefusal.MALFORMED, ControlRefusal.NONE]


# --- keys


def test_a_key_is_made_once(desk: Desk) -> None:
    ended = sluice("keygen", "alice", "--folder", desk.home)
    assert ended.code == 2
    assert ended.says("is never overwritten")


@pytest.mark.parametrize("name", ["", "../alice", "a b", "x" * 33, "-x.", "é"])
def test_a_name_that_no_key_can_have(desk: Desk, name: str) -> None:
    before = sorted(desk.home.rglob("*"))
    assert sluice("keygen", "--folder", desk.home, "--", name).code == 2
    assert sorted(desk.home.rglob("*")) == before


def test_a_key_with_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    (tmp_path / "control").mkdir()
    made = sluice("keygen", "alice", "--folder", tmp_path, "--passphrase")
    assert "ENCRYPTED" in (tmp_path / "alice.pem").read_text(encoding="utf-8")
    config = tmp_path / "config.toml"
    config.write_text(DEMO + "\n[control.keys]\n" + made.text.splitlines()[-1], encoding="utf-8")
    words = ("halt", tmp_path / "control", "-c", config, "-k", tmp_path / "alice.pem", "-r", "x")
    assert sluice(*words).code == 0
    monkeypatch.setenv(PASSPHRASE, "wrong")
    assert sluice(*words).says("another passphrase")
    monkeypatch.setenv(PASSPHRASE, "")
    assert sluice(*words).says("the passphrase is empty")
    monkeypatch.delenv(PASSPHRASE)
    assert sluice(*words).says(f"needs its passphrase in {PASSPHRASE}")


# --- status


def test_the_status_of_a_folder(desk: Desk) -> None:
    desk.say("halt")
    desk.say("limit", "daily_loss", "0.05", "--raise", at="2025-08-08T15:31:00Z")
    forged = (desk.folder / COMMANDS).read_bytes().replace(b"why not", b"why yes")
    with (desk.folder / COMMANDS).open("ab") as file:
        file.write(forged + b"torn")
    sluice("kill", desk.folder)
    ended = sluice("status", desk.folder, "--config", desk.config)
    assert ended.code == 0
    assert ended.says("there since", "remove it, then resume", "2025-08-08 15:30:00Z", "why not")
    states = re.findall(r"given(?:, \w+)?|waiting", ended.text)
    assert states == ["given", "given, forged", "given, malformed", "waiting"]
    assert ended.says("raise limit daily_loss", "to 0.05", "alice", str(AT_NS))


def test_the_status_of_an_empty_folder(desk: Desk) -> None:
    ended = sluice("status", desk.folder)
    assert ended.code == 0
    assert re.search(r"kill file\W+none", ended.text)
    assert re.search(r"commands\W+0", ended.text)


STATE: dict[str, Any] = {
    "time_ns": AT_NS,
    "level": "halted",
    "flatten": True,
    "breakers": [
        {
            "breaker": "strategy_loss",
            "strategy": "ema",
            "instrument": "",
            "until_ns": AT_NS + MINUTE,
            "observed": 1234567,
            "limit": 1000000,
        },
        {
            "breaker": "daily_loss",
            "strategy": "",
            "instrument": "",
            "until_ns": 0,
            "observed": 1,
            "limit": 1,
        },
    ],
    "blocked": {"TQQQ": "missing_fill"},
    "positions": {"QQQ": 1200},
    "changed_limits": {"daily_loss": 15_000, "max_position_value": 20_000_000_000, "drawdown_release": 5},
}


def write_summary(out: Path, state: object) -> Path:
    out.mkdir(exist_ok=True)
    summary = {"account": "demo", "account_state": state}
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return out


def test_the_status_of_a_run(tmp_path: Path) -> None:
    ended = sluice("status", write_summary(tmp_path / "out", STATE))
    assert ended.code == 0
    assert ended.says(
        str(tmp_path / "out"),
        "2025-08-08 15:30:00Z",
        "halted, flattening",
        "QQQ 1,200",
        "TQQQ (missing_fill)",
        "daily_loss 0.015, max_position_value 20,000, drawdown_release 5",
        "2025-08-08 15:31:00Z",
        "1,234,567",
        "its own rule, or an operator",
    )


def test_the_status_of_a_run_without_anything_to_tell(tmp_path: Path) -> None:
    quiet = {**STATE, "level": "active", "flatten": False, "breakers": [], "blocked": {}, "positions": {}}
    ended = sluice("status", write_summary(tmp_path / "out", {**quiet, "changed_limits": {}}))
    assert re.findall(r"│ (\w[\w ]*\w) +│ (\w+) +│", ended.text) == [
        ("account", "demo"),
        ("level", "active"),
        ("positions", "none"),
        ("blocked", "none"),
        ("limits changed", "none"),
    ]


@pytest.mark.parametrize("state", [None, [], {}, {**STATE, "positions": 1}], ids=str)
def test_a_summary_that_says_nothing_of_the_account(tmp_path: Path, state: object) -> None:
    ended = sluice("status", write_summary(tmp_path / "out", state))
    assert ended.code == 2
    assert ended.says("run the replay again")


def test_the_status_of_a_run_and_of_its_folder_at_once(desk: Desk) -> None:
    out = write_summary(desk.home / "out", STATE)
    assert sluice("status", out, desk.folder).says("halted, flattening", "kill file")


# --- help


def test_help_names_every_command() -> None:
    ended = sluice("--help")
    assert ended.code == 0
    assert ended.says(
        *("keygen", "reduce", "halt", "flatten", "kill", "resume", "release", "limit", "approve", "status")
    )


@pytest.mark.parametrize("command", ["halt", "kill", "resume", "release", "limit", "approve", "status"])
def test_help_of_a_command(command: str) -> None:
    ended = sluice(command, "--help")
    assert ended.code == 0
    assert ended.says("--config")
