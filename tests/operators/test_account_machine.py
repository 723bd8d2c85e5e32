"""The account as a machine: where its journal is cut, what it has applied already, what it says of itself."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from account_fixtures import (
    BULL,
    MICRO,
    NAMES,
    QQQ,
    SQQQ,
    Player,
    Row,
    a_busy_day,
    at,
    command,
    groups,
    journal,
    make_config,
    make_sessions,
    minutes,
    money,
    strategy,
)

from operators.account_machine import Account
from operators.account_rules import account_rules
from operators.account_state import (
    ACCOUNT,
    ACCOUNT_BREAKERS,
    LIMITS,
    STRATEGY_BREAKERS,
    exit_breaker,
    opening_breaker,
    strategy_breaker,
)
from operators.journal import JournalError
from operators.order_lifecycle import is_live
from schemas.batches import AccountBatch, JournalBatch
from schemas.codes import Breaker, ControlAction, HaltLevel, Reason

LENGTHS = (30, 30, 30)
DAY = a_busy_day()


def machine(*lengths: int, **changes: Any) -> Account:
    config = make_config(**changes)
    return Account(config, account_rules(config, make_sessions(*(lengths or LENGTHS)), paper=True))


def batch(rows: Sequence[Row], offset: int, final: bool = False) -> JournalBatch:
    return JournalBatch(offset, *journal(rows, 1), final)


def step(account: Account, rows: Sequence[Row], offset: int, final: bool = False) -> AccountBatch:
    (out,) = account.step(batch(rows, offset, final))
    return out


def rows_of(outputs: Sequence[AccountBatch]) -> dict[str, list[Any]]:
    parts: dict[str, list[Any]] = defaultdict(list)
    for out in outputs:
        for name in NAMES:
            parts[name] += getattr(out, name).tolist()
    return parts


@pytest.fixture(scope="module")
def whole() -> Player:
    """The busy day in one go."""
    player = Player.of(make_config(), make_sessions(*LENGTHS))
    player.apply(DAY)
    return player


# --- cuts, dumps


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_same_rows_wherever_it_is_cut_and_restored(size: int, whole: Player) -> None:
    account = machine()
    times = groups(DAY)
    outputs = []
    offset = 0
    for first in range(0, len(times), size):
        part = [row for group in times[first : first + size] for row in group]
        last = first + size >= len(times)
        out = step(account, part, offset, last)
        outputs.append(out)
        offset += len(part)
        assert out.final == last
        assert (out.account is not None) == last
        restored = machine()
        restored.load(account.dump())
        account = restored
    assert rows_of(outputs) == whole.rows
    assert (account.state.words == whole.state.words).all()
    assert (account.venue.words == whole.venue.words).all()
    assert outputs[-1].account == account.figures()


def test_a_restored_account_does_not_share_its_state() -> None:
    account = machine()
    step(account, DAY[:20], 0)
    dumped = account.dump()
    kept = repr(dumped)
    one, two = machine(), machine()
    one.load(dumped)
    two.load(dumped)
    step(one, DAY[20:60], 20)
    assert (two.state.words == account.state.words).all()
    assert (one.state.words != account.state.words).any()
    assert repr(dumped) == kept


def test_a_dump_does_not_change_with_the_machine() -> None:
    account = machine()
    dumped = account.dump()
    kept = repr(dumped)
    step(account, minutes(0, range(1, 6), score=BULL), 0, True)
    assert repr(dumped) == kept


def test_a_dump_is_plain() -> None:
    assert {type(value) for value in machine().dump().values()} == {bytes}


def test_a_dump_of_another_configuration_does_not_fit() -> None:
    two = [strategy("first", "0.5"), strategy("second", "0.5")]
    with pytest.raises(ValueError, match=r"words does not fit"):
        machine(strategies=two).load(machine().dump())


# --- offsets


def applied() -> tuple[Account, int]:
    """An account that has applied ten minutes of the day, and so many rows."""
    account = machine()
    first = [row for group in groups(DAY)[:10] for row in group]
    step(account, first, 0)
    assert account.state.account[0].offset == len(first)
    return account, len(first)


@pytest.mark.parametrize("offset", [0, 1, 17])
def test_rows_that_were_applied_are_skipped(offset: int) -> None:
    account, count = applied()
    before = account.state.words.copy()
    out = step(account, DAY[offset:count], offset)
    assert [len(getattr(out, name)) for name in NAMES] == [0] * 5
    assert (account.state.words == before).all()


def test_what_overlaps_is_cut(whole: Player) -> None:
    account, count = applied()
    times = groups(DAY)
    early = sum(len(group) for group in times[:4])
    out = step(account, DAY[early:], early, True)
    assert (account.state.words == whole.state.words).all()
    first = out.equity[0]["time_ns"]
    assert first == times[10][0].time_ns
    assert count > early


@pytest.mark.parametrize("ahead", [1, 1000])
def test_a_gap_stops_the_account(ahead: int) -> None:
    account, count = applied()
    before = account.state.words.copy()
    wanted = rf"account 'test'.*row {count + ahead:,}.*{count:,} rows were applied.*empty recovery directory"
    with pytest.raises(JournalError, match=wanted):
        step(account, DAY[count:], count + ahead)
    assert (account.state.words == before).all()


def test_the_offset_survives_a_restart() -> None:
    account, count = applied()
    restored = machine()
    restored.load(account.dump())
    with pytest.raises(JournalError):
        step(restored, DAY[count:], count + 1)
    step(restored, DAY[count:], count)
    assert restored.state.account[0].offset == len(DAY)


def test_a_batch_without_rows_says_nothing_and_may_be_the_last() -> None:
    account, count = applied()
    before = account.state.words.copy()
    out = step(account, [], count, True)
    assert [len(getattr(out, name)) for name in NAMES] == [0] * 5
    assert out.final
    assert out.account is not None
    assert (account.state.words == before).all()


def test_a_bound_that_is_reached_stops_the_run() -> None:
    account, count = applied()
    account.state.account[0].overflow = 3
    with pytest.raises(JournalError, match=r"3 rows of output did not fit.*rows_per_group"):
        step(account, DAY[count:], count)


# --- what it says of itself


def test_the_figures_are_the_account_record_as_plain_numbers(whole: Player) -> None:
    account = machine()
    figures = step(account, DAY, 0, True).account
    assert figures is not None
    assert set(figures) == {*(ACCOUNT.names or ()), "state"}
    for name in ACCOUNT.names or ():
        assert figures[name] == whole.account[name].tolist()
    assert json.loads(json.dumps(figures)) == figures


def test_an_account_that_has_done_nothing_has_nothing_to_say() -> None:
    assert machine().figures()["state"] == {
        "time_ns": 0,
        "level": "active",
        "flatten": False,
        "breakers": [],
        "trips": {breaker.name.lower(): 0 for breaker in Breaker},
        "blocked": {},
        "positions": {},
        "changed_limits": {},
        "strategies": [],
    }


TWO = [strategy("first", "0.5"), strategy("second", "0.5", "TQQQ", None)]


def places(account: Account) -> list[tuple[int, str, str, str]]:
    """(place, breaker, strategy, instrument) of every breaker there is."""
    names = ["first", "second"]
    symbols = account.config.instruments
    found = [(int(b), b.name, "", "") for b in ACCOUNT_BREAKERS]
    found += [
        (int(strategy_breaker(b, s)), b.name, n, "") for b in STRATEGY_BREAKERS for s, n in enumerate(names)
    ]
    found += [
        (int(exit_breaker(account.rules, i)), "EXIT_FAILURE", "", symbol) for i, symbol in enumerate(symbols)
    ]
    found += [
        (
            int(opening_breaker(account.rules, h)),
            "REPEATED_EXECUTION",
            [*names, ""][int(rule.strategy)],
            symbols[rule.instrument],
        )
        for h, rule in enumerate(account.rules.holdings)
    ]
    return found


def test_every_tripped_breaker_is_named() -> None:
    everywhere = places(machine(strategies=TWO))
    assert sorted(place for place, *_ in everywhere) == list(
        range(len(machine(strategies=TWO).state.breakers))
    )
    for place, breaker, of, instrument in everywhere:
        account = machine(strategies=TWO)
        row = account.state.breakers[place]
        row.tripped, row.until_ns, row.observed, row.limit, row.trips = 1, 22, 33, 44, 5
        status = account.figures()["state"]
        assert status["breakers"] == [
            {
                "breaker": breaker.lower(),
                "strategy": of,
                "instrument": instrument,
                "until_ns": 22,
                "observed": 33,
                "limit": 44,
            }
        ]
        assert status["trips"] == {b.name.lower(): 5 * (b.name == breaker) for b in Breaker}


def test_a_released_breaker_counts_its_trips_only() -> None:
    account = machine(strategies=TWO)
    for s in range(2):
        account.state.breakers[strategy_breaker(Breaker.STRATEGY_LOSS, s)].trips = 2
    status = account.figures()["state"]
    assert status["breakers"] == []
    assert status["trips"]["strategy_loss"] == 4


@pytest.mark.parametrize("level", list(HaltLevel))
def test_the_level_is_named(level: HaltLevel) -> None:
    account = machine()
    account.state.account[0].level = level
    account.state.account[0].flattening = level == HaltLevel.KILLED
    status = account.figures()["state"]
    assert (status["level"], status["flatten"]) == (level.name.lower(), level == HaltLevel.KILLED)


def test_what_is_held_blocked_and_changed_is_named() -> None:
    account = machine()
    rows = minutes(0, [1, 2], score=BULL, price=lambda i, m: (money((100, 50, 20, 10)[i] + m),) * 2)
    assert LIMITS.names is not None
    place = LIMITS.names.index("max_positions")
    lowered = command(ControlAction.LOWER_LIMIT, limit=place, value=3)
    step(account, [*rows, Row(at(0, 2), -1, command=lowered)], 0)
    account.state.positions[SQQQ].blocked = Reason.MISSING_FILL
    status = account.figures()["state"]
    held = account.state.positions[QQQ]
    assert status["time_ns"] == at(0, 2)
    assert status["positions"] == {"QQQ": 49}
    assert status["blocked"] == {"SQQQ": "missing_fill"}
    assert status["changed_limits"] == {"max_positions": 3}
    assert status["strategies"] == [
        {
            "strategy": "first",
            "instrument": "QQQ",
            "realised": 0,
            "unrealised": 49 * int(held.mark) - int(held.book),
            "fees": 49 * MICRO // 100,
        }
    ]
    assert not is_live(account.state.orders[QQQ])


def test_what_nobody_asked_for_is_of_no_strategy() -> None:
    account = machine()
    nobody = account.rules.instruments[QQQ].last_holding - 1
    account.state.holdings[nobody].quantity = -5
    account.state.holdings[nobody].book = -money(500)
    account.state.positions[QQQ].mark = money(110)
    assert account.figures()["state"]["strategies"] == [
        {"strategy": "", "instrument": "QQQ", "realised": 0, "unrealised": -money(50), "fees": 0}
    ]


def test_outputs_are_not_touched_by_the_next_step() -> None:
    account = machine()
    out = step(account, DAY[:60], 0)
    kept = {name: getattr(out, name).copy() for name in NAMES}
    step(account, DAY[60:], 60)
    for name in NAMES:
        assert np.array_equal(kept[name], getattr(out, name))
