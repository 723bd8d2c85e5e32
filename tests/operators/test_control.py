"""Commands of operators: who signed, when they count, and what they do to the account."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connectors.config_file import load_config
from operators.account_rules import account_rules, initial_state
from operators.account_state import (
    COMMAND,
    LIMITS,
    Output,
    Rules,
    State,
    exit_breaker,
    new_output,
    opening_breaker,
    strategy_breaker,
)
from operators.control import NONE, apply_command, command_rows, read_command, sign_command
from schemas.codecs import MAX_BYTES, encode
from schemas.codes import AlertKind, Breaker, ControlAction, ControlRefusal, HaltLevel, Reason
from schemas.commands import CHANGEABLE, Command, Signature
from schemas.config import Config, Control
from schemas.records import MAX_INT
from schemas.sessions import Sessions

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo.toml"
NS = 1_000_000_000
NOW = 1_700_000_000 * NS
EXPIRES = NOW + 600 * NS

KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)) for name in ("alice", "bob", "eve")
}
ALICE, BOB, EVE = KEYS["alice"], KEYS["bob"], KEYS["eve"]


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def configured(**keys: Ed25519PrivateKey) -> Config:
    control = Control(keys={name: public(key) for name, key in keys.items()})
    return load_config(DEMO).model_copy(update={"control": control})


CONFIG = configured(alice=ALICE, bob=BOB)
ACCOUNT = CONFIG.account.id
STRATEGY = CONFIG.strategies[0].name
INSTRUMENT = CONFIG.instruments[1]

PLAIN: dict[str, Any] = {
    "account": ACCOUNT,
    "command_id": NOW,
    "action": "halt",
    "issuer": "alice",
    "reason": "why not",
    "expires_ns": EXPIRES,
    "breaker": "",
    "strategy": "",
    "instrument": "",
    "limit": "",
    "value": "0",
    "signatures": [],
}


def unsigned(**changes: Any) -> Command:
    return Command.model_validate({**PLAIN, **changes})


def signed(*names: str, **changes: Any) -> Command:
    command = unsigned(**changes)
    for name in names:
        command = sign_command(command, name, KEYS[name])
    return command


def read(command: Command, config: Config = CONFIG) -> Any:
    return read_command(encode(command), config)


def judged(command: Command, config: Config = CONFIG) -> tuple[ControlRefusal, int]:
    row = read(command, config)
    return ControlRefusal(int(row.refusal)), int(row.keys)


# --- reading


def test_a_command_as_numbers() -> None:
    row = read(
        signed(
            "alice",
            "bob",
            action="release",
            breaker="repeated_execution",
            strategy=STRATEGY,
            instrument=INSTRUMENT,
        )
    )
    assert row.tolist() == (
        ControlAction.RELEASE,
        NOW,
        EXPIRES,
        2,
        Breaker.REPEATED_EXECUTION,
        0,
        1,
        NONE,
        0,
        ControlRefusal.NONE,
    )


def test_what_a_command_does_not_use_is_none() -> None:
    row = read(signed("alice"))
    assert (row.breaker, row.strategy, row.instrument, row.limit, row.value) == (NONE, NONE, NONE, NONE, 0)


@pytest.mark.parametrize(
    ("name", "value", "units"),
    [
        ("daily_loss", "0.015", 15_000),
        ("max_position_value", "20000", 20_000_000_000),
        ("max_positions", "3", 3),
    ],
)
def test_a_limit_as_numbers(name: str, value: str, units: int) -> None:
    row = read(signed("alice", action="lower_limit", limit=name, value=value))
    assert (LIMITS.names or ())[row.limit] == name
    assert row.value == units


def test_every_changeable_limit_is_one_of_the_state() -> None:
    assert set(CHANGEABLE) <= set(LIMITS.names or ())


# --- signatures


def test_two_keys_count_as_two_and_none_as_none() -> None:
    assert judged(signed()) == (ControlRefusal.NONE, 0)
    assert judged(signed("alice")) == (ControlRefusal.NONE, 1)
    assert judged(signed("alice", "bob")) == (ControlRefusal.NONE, 2)


def test_the_same_key_twice_counts_once() -> None:
    assert judged(signed("alice", "alice")) == (ControlRefusal.NONE, 1)


def test_one_key_under_two_names_counts_once() -> None:
    config = configured(alice=ALICE, also_alice=ALICE)
    command = sign_command(signed("alice"), "also_alice", ALICE)
    assert judged(command, config) == (ControlRefusal.NONE, 1)


def test_a_key_that_the_configuration_does_not_know() -> None:
    assert judged(signed("eve", issuer="eve")) == (ControlRefusal.FORGED, 0)
    assert judged(signed("alice", "eve")) == (ControlRefusal.FORGED, 0)


def test_without_keys_in_the_configuration_every_signature_is_forged() -> None:
    assert judged(signed("alice"), configured()) == (ControlRefusal.FORGED, 0)


def test_a_signature_under_the_name_of_another() -> None:
    assert judged(sign_command(unsigned(), "alice", EVE)) == (ControlRefusal.FORGED, 0)
    assert judged(sign_command(unsigned(), "alice", BOB)) == (ControlRefusal.FORGED, 0)


def test_a_second_signature_that_is_wrong_spoils_the_first() -> None:
    command = sign_command(signed("alice"), "bob", EVE)
    assert judged(command) == (ControlRefusal.FORGED, 0)


def test_an_issuer_who_did_not_sign_first() -> None:
    assert judged(signed("bob")) == (ControlRefusal.FORGED, 0)
    assert judged(signed("bob", "alice")) == (ControlRefusal.FORGED, 0)


def test_a_command_of_another_account_is_forged_here() -> None:
    assert judged(signed("alice", account=ACCOUNT + "2")) == (ControlRefusal.FORGED, 0)


def test_a_signature_of_another_account_is_worth_nothing_here() -> None:
    there = signed("alice", account=ACCOUNT + "2")
    assert judged(there.model_copy(update={"account": ACCOUNT})) == (ControlRefusal.FORGED, 0)


@pytest.mark.parametrize("text", ["", "a", "AAAA", "%%%%", base64.b64encode(bytes(64)).decode(), "é" * 8])
def test_what_is_no_signature(text: str) -> None:
    command = unsigned(signatures=[Signature(key="alice", signature=text)])
    assert judged(command) == (ControlRefusal.FORGED, 0)


ALTERED = {
    "command_id": NOW + 1,
    "action": "reduce",
    "issuer": "bob",
    "reason": "why",
    "expires_ns": EXPIRES + 1,
    "breaker": "strategy_loss",
    "strategy": STRATEGY + "x",
    "instrument": CONFIG.instruments[0],
    "limit": "rapid_loss",
    "value": "0.010001",
}


@pytest.mark.parametrize("name", list(ALTERED))
def test_a_field_altered_after_signing(name: str) -> None:
    about: dict[str, Any] = {}
    if name in ("limit", "value"):
        about = {"action": "lower_limit", "limit": "daily_loss", "value": "0.01"}
    elif name in ("breaker", "strategy"):
        about = {"action": "release", "breaker": "consecutive_losses", "strategy": STRATEGY}
    elif name == "instrument":
        about = {"action": "release", "instrument": INSTRUMENT}
    genuine = signed("alice", "bob", **about)
    assert judged(genuine) == (ControlRefusal.NONE, 2)
    altered = Command.model_validate({**genuine.model_dump(), name: ALTERED[name]})
    assert altered != genuine
    assert judged(altered) == (ControlRefusal.FORGED, 0)


@pytest.mark.parametrize(
    "about",
    [
        {"action": "release", "instrument": "NOT_HERE"},
        {"action": "release", "breaker": "strategy_loss", "strategy": "not_here"},
        {"action": "raise_limit", "limit": "daily_loss", "value": "1.5"},
        {"action": "raise_limit", "limit": "max_positions", "value": "2.5"},
        {"action": "lower_limit", "limit": "max_positions", "value": "0"},
    ],
    ids=str,
)
def test_what_the_configuration_would_not_allow_is_not_applicable(about: dict[str, str]) -> None:
    assert judged(signed("alice", "bob", **about)) == (ControlRefusal.NOT_APPLICABLE, 2)
    assert judged(signed("alice", "eve", **about))[0] == ControlRefusal.FORGED


# --- bytes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + encode(signed("alice")),
        encode(signed("alice"))[:-1],
        encode(signed("alice")) + b"x",
        encode(signed("alice")).replace(b'"version":1', b'"version":2'),
        encode(signed("alice")).replace(b'"type":"command"', b'"type":"bar"'),
        encode(signed("alice")).replace(b'"halt"', b'"stop"'),
        encode(signed("alice")).replace(b'"halt"', b'"halt","action":"kill"'),
        encode(signed("alice")).replace(b'"limit":""', b'"limit":"cash"'),
        b'{"type":"command","version":1,"reason":"' + b"x" * MAX_BYTES + b'"}',
        b'{"type":"command","version":1,"signatures":' + b"[" * 20 + b"]" * 20 + b"}",
    ],
    ids=range(15),
)
def test_what_cannot_be_read_is_malformed(raw: bytes) -> None:
    row = read_command(raw, CONFIG)
    assert row.refusal == ControlRefusal.MALFORMED
    assert (row.keys, row.command_id, row.instrument, row.strategy, row.limit) == (0, 0, NONE, NONE, NONE)


@given(st.binary(max_size=300))
def test_no_bytes_raise(raw: bytes) -> None:
    assert read_command(raw, CONFIG).refusal == ControlRefusal.MALFORMED


GENUINE = encode(signed("alice", "bob"))


@given(st.integers(0, len(GENUINE) - 1), st.integers(0, 255), st.integers(0, 3))
def test_no_byte_of_a_genuine_command_can_be_another(place: int, byte: int, more: int) -> None:
    """Unless it means the same: a space, or a base64 digit whose lowest bits do not count."""
    raw = GENUINE[:place] + bytes([byte]) * more + GENUINE[place + 1 :]
    row = read_command(raw, CONFIG)
    if row.refusal == ControlRefusal.NONE:
        assert row.tolist() == read_command(GENUINE, CONFIG).tolist()


texts = st.text(max_size=12)


@given(
    st.fixed_dictionaries(
        {
            "account": st.sampled_from([ACCOUNT]) | texts,
            "command_id": st.integers(-1, 2**64),
            "action": st.sampled_from([a.name.lower() for a in ControlAction]) | texts,
            "issuer": st.sampled_from(["alice"]) | texts,
            "reason": texts,
            "expires_ns": st.integers(-1, 2**64),
            "breaker": st.sampled_from(["", "drawdown"]) | texts,
            "strategy": st.sampled_from(["", STRATEGY]) | texts,
            "instrument": st.sampled_from(["", INSTRUMENT]) | texts,
            "limit": st.sampled_from(["", *CHANGEABLE]) | texts,
            "value": st.sampled_from(["0", "0.5", "9999999999999", "0.0000001"]) | texts,
            "signatures": st.lists(
                st.fixed_dictionaries({"key": st.sampled_from(["alice"]) | texts, "signature": texts}),
                max_size=9,
            ),
        }
    )
)
def test_no_fields_raise(fields: dict[str, Any]) -> None:
    raw = json.dumps({"type": "command", "version": 1, **fields}).encode("utf-8", "surrogatepass")
    row = read_command(raw, CONFIG)
    assert row.refusal != ControlRefusal.NONE or row.keys == 0


# --- rows of the journal


def test_commands_enter_at_their_time_of_issue_in_order() -> None:
    late, early = signed("alice", command_id=NOW + 5), signed("alice", command_id=NOW + 2)
    times, rows = command_rows([encode(late), encode(early)], NONE, CONFIG)
    assert times.tolist() == rows.command_id.tolist() == [NOW + 2, NOW + 5]
    assert rows.dtype.names == COMMAND.names


def test_no_commands_are_no_rows() -> None:
    times, rows = command_rows([], NONE, CONFIG)
    assert (len(times), len(rows)) == (0, 0)


def test_what_cannot_be_believed_enters_with_the_command_before_it() -> None:
    """A forged time in the far future would otherwise keep a poison record out for ever."""
    first, third = signed("alice", command_id=NOW + 1), signed("alice", command_id=NOW + 9)
    forged = sign_command(unsigned(command_id=MAX_INT), "alice", EVE)
    times, rows = command_rows([b"torn", encode(first), encode(forged), encode(third), b"{"], NONE, CONFIG)
    assert times.tolist() == [0, NOW + 1, NOW + 1, NOW + 9, NOW + 9]
    malformed, forged_, fine = ControlRefusal.MALFORMED, ControlRefusal.FORGED, ControlRefusal.NONE
    assert rows.refusal.tolist() == [malformed, fine, forged_, fine, malformed]


@pytest.mark.parametrize("kill_ns", [0, NOW, NOW + 100])
def test_a_kill_file_comes_first_and_is_newer_than_every_command(kill_ns: int) -> None:
    command = signed("alice", "bob", action="resume", command_id=NOW + 50)
    times, rows = command_rows([encode(command)], kill_ns, CONFIG)
    assert times.tolist() == [0, NOW + 50]
    kill = rows[0]
    assert (kill.action, kill.keys, kill.refusal) == (ControlAction.KILL, 1, ControlRefusal.NONE)
    assert kill.command_id > max(kill_ns, NOW + 50)
    assert kill.expires_ns == MAX_INT


def test_a_forged_time_does_not_make_a_kill_file_last_for_ever() -> None:
    forged = sign_command(unsigned(command_id=MAX_INT), "alice", EVE)
    _, rows = command_rows([encode(forged)], NOW, CONFIG)
    assert rows[0].command_id == NOW + 1


def test_a_kill_file_of_the_last_time_there_is() -> None:
    command = signed("alice", command_id=MAX_INT, expires_ns=MAX_INT)
    _, rows = command_rows([encode(command)], MAX_INT, CONFIG)
    assert rows[0].command_id == MAX_INT


# --- the account


class Desk:
    """An account and what operators tell it. Its alerts: (kind, breaker, instrument, strategy, two
    numbers).
    """

    rules: Rules
    state: State
    output: Output

    def __init__(self) -> None:
        sessions = Sessions("TEST", np.array([NOW]), np.array([NOW + 3600 * NS]))
        self.rules = account_rules(CONFIG, sessions, paper=True)
        self.state = initial_state(CONFIG, self.rules)
        self.output = new_output(len(CONFIG.instruments), 20)
        self.account = self.state.account[0]
        self.account.time_ns = NOW
        self.number = NOW

    def apply(self, row: Any) -> list[tuple[int, ...]]:
        """Tell it, and return the alerts."""
        self.output.counts[:] = 0
        apply_command(self.state, self.rules, self.output, row)
        assert self.output.counts.tolist()[:4] == [0, 0, 0, 0]
        rows = self.output.alerts[: self.output.counts[4]]
        assert (rows.time_ns == self.account.time_ns).all()
        return [row.tolist()[2:] for row in rows]

    def tell(self, *names: str, **changes: Any) -> list[tuple[int, ...]]:
        """A new command, signed by `names`."""
        self.number += 1
        return self.apply(read(signed(*names, **{"command_id": self.number, **changes})))

    def untouched(self) -> list[int]:
        """Everything but what any command moves: its count, and the alerts."""
        words = self.state.words.copy()
        for name in ("commands", "alerts", "sequence"):
            words[self.account.dtype.fields[name][1] // 8] = 0
        return words.tolist()


def refused(why: ControlRefusal, command_id: int = 0) -> tuple[int, ...]:
    return (AlertKind.COMMAND_REFUSED, 0, NONE, NONE, command_id, why)


def carried_out(desk: Desk, action: ControlAction, *about: int) -> tuple[int, ...]:
    return (AlertKind.COMMAND, *(about or (0, NONE, NONE)), desk.number, action)


def level(before: HaltLevel, now: HaltLevel) -> tuple[int, ...]:
    return (AlertKind.HALT_LEVEL, 0, NONE, NONE, before, now)


LEVELS = {
    "reduce": (HaltLevel.REDUCING, 0),
    "halt": (HaltLevel.HALTED, 0),
    "kill": (HaltLevel.KILLED, 1),
    "flatten": (HaltLevel.REDUCING, 1),
}


@pytest.mark.parametrize("action", list(LEVELS))
@pytest.mark.parametrize("before", list(HaltLevel), ids=str)
def test_stopping_takes_one_key_and_never_lowers_the_level(action: str, before: HaltLevel) -> None:
    desk = Desk()
    desk.account.level = before
    alerts = desk.tell("alice", action=action)
    wanted, flatten = LEVELS[action]
    now = max(before, wanted)
    assert (desk.account.level, desk.account.flattening) == (now, flatten)
    done = carried_out(desk, ControlAction[action.upper()])
    assert alerts == ([level(before, now)] if now != before else []) + [done]
    assert desk.account.command_id == desk.number
    assert desk.account.commands == 1


@pytest.mark.parametrize("before", [HaltLevel.REDUCING, HaltLevel.HALTED, HaltLevel.KILLED], ids=str)
def test_two_keys_resume(before: HaltLevel) -> None:
    desk = Desk()
    desk.account.level, desk.account.flattening = before, 1
    alerts = desk.tell("alice", "bob", action="resume")
    assert alerts == [level(before, HaltLevel.ACTIVE), carried_out(desk, ControlAction.RESUME)]
    assert (desk.account.level, desk.account.flattening) == (HaltLevel.ACTIVE, 0)


def test_a_resume_ends_a_flatten() -> None:
    desk = Desk()
    desk.tell("alice", action="flatten")
    desk.tell("alice", "bob", action="resume")
    assert (desk.account.level, desk.account.flattening) == (HaltLevel.ACTIVE, 0)


# Refusals.


def assert_refused(desk: Desk, row: Any, why: ControlRefusal) -> None:
    """With an alert, and nothing else."""
    before = desk.untouched()
    commands = int(desk.account.commands)
    about = (max(int(row.breaker), 0), int(row.instrument), int(row.strategy))
    assert desk.apply(row) == [(AlertKind.COMMAND_REFUSED, *about, row.command_id, why)]
    assert desk.untouched() == before
    assert desk.account.commands == commands + 1


ADDS_RISK: list[dict[str, str]] = [
    {"action": "resume"},
    {"action": "release", "breaker": "daily_loss"},
    {"action": "release", "instrument": INSTRUMENT},
    {"action": "raise_limit", "limit": "daily_loss", "value": "0.9"},
]
STOPS: list[dict[str, str]] = [
    {"action": "reduce"},
    {"action": "halt"},
    {"action": "kill"},
    {"action": "flatten"},
    {"action": "lower_limit", "limit": "daily_loss", "value": "0.001"},
]


def stopped() -> Desk:
    """An account that every command could change."""
    desk = Desk()
    desk.account.level = HaltLevel.REDUCING
    desk.state.breakers[Breaker.DAILY_LOSS].tripped = 1
    desk.state.positions[1].blocked = Reason.MISSING_FILL
    return desk


@pytest.mark.parametrize("about", ADDS_RISK + STOPS, ids=str)
def test_every_command_works_with_the_keys_it_needs(about: dict[str, str]) -> None:
    desk = stopped()
    before = desk.untouched()
    alerts = desk.tell(*(("alice", "bob") if about in ADDS_RISK else ("alice",)), **about)
    assert alerts[-1][0] == AlertKind.COMMAND
    assert desk.untouched() != before


@pytest.mark.parametrize("about", ADDS_RISK, ids=str)
@pytest.mark.parametrize("names", [(), ("alice",), ("alice", "alice")], ids=str)
def test_what_adds_risk_needs_two_keys(about: dict[str, str], names: tuple[str, ...]) -> None:
    assert_refused(stopped(), read(signed(*names, **about)), ControlRefusal.TOO_FEW_KEYS)


@pytest.mark.parametrize("about", STOPS, ids=str)
def test_stopping_needs_a_key(about: dict[str, str]) -> None:
    assert_refused(stopped(), read(signed(**about)), ControlRefusal.TOO_FEW_KEYS)


@pytest.mark.parametrize("about", ADDS_RISK + STOPS, ids=str)
def test_an_expired_command_changes_nothing(about: dict[str, str]) -> None:
    desk = stopped()
    row = read(signed("alice", "bob", **about))
    desk.account.time_ns = EXPIRES + 1
    assert_refused(desk, row, ControlRefusal.EXPIRED)


def test_a_command_counts_until_its_last_nanosecond() -> None:
    desk = Desk()
    desk.account.time_ns = EXPIRES
    assert desk.tell("alice")[-1] == carried_out(desk, ControlAction.HALT)


@pytest.mark.parametrize("about", ADDS_RISK + STOPS, ids=str)
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_command_not_newer_than_the_newest_changes_nothing(about: dict[str, str], ahead: int) -> None:
    desk = stopped()
    desk.account.command_id = NOW + ahead
    assert_refused(desk, read(signed("alice", "bob", **about)), ControlRefusal.REPLAYED)


def test_the_same_record_twice_does_nothing_the_second_time() -> None:
    desk = Desk()
    halt = read(signed("alice", action="halt", command_id=NOW + 1))
    desk.apply(halt)
    desk.apply(read(signed("alice", "bob", action="resume", command_id=NOW + 2)))
    assert_refused(desk, halt, ControlRefusal.REPLAYED)
    assert desk.account.level == HaltLevel.ACTIVE


def test_a_resume_issued_before_a_halt_does_not_undo_it() -> None:
    desk = Desk()
    desk.apply(read(signed("alice", action="halt", command_id=NOW + 2)))
    assert_refused(
        desk, read(signed("alice", "bob", action="resume", command_id=NOW + 1)), ControlRefusal.REPLAYED
    )
    assert desk.account.level == HaltLevel.HALTED


def test_a_refused_command_does_not_age_the_others() -> None:
    desk = Desk()
    assert desk.tell("alice", action="resume") == [refused(ControlRefusal.TOO_FEW_KEYS, desk.number)]
    assert desk.account.command_id == 0


@pytest.mark.parametrize("before", list(HaltLevel), ids=str)
@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"torn", ControlRefusal.MALFORMED),
        (encode(sign_command(unsigned(action="resume"), "alice", EVE)), ControlRefusal.FORGED),
        (encode(signed("alice", account=ACCOUNT + "2")), ControlRefusal.FORGED),
    ],
    ids=["malformed", "forged", "of another account"],
)
def test_a_poison_record_halts(before: HaltLevel, raw: bytes, why: ControlRefusal) -> None:
    desk = Desk()
    desk.account.level = before
    desk.account.time_ns = EXPIRES + 1  # that it is old as well does not matter
    row = read_command(raw, CONFIG)
    now = max(before, HaltLevel.HALTED)
    alerts = desk.apply(row)
    assert alerts == [refused(why, row.command_id)] + ([level(before, now)] if now != before else [])
    assert desk.account.level == now
    assert (desk.account.flattening, desk.account.command_id) == (0, 0)


def test_poison_can_be_resumed_from() -> None:
    desk = Desk()
    desk.apply(read_command(b"torn", CONFIG))
    desk.tell("alice", "bob", action="resume")
    assert desk.account.level == HaltLevel.ACTIVE


ORDER = [
    (ControlRefusal.EXPIRED, {"expires_ns": NOW - 1}),
    (ControlRefusal.REPLAYED, {"command_id": 1}),
    (ControlRefusal.TOO_FEW_KEYS, {"keys": 1}),
    (ControlRefusal.NOT_APPLICABLE, {"refusal": ControlRefusal.NOT_APPLICABLE}),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_refusal_that_holds_is_told(first: int) -> None:
    desk = stopped()
    desk.account.command_id = 1
    row = read(signed("alice", "bob", action="resume"))
    for _, changes in ORDER[first:]:
        for name, value in changes.items():
            row[name] = value
    assert_refused(desk, row, ORDER[first][0])


def test_a_poison_record_is_told_before_anything_else() -> None:
    desk = Desk()
    row = read(signed("alice", "bob", action="resume"))
    for _, changes in ORDER:
        for name, value in changes.items():
            row[name] = value
    row.refusal = ControlRefusal.FORGED
    assert desk.apply(row)[0] == refused(ControlRefusal.FORGED, 1)


# What there is nothing to do for.


@pytest.mark.parametrize(
    "about",
    [
        {"action": "release", "instrument": "NOT_HERE"},
        {"action": "release", "breaker": "strategy_loss", "strategy": "not_here"},
        {"action": "release", "breaker": "exit_failure", "instrument": "NOT_HERE"},
        {"action": "raise_limit", "limit": "daily_loss", "value": "1.5"},
    ],
    ids=str,
)
def test_what_is_not_here_changes_nothing(about: dict[str, str]) -> None:
    desk = stopped()
    desk.state.breakers.tripped = 1
    desk.state.positions.blocked = Reason.BLOCKED
    assert_refused(desk, read(signed("alice", "bob", **about)), ControlRefusal.NOT_APPLICABLE)


def test_an_active_account_cannot_resume() -> None:
    assert_refused(Desk(), read(signed("alice", "bob", action="resume")), ControlRefusal.NOT_APPLICABLE)


BREAKERS = [
    (Breaker.DAILY_LOSS, "", ""),
    (Breaker.RAPID_LOSS, "", ""),
    (Breaker.DRAWDOWN, "", ""),
    (Breaker.CONSECUTIVE_LOSSES, STRATEGY, ""),
    (Breaker.STRATEGY_LOSS, STRATEGY, ""),
    (Breaker.UNUSUAL_TRADING, STRATEGY, ""),
    (Breaker.EXIT_FAILURE, "", INSTRUMENT),
    (Breaker.REPEATED_EXECUTION, STRATEGY, INSTRUMENT),
]


def place_of(desk: Desk, breaker: Breaker) -> int:
    """Of the breaker of the strategy and the instrument of `BREAKERS`."""
    if breaker == Breaker.EXIT_FAILURE:
        return int(exit_breaker(desk.rules, 1))
    if breaker == Breaker.REPEATED_EXECUTION:
        held = [(h.strategy, h.instrument) for h in desk.rules.holdings]
        return int(opening_breaker(desk.rules, held.index((0, 1))))
    return int(strategy_breaker(breaker, 0)) if breaker >= Breaker.CONSECUTIVE_LOSSES else breaker


@pytest.mark.parametrize(("breaker", "strategy", "instrument"), BREAKERS)
def test_two_keys_release_a_breaker(breaker: Breaker, strategy: str, instrument: str) -> None:
    desk = Desk()
    switch = desk.state.breakers[place_of(desk, breaker)]
    desk.state.breakers.tripped = 1
    about = {"breaker": breaker.name.lower(), "strategy": strategy, "instrument": instrument}
    told = desk.tell("alice", "bob", action="release", **about)
    numbers = (breaker, 1 if instrument else NONE, 0 if strategy else NONE)
    assert [row[:4] for row in told] == [
        (AlertKind.BREAKER_RELEASED, *numbers),
        (AlertKind.COMMAND, *numbers),
    ]
    assert told[-1] == carried_out(desk, ControlAction.RELEASE, *numbers)
    assert switch.tripped == 0
    assert (desk.state.breakers.tripped == 0).sum() == 1


@pytest.mark.parametrize(("breaker", "strategy", "instrument"), BREAKERS)
def test_a_breaker_that_is_not_tripped_cannot_be_released(
    breaker: Breaker, strategy: str, instrument: str
) -> None:
    desk = Desk()
    desk.state.breakers.tripped = 1
    desk.state.breakers[place_of(desk, breaker)].tripped = 0
    about = {"breaker": breaker.name.lower(), "strategy": strategy, "instrument": instrument}
    row = read(signed("alice", "bob", action="release", **about))
    assert_refused(desk, row, ControlRefusal.NOT_APPLICABLE)


@pytest.mark.parametrize(("blocked", "denied"), [(Reason.BLOCKED, 0), (0, 1), (Reason.MISSING_FILL, 1)])
def test_a_release_of_an_instrument_settles_it_and_no_other(blocked: int, denied: int) -> None:
    desk = Desk()
    desk.state.positions.blocked = Reason.OVERSOLD
    desk.state.positions[1].blocked, desk.state.positions[1].denied = blocked, denied
    desk.state.breakers.tripped = 1
    told = desk.tell("alice", "bob", action="release", instrument=INSTRUMENT)
    assert told == [carried_out(desk, ControlAction.RELEASE, 0, 1, NONE)]
    assert desk.state.positions.blocked.tolist() == [Reason.OVERSOLD, 0, Reason.OVERSOLD, Reason.OVERSOLD]
    assert desk.state.positions[1].denied == 0
    assert desk.state.breakers.tripped.all()


def test_an_instrument_that_is_not_blocked_cannot_be_released() -> None:
    desk = Desk()
    desk.state.positions.blocked = Reason.BLOCKED
    desk.state.positions[1].blocked = 0
    row = read(signed("alice", "bob", action="release", instrument=INSTRUMENT))
    assert_refused(desk, row, ControlRefusal.NOT_APPLICABLE)


# Limits.


def limits_of(desk: Desk) -> dict[str, int]:
    return dict(zip(LIMITS.names or (), desk.state.limits[0].tolist(), strict=True))


@pytest.mark.parametrize("name", list(CHANGEABLE))
@pytest.mark.parametrize("action", [ControlAction.LOWER_LIMIT, ControlAction.RAISE_LIMIT], ids=str)
def test_a_limit_changes_in_the_direction_of_its_command_alone(name: str, action: ControlAction) -> None:
    row = read(signed("alice", "bob", action=action, limit=name, value="1"))
    for present in range(4, 7):
        desk = Desk()
        desk.state.limits[0][name] = present
        desk.state.limits[0].drawdown_release = 0
        before = limits_of(desk)
        row.value = 5
        if present == 5 or (present > 5) != (action == ControlAction.LOWER_LIMIT):
            assert_refused(desk, row, ControlRefusal.NOT_APPLICABLE)
            continue
        assert desk.apply(row) == [(AlertKind.COMMAND, 0, NONE, NONE, NOW, action)]
        assert limits_of(desk) == {**before, name: 5}
        assert desk.rules.limits[0][name] == getattr(initial_state(CONFIG, desk.rules).limits[0], name)


def test_a_drawdown_limit_takes_the_release_below_it_along() -> None:
    desk = Desk()
    desk.state.limits[0].drawdown, desk.state.limits[0].drawdown_release = 150_000, 100_000
    desk.tell("alice", action="lower_limit", limit="drawdown", value="0.12")
    assert (desk.state.limits[0].drawdown, desk.state.limits[0].drawdown_release) == (120_000, 100_000)
    desk.tell("alice", action="lower_limit", limit="drawdown", value="0.07")
    assert (desk.state.limits[0].drawdown, desk.state.limits[0].drawdown_release) == (70_000, 70_000)


# The kill file.


def test_a_kill_file_stands_against_every_signature_until_it_is_gone() -> None:
    """A new run reads the folder, and a resume that was issued while the file was there; the same account
    later, without the file, a resume issued after it.
    """
    desk = Desk()
    resume = encode(signed("alice", "bob", action="resume", command_id=NOW + 50))
    _, rows = command_rows([resume], NOW, CONFIG)
    for row in rows:
        desk.apply(row)
    assert (desk.account.level, desk.account.flattening) == (HaltLevel.KILLED, 1)
    later = encode(signed("alice", "bob", action="resume", command_id=NOW + 60))
    _, rows = command_rows([resume, later], NONE, CONFIG)
    for row in rows:
        desk.apply(row)
    assert (desk.account.level, desk.account.flattening) == (HaltLevel.ACTIVE, 0)


def test_a_kill_file_kills_after_a_command_of_the_far_future() -> None:
    desk = Desk()
    command = encode(signed("alice", command_id=MAX_INT - 1, expires_ns=MAX_INT))
    _, rows = command_rows([command], NOW, CONFIG)
    desk.account.command_id = NOW + 1000
    desk.apply(rows[0])
    assert desk.account.level == HaltLevel.KILLED


@given(
    st.lists(
        st.tuples(st.sampled_from(ADDS_RISK + STOPS), st.integers(0, 2), st.integers(0, 30)), max_size=12
    )
)
def test_nothing_but_two_keys_adds_risk(commands: list[tuple[dict[str, str], int, int]]) -> None:
    """Whatever arrives in whatever order: without two keys the level never falls, no breaker is released, no
    limit rises.
    """
    desk = stopped()
    for about, keys, number in commands:
        row = read(unsigned(command_id=NOW + number, **about))
        row.keys = keys
        before = (int(desk.account.level), int(desk.account.flattening), limits_of(desk)["daily_loss"])
        held = (int(desk.state.breakers[0].tripped), int(desk.state.positions[1].blocked))
        newest = int(desk.account.command_id)
        desk.apply(row)
        after = (int(desk.account.level), int(desk.account.flattening), limits_of(desk)["daily_loss"])
        if keys < 2 or NOW + number <= newest:
            assert after[0] >= before[0]
            assert after[1] >= before[1]
            assert after[2] <= before[2]
            assert (int(desk.state.breakers[0].tripped), int(desk.state.positions[1].blocked)) == held
        assert desk.account.command_id >= newest
