"""The simulation: sessions at random, every statement asked after every event."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.cli import app
from flows.process import RunError
from flows.simulation import command, run, search
from flows.simulation.again import replay
from flows.simulation.command import ENOUGH
from flows.simulation.run import Finding, Played, Simulator
from flows.simulation.scenario import Scenario, make_scenario, timeline_of
from flows.simulation.search import Total, play_seeds
from flows.simulation.shadow import BELOW, MEANING, NONE, Statement
from flows.simulation.show import lines_of, sentence
from flows.simulation.shrink import FAULTS, describe, shrink
from operators.account_rules import initial_state
from operators.account_state import State
from operators.journal import JournalError
from operators.paper_venue import venue_rules
from schemas.codes import AlertKind

plays = pytest.mark.skipif(
    "NUMBA_BOUNDSCHECK" in os.environ, reason="played without bounds checks, by a command of its own"
)
COMPILED = not numba.config.DISABLE_JIT
SEEDS = range(100) if COMPILED else range(1, 3)
BUSY = 1  # a seed with orders, fills, commands and the end of a session
ALERTING = 4  # one that fills all tables of output

Corrupt = Callable[[State, Any], None]


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator()


@plays
def test_nothing_is_found_and_nearly_every_statement_is_put_to_the_test(simulator: Simulator) -> None:
    tested = np.zeros(len(Statement), np.int64)
    for seed in SEEDS:
        played = simulator.play(make_scenario(seed))
        assert played.finding is None, seed
        assert replay(played) is None, seed
        tested += played.shadow.tested
    asked = {statement for statement in Statement if tested[statement]}
    assert asked >= {Statement.P1, Statement.O1, Statement.O2, Statement.O9, Statement.O10, Statement.D4}
    assert not COMPILED or asked >= set(Statement) - {Statement.P3, Statement.FLAT_BY}


@plays
def test_the_same_seed_is_the_same_scenario(simulator: Simulator) -> None:
    first = [table.tobytes() for table in simulator.play(make_scenario(BUSY)).outputs()]
    simulator.play(make_scenario(BUSY + 1))
    assert [table.tobytes() for table in simulator.play(make_scenario(BUSY)).outputs()] == first


def test_what_is_taken_away_changes_no_choice_elsewhere() -> None:
    scenario = make_scenario(BUSY)
    whole = timeline_of(scenario)
    part = timeline_of(replace(scenario, ticks_ns=scenario.ticks_ns[:0]))
    assert np.array_equal(part.salt, whole.salt[np.isin(whole.time_ns, part.time_ns)])
    assert 0 < len(part.salt) < len(whole.salt)


# --- what is wrong is found


def change(table: str, name: str) -> Corrupt:
    """One more than it should be."""

    def corrupt(state: State, _: Any) -> None:
        row = getattr(state, table)[0]
        setattr(row, name, getattr(row, name) + 1)

    return corrupt


def tighten(**limits: int) -> Corrupt:
    """The statements read limits that the account does not know of: it keeps the configured ones."""

    def corrupt(_: State, rules: Any) -> None:
        for name, value in limits.items():
            setattr(rules.limits[0], name, value)

    return corrupt


def plant(monkeypatch: pytest.MonkeyPatch, corrupt: Corrupt) -> None:
    """From here every account that is played starts wrong."""

    def wrong(config: Any, rules: Any) -> State:
        state = initial_state(config, rules)
        corrupt(state, rules)
        return state

    monkeypatch.setattr(run, "initial_state", wrong)


@plays
@pytest.mark.parametrize(
    ("corrupt", "statement"),
    [
        (change("account", "cash"), Statement.O2),
        (change("account", "realised"), Statement.O9),
        (change("account", "fees"), Statement.O9),
        (change("holdings", "book"), Statement.O9),
        (change("holdings", "quantity"), Statement.O9),
        (change("positions", "quantity"), Statement.O2),
        (change("account", "offset"), Statement.D3),
        (change("account", "bars"), Statement.D5),
        (change("account", "ticks"), Statement.D5),
        (change("account", "reports"), Statement.D5),
        (change("account", "sequence"), Statement.D4),
        (change("account", "level"), Statement.O12),
        (change("account", "command_id"), Statement.O12),
        (change("breakers", "trips"), Statement.O13),
    ],
)
def test_a_state_that_is_not_what_the_books_say_is_found(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, corrupt: Corrupt, statement: Statement
) -> None:
    plant(monkeypatch, corrupt)
    finding = simulator.play(make_scenario(BUSY)).finding
    assert finding is not None
    assert finding.statement == statement


@plays
@pytest.mark.skipif(not COMPILED, reason="looks through many seeds")
@pytest.mark.parametrize(
    ("corrupt", "statement"),
    [
        (tighten(answer_ns=0), Statement.O8),
        (tighten(absence_answers=1000), Statement.O5),
        (tighten(exits_begin_ns=10**15), Statement.O11),
        (tighten(cancel_entries_ns=10**15), Statement.O11),
    ],
)
def test_an_account_that_does_less_than_it_must_is_found(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, corrupt: Corrupt, statement: Statement
) -> None:
    plant(monkeypatch, corrupt)
    findings = (simulator.play(make_scenario(seed)).finding for seed in range(60))
    assert any(finding is not None and finding.statement == statement for finding in findings)


@plays
def test_a_changed_state_is_found_when_the_journal_is_applied_again(simulator: Simulator) -> None:
    played = simulator.play(make_scenario(BUSY))
    assert replay(played) is None
    played.state.account[0].cash += 1
    finding = replay(played)
    assert finding is not None
    assert finding.statement == Statement.D2


@plays
def test_a_changed_output_is_found_when_the_journal_is_applied_again(simulator: Simulator) -> None:
    played = simulator.play(make_scenario(ALERTING))
    for table in played.outputs():
        place = len(table) // 2
        table["time_ns"][place] += 1
        finding = replay(played)
        table["time_ns"][place] -= 1
        assert finding is not None
        assert finding.statement == Statement.D2


@plays
def test_an_account_that_refuses_its_own_journal_is_found(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise JournalError("rows are missing")

    played = simulator.play(make_scenario(BUSY))
    monkeypatch.setattr("flows.simulation.again.Account.step", refuse)
    finding = replay(played)
    assert finding is not None
    assert (finding.statement, finding.note) == (Statement.D3, "rows are missing")


# --- what is found is made small


@plays
def test_a_bug_that_needs_a_position_shrinks_to_what_makes_one(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: a position is not sold when exits should begin, which is at once."""
    plant(monkeypatch, tighten(exits_begin_ns=10**15))

    def check(scenario: Scenario) -> Finding | None:
        return simulator.play(scenario).finding

    scenario = make_scenario(BUSY)
    found = check(scenario)
    assert found is not None
    smaller, again = shrink(scenario, found, check)
    assert again.statement == found.statement == Statement.O11
    assert smaller.config.venue.faults is None
    assert len(smaller.sessions) == 1
    assert len(smaller.commands) == len(smaller.foreign) == 0
    assert len(timeline_of(smaller).time_ns) <= 3  # a signal, a fill, an event to sell in
    played = simulator.play(smaller)
    assert any("NEW ENTRY BUY" in line for line in lines_of(played))
    assert any("FILL" in line for line in lines_of(played))
    assert shrink(scenario, found, check)[0].market.time_ns.tolist() == smaller.market.time_ns.tolist()


def is_rich(scenario: Scenario) -> bool:
    traded = scenario.market.traded
    actions = scenario.commands.action.tolist()
    several = len(set(actions)) == len(actions) > 2 and len(scenario.sessions) > 1 and traded.shape[1] > 2
    return several and bool(traded.any(axis=0).all())


def test_what_the_breach_needs_is_kept() -> None:
    """A breach that needs a command, a session and bars of two instruments keeps these, and no more."""
    scenario = next(s for s in map(make_scenario, range(10_000)) if is_rich(s))
    action = int(scenario.commands[1].action)

    def check(candidate: Scenario) -> Finding | None:
        traded = candidate.market.traded
        enough = action in candidate.commands.action.tolist() and traded[:, :2].any(axis=0).all()
        return Finding(Statement.P1, 0, 0, NONE, 0, 0) if enough else None

    found = check(scenario)
    assert found is not None
    smaller, _ = shrink(scenario, found, check)
    assert smaller.commands.action.tolist() == [action]
    assert smaller.market.traded[:, 2:].sum() == 0
    assert len(smaller.ticks_ns) == len(smaller.foreign) == 0
    assert len(smaller.sessions) == 1
    assert len(smaller.market.time_ns) <= 2
    assert dict(describe(smaller))["commands"] == "1"


def test_of_the_faults_only_what_the_breach_needs_is_kept() -> None:
    """A breach that needs one kind of fault keeps that; a venue can be made of every scenario on the way."""
    scenario = next(s for s in map(make_scenario, range(10_000)) if len(faults_of(s)) > 3)
    needed = faults_of(scenario)[-1]

    def check(candidate: Scenario) -> Finding | None:
        venue_rules(candidate.config)
        return Finding(Statement.P1, 0, 0, NONE, 0, 0) if needed in faults_of(candidate) else None

    found = check(scenario)
    assert found is not None
    smaller, _ = shrink(scenario, found, check)
    assert faults_of(smaller) == [needed]
    assert f"{needed} " in dict(describe(smaller))["faults"]


def faults_of(scenario: Scenario) -> list[str]:
    faults = scenario.config.venue.faults
    return [name for name in FAULTS if faults is not None and getattr(faults, name)]


def test_a_breach_of_another_statement_is_another_breach() -> None:
    """What breaks something else when it is smaller stays as it is."""
    scenario = make_scenario(BUSY)
    found = Finding(Statement.P1, 0, 0, NONE, 0, 0)
    smaller, again = shrink(scenario, found, lambda _: Finding(Statement.P2, 0, 0, NONE, 0, 0))
    assert smaller is scenario
    assert again is found


@pytest.mark.parametrize(
    ("statement", "instrument", "place"),
    [
        (Statement.P5, 0, "A"),
        (Statement.P1, NONE, "account"),
        (Statement.O5, BELOW - AlertKind.LATE_FILL, "LATE_FILL"),
        (Statement.O13, BELOW - 3, "breaker 3"),
    ],
)
@plays
def test_a_finding_says_what_it_is_about(
    simulator: Simulator, statement: Statement, instrument: int, place: str
) -> None:
    played: Played = simulator.play(make_scenario(BUSY))
    told = sentence(played, Finding(statement, 0, 0, instrument, 7, 5))
    assert told == f"{statement.name} {MEANING[statement]}: {place}, 7 beside 5"


# --- the command


def run_command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *arguments])


def found_total(seeds: int, tested: int = 1) -> Callable[..., Total]:
    return lambda *_: Total(seeds=seeds, tested=np.full(len(Statement), tested, np.int64))


@plays
def test_a_breach_is_shown_small_with_the_line_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, change("account", "fees"))
    result = run_command("--seeds", "1", "--start", str(BUSY))
    told = " ".join(result.output.split())
    assert result.exit_code == 1
    assert f"O9: seeds {BUSY}" in told
    assert f"seed {BUSY}: O9 {MEANING[Statement.O9]}: account at 0/" in told
    assert "what is enough to break it" in told
    assert f"again: sluice simulate --seeds 1 --start {BUSY}" in told


@plays
def test_a_scenario_without_a_breach_is_no_failure() -> None:
    result = run_command("--seeds", "1", "--start", str(BUSY))
    assert result.exit_code == 0
    assert " 0 breaches" in result.output


def test_the_command_is_content_when_every_statement_was_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "search", found_total(ENOUGH))
    result = run_command("--seeds", str(ENOUGH))
    assert result.exit_code == 0
    assert all(MEANING[statement] in result.output for statement in Statement)


def test_many_scenarios_that_never_test_a_statement_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def untested(*_: object) -> Total:
        total = found_total(ENOUGH)()
        total.tested[Statement.P3] = 0
        return total

    monkeypatch.setattr(command, "search", untested)
    result = run_command("--seeds", str(ENOUGH))
    assert result.exit_code == 2
    assert "never put to the test: P3; take more --seeds" in result.output


def test_a_scenario_that_cannot_be_played_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> Scenario:
        raise IndexError("no such row")

    monkeypatch.setattr(search, "make_scenario", fail)
    with pytest.raises(RunError, match=r"seed 17 cannot be played, IndexError: no such row"):
        play_seeds(range(17, 18))


@plays
@pytest.mark.skipif(not COMPILED, reason="processes of their own, each with kernels of its own")
def test_workers_find_what_one_finds() -> None:
    seeds = range(2 * search.CHUNK + 1)
    one, two = play_seeds(seeds), search.search(seeds, 2, Console(quiet=True))
    for name in ("seeds", "events", "rows", "orders", "fills", "crashes"):
        assert getattr(one, name) == getattr(two, name)
    for name in ("tested", "alerts", "reports", "trips"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert one.alerts[AlertKind.BREAKER_TRIPPED] == one.trips.sum() > 0
