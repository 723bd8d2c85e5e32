"""Every breaker: below its limit, at it, above it; how it is released, and what does not release it.

Equity is set by hand, so that the limits are round: 10,000 at the start. Times are minutes of one session.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from account_fixtures import (
    BASE,
    COMPILED,
    DAY,
    MINUTE,
    PSQ,
    QQQ,
    TQQQ,
    at,
    make_config,
    make_sessions,
    money,
    strategy,
)
from base_config import base_with
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.config_file import DEPLOY
from operators.account_rules import account_rules, initial_state
from operators.account_state import (
    BUCKETS,
    exit_breaker,
    new_output,
    state_of,
    strategy_breaker,
)
from operators.breakers import (
    bar_passed,
    check_exits,
    costs_paid,
    exit_failed,
    exit_settled,
    measure,
    opening_wanted,
    record_opening,
    release_by_operator,
    round_trip,
    start_session,
    wants_flat,
)
from operators.breakers.unusual_trading import BLOCK, COSTS, FLIPS, OPENINGS
from operators.compiled import kernel
from operators.gates import breakers as gate
from operators.halt import raise_level
from schemas.codes import AlertKind, Breaker, HaltLevel, PositionPhase
from schemas.config import ConfigError, parse_config, read_toml

TRIPPED, RELEASED = AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED
TWO = [strategy("first", "0.5"), strategy("second", "0.5")]
CASH = 10_000
AlertRow = tuple[AlertKind, Breaker, int, int, int, int]


class Watch:
    """An account in mid-session, flat, and what its breakers say."""

    def __init__(self, strategies: Sequence[dict[str, Any]] = BASE["strategies"], **changes: Any):
        config = make_config(
            strategies=list(strategies), **{f"breakers__{key}": value for key, value in changes.items()}
        )
        self.rules = account_rules(config, make_sessions(390, 390), paper=True)
        self.state = initial_state(config, self.rules)
        self.out = new_output(len(config.instruments), 5000)
        self.account.session = 0
        self.account.in_session = 1
        self.account.time_ns = at(0, 60)

    @property
    def account(self) -> Any:
        return self.state.account[0]

    @property
    def limits(self) -> Any:
        return self.state.limits[0]

    def at(self, time_ns: int) -> None:
        self.account.time_ns = time_ns

    def equity(self, amount: "str | int") -> None:
        """The account is worth so much now."""
        self.account.equity = money(amount)
        measure(self.state, self.rules, self.out)

    def result(self, amount: "str | int", s: int = 0) -> None:
        """A strategy's result is so much now."""
        self.state.strategies[s].result = money(amount)
        measure(self.state, self.rules, self.out)

    def switch(self, breaker: Breaker, of: int = 0) -> Any:
        """A breaker of the account, of a strategy, or of an instrument."""
        if breaker == Breaker.EXIT_FAILURE:
            return self.state.breakers[exit_breaker(self.rules, of)]
        return self.state.breakers[strategy_breaker(breaker, of)]

    def is_tripped(self, breaker: Breaker, of: int = 0) -> bool:
        return bool(self.switch(breaker, of).tripped)

    def alerts(self) -> list[AlertRow]:
        """What has been alerted since the last call."""
        rows = self.out.alerts[: self.out.counts[4]]
        found = [
            (
                AlertKind(a.kind),
                Breaker(a.breaker),
                int(a.instrument),
                int(a.strategy),
                int(a.observed),
                int(a.limit),
            )
            for a in rows
        ]
        self.out.counts[:] = 0
        return found

    def kinds(self) -> list[AlertKind]:
        return [alert[0] for alert in self.alerts()]

    def release(self, breaker: int, strategy: int = -1, instrument: int = -1) -> bool:
        return bool(release_by_operator(self.state, self.rules, self.out, breaker, strategy, instrument))

    def start_session(self) -> None:
        self.account.session_equity = self.account.equity
        start_session(self.state, self.rules, self.out)

    def restart(self) -> None:
        """Go on with a copy of the state's bytes."""
        self.state = state_of(np.frombuffer(self.state.words.tobytes(), np.int64).copy(), self.rules)


# --- daily loss


def daily(**changes: Any) -> Watch:
    """A limit of 200."""
    return Watch(daily_loss__share=Decimal("0.02"), **changes)


@pytest.mark.parametrize(
    ("equity", "tripped"),
    [("9800.000001", False), ("9800", True), ("9799.999999", True), ("10500", False)],
    ids=["below", "at", "above", "a gain"],
)
def test_daily_loss(equity: str, tripped: bool) -> None:
    watch = daily()
    watch.equity(equity)
    assert watch.is_tripped(Breaker.DAILY_LOSS) == wants_flat(watch.state) == tripped
    loss = money(CASH) - money(equity)
    alert = (TRIPPED, Breaker.DAILY_LOSS, -1, -1, loss, money(200))
    assert watch.alerts() == ([alert] if tripped else [])


def test_daily_loss_counts_from_the_sessions_start() -> None:
    watch = daily()
    watch.equity(9900)
    watch.start_session()
    watch.equity("9702.000001")
    assert not watch.is_tripped(Breaker.DAILY_LOSS)
    watch.equity(9702)
    assert watch.is_tripped(Breaker.DAILY_LOSS)


def test_daily_loss_stays_tripped_when_the_loss_is_made_up() -> None:
    watch = daily()
    watch.equity(9800)
    watch.equity(20_000)
    assert watch.is_tripped(Breaker.DAILY_LOSS)
    assert watch.kinds() == [TRIPPED]


@pytest.mark.parametrize(("release", "tripped"), [("next_session", False), ("operator", True)])
def test_the_next_session_releases_the_daily_loss_where_the_rule_says_so(release: str, tripped: bool) -> None:
    watch = daily(daily_loss__release=release)
    watch.equity(9800)
    watch.at(at(1, 1))
    watch.start_session()
    watch.equity(9800)
    assert watch.is_tripped(Breaker.DAILY_LOSS) == wants_flat(watch.state) == tripped
    released = (RELEASED, Breaker.DAILY_LOSS, -1, -1, money(200), money(200))
    assert watch.alerts()[1:] == ([] if tripped else [released])


def test_a_released_daily_loss_counts_anew() -> None:
    watch = daily()
    watch.equity(9000)
    assert watch.release(Breaker.DAILY_LOSS)
    watch.equity("8820.000001")
    assert not watch.is_tripped(Breaker.DAILY_LOSS)
    watch.equity(8820)
    assert watch.is_tripped(Breaker.DAILY_LOSS)


@pytest.mark.parametrize("equity", [0, -1, 1])
def test_an_account_that_lost_nothing_is_not_stopped_however_small_it_is(equity: int) -> None:
    watch = Watch(
        daily_loss__share=Decimal("0.000001"),
        rapid_loss__share=Decimal("0.000001"),
        drawdown__share=Decimal("0.000001"),
        drawdown__release_share=Decimal("0.000001"),
        strategy_loss__share=Decimal("0.000001"),
    )
    watch.account.equity = watch.account.session_equity = watch.account.drawdown_peak = equity
    watch.account.highest[:] = 0
    measure(watch.state, watch.rules, watch.out)
    assert watch.kinds() == ([TRIPPED] if equity < 0 else [])  # below its highest of nothing


# --- rapid loss

BUCKET = 15 * MINUTE // BUCKETS


def rapid(**changes: Any) -> Watch:
    """A limit of 1 % in 15 minutes."""
    watch = Watch(rapid_loss__share=Decimal("0.01"), **changes)
    watch.at(at(0, 60) // BUCKET * BUCKET)  # the first moment of a bucket
    watch.equity(CASH)
    return watch


@pytest.mark.parametrize(
    ("equity", "tripped"),
    [("9900.000001", False), ("9900", True), ("9899.999999", True)],
    ids=["below", "at", "above"],
)
def test_rapid_loss(equity: str, tripped: bool) -> None:
    watch = rapid()
    watch.at(int(watch.account.time_ns) + 10 * MINUTE)
    watch.equity(equity)
    assert watch.is_tripped(Breaker.RAPID_LOSS) == tripped
    assert not wants_flat(watch.state)
    alert = (TRIPPED, Breaker.RAPID_LOSS, -1, -1, money(CASH) - money(equity), money(100))
    assert watch.alerts() == ([alert] if tripped else [])


def test_rapid_loss_is_a_share_of_the_highest() -> None:
    watch = rapid()
    watch.equity(20_000)
    watch.equity("19800.000001")
    assert not watch.is_tripped(Breaker.RAPID_LOSS)
    watch.equity(19_800)
    assert watch.is_tripped(Breaker.RAPID_LOSS)


@pytest.mark.parametrize(
    ("passed_ns", "tripped"),
    [(15 * MINUTE - 1, True), (15 * MINUTE, False), (DAY, False), (1000 * DAY, False)],
    ids=["in the window", "out of it", "a day later", "years later"],
)
def test_a_high_leaves_the_window(passed_ns: int, tripped: bool) -> None:
    watch = rapid()
    watch.at(int(watch.account.time_ns) + passed_ns)
    watch.equity(5000)
    assert watch.is_tripped(Breaker.RAPID_LOSS) == tripped


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * BUCKET) | st.integers(0, BUCKET), st.integers(1, 10**6)),
        min_size=1,
        max_size=40,
    )
)
@example([(0, 10), (15 * BUCKET, 5), (BUCKET, 5)])
@settings(max_examples=50, deadline=None)
def test_the_window_is_that_of_a_naive_model(steps: list[tuple[int, int]]) -> None:
    watch = Watch(rapid_loss__share=1)
    time_ns = at(0, 60)
    seen: list[tuple[int, int]] = []
    for passed_ns, equity in steps:
        time_ns += passed_ns
        watch.at(time_ns)
        watch.equity(equity)
        seen.append((time_ns // BUCKET, money(equity)))
        expected = max(e for bucket, e in seen if bucket > seen[-1][0] - BUCKETS)
        assert watch.account.highest.max() == expected


def test_a_window_of_another_length_starts_anew() -> None:
    watch = rapid()
    watch.limits.rapid_bucket_ns *= 2
    watch.equity(5000)
    assert not watch.is_tripped(Breaker.RAPID_LOSS)


@pytest.mark.parametrize(("early_ns", "tripped"), [(1, True), (0, False), (-1, False)])
def test_rapid_loss_ends_exactly_at_its_time(early_ns: int, tripped: bool) -> None:
    watch = rapid()
    watch.equity(9900)
    watch.at(int(watch.account.time_ns) + 30 * MINUTE - early_ns)
    watch.equity(9900)
    assert watch.is_tripped(Breaker.RAPID_LOSS) == tripped
    assert watch.kinds() == [TRIPPED] + [RELEASED] * (not tripped)


@pytest.mark.parametrize("by_operator", [True, False])
def test_a_fall_counts_once(by_operator: bool) -> None:
    watch = rapid(rapid_loss__pause_minutes=1)
    watch.equity(9000)
    if by_operator:
        assert watch.release(Breaker.RAPID_LOSS)
    else:
        watch.at(int(watch.account.time_ns) + MINUTE)
    watch.equity(9000)
    assert not watch.is_tripped(Breaker.RAPID_LOSS)
    watch.equity(8910)
    assert watch.is_tripped(Breaker.RAPID_LOSS)
    assert watch.switch(Breaker.RAPID_LOSS).trips == 2


def test_a_further_fall_does_not_lengthen_the_pause() -> None:
    watch = rapid()
    watch.equity(9900)
    until_ns = int(watch.switch(Breaker.RAPID_LOSS).until_ns)
    watch.at(int(watch.account.time_ns) + MINUTE)
    watch.equity(5000)
    assert watch.switch(Breaker.RAPID_LOSS).until_ns == until_ns
    assert watch.kinds() == [TRIPPED]


# --- drawdown


def drawdown(**changes: Any) -> Watch:
    """A limit of 15 % from the peak, released at 10 %."""
    return Watch(**{"drawdown__share": Decimal("0.15"), "drawdown__release_share": Decimal("0.1"), **changes})


@pytest.mark.parametrize(
    ("equity", "tripped"),
    [("17000.000001", False), ("17000", True), ("16999.999999", True)],
    ids=["below", "at", "above"],
)
def test_drawdown(equity: str, tripped: bool) -> None:
    watch = drawdown()
    watch.equity(20_000)
    watch.equity(equity)
    assert watch.is_tripped(Breaker.DRAWDOWN) == tripped
    assert not wants_flat(watch.state)
    alert = (TRIPPED, Breaker.DRAWDOWN, -1, -1, money(20_000) - money(equity), money(3000))
    assert watch.alerts() == ([alert] if tripped else [])


@pytest.mark.parametrize(
    ("equity", "tripped"),
    [("8999.999999", True), ("9000", False), ("9000.000001", False)],
    ids=["not yet", "at", "beyond"],
)
def test_recovery_releases_the_drawdown(equity: str, tripped: bool) -> None:
    watch = drawdown()
    watch.equity(8000)
    watch.equity(equity)
    assert watch.is_tripped(Breaker.DRAWDOWN) == tripped
    assert watch.kinds() == [TRIPPED] + [RELEASED] * (not tripped)


def test_a_drawdown_that_is_released_where_it_trips_does_not_flicker() -> None:
    watch = drawdown(drawdown__release_share=Decimal("0.15"))
    for _ in range(3):
        watch.equity(8500)
    assert watch.kinds() == [TRIPPED]
    watch.equity("8500.000001")
    assert watch.kinds() == [RELEASED]


def test_a_released_drawdown_counts_from_there() -> None:
    watch = drawdown()
    watch.equity(8000)
    assert watch.release(Breaker.DRAWDOWN)
    watch.equity("6800.000001")
    assert not watch.is_tripped(Breaker.DRAWDOWN)
    watch.equity(6800)
    assert watch.is_tripped(Breaker.DRAWDOWN)


# --- consecutive losses


def rows_of_losses(**changes: Any) -> Watch:
    """Three in a row pause for 240 minutes."""
    return Watch(consecutive_losses__count=3, **changes)


def trips_of(watch: Watch, results: Sequence[int], s: int = 0) -> None:
    for result in results:
        round_trip(watch.state, watch.rules, watch.out, s, result)


@pytest.mark.parametrize(
    ("results", "tripped"),
    [
        ([-1, -1], False),
        ([-1, -1, -1], True),
        ([-1, -1, -1, -1], True),
        ([-1, -1, 0, -1, -1], False),
        ([-1, -1, 1, -1, -1], False),
        ([1, -1, -1, -1, 1], True),
        ([0, 0, 0, 0], False),
    ],
    ids=["below", "at", "above", "broken by nothing", "broken by a gain", "gain after it", "no loss"],
)
def test_consecutive_losses(results: list[int], tripped: bool) -> None:
    watch = rows_of_losses(strategies=TWO)
    trips_of(watch, results)
    assert watch.is_tripped(Breaker.CONSECUTIVE_LOSSES) == tripped
    assert not watch.is_tripped(Breaker.CONSECUTIVE_LOSSES, 1)
    alert = (TRIPPED, Breaker.CONSECUTIVE_LOSSES, -1, 0, 3, 3)
    assert watch.alerts() == ([alert] if tripped else [])


def test_round_trips_of_no_strategy_count_for_none() -> None:
    watch = rows_of_losses()
    before = watch.state.words.tobytes()
    trips_of(watch, [-1] * 5, s=-1)
    assert watch.state.words.tobytes() == before


@pytest.mark.parametrize(("early_ns", "tripped"), [(1, True), (0, False), (-1, False)])
def test_consecutive_losses_end_exactly_at_their_time(early_ns: int, tripped: bool) -> None:
    watch = rows_of_losses()
    trips_of(watch, [-1, -1, -1])
    watch.at(int(watch.account.time_ns) + 240 * MINUTE - early_ns)
    measure(watch.state, watch.rules, watch.out)
    assert watch.is_tripped(Breaker.CONSECUTIVE_LOSSES) == tripped
    assert watch.kinds() == [TRIPPED] + [RELEASED] * (not tripped)


@pytest.mark.parametrize("by_operator", [True, False])
def test_the_count_of_losses_restarts(by_operator: bool) -> None:
    watch = rows_of_losses()
    trips_of(watch, [-1, -1, -1, -1])
    if by_operator:
        assert watch.release(Breaker.CONSECUTIVE_LOSSES)
    else:
        watch.at(int(watch.account.time_ns) + 240 * MINUTE)
        measure(watch.state, watch.rules, watch.out)
    trips_of(watch, [-1, -1])
    assert not watch.is_tripped(Breaker.CONSECUTIVE_LOSSES)
    trips_of(watch, [-1])
    assert watch.is_tripped(Breaker.CONSECUTIVE_LOSSES)


# --- strategy loss


def losing(**changes: Any) -> Watch:
    """A limit of 5 % of the capital of each of two strategies: 250."""
    return Watch(strategy_loss__share=Decimal("0.05"), strategies=TWO, **changes)


@pytest.mark.parametrize(
    ("result", "tripped"),
    [("-249.999999", False), ("-250", True), ("-250.000001", True)],
    ids=["below", "at", "above"],
)
def test_strategy_loss(result: str, tripped: bool) -> None:
    watch = losing()
    watch.result(result)
    assert watch.is_tripped(Breaker.STRATEGY_LOSS) == tripped
    assert not watch.is_tripped(Breaker.STRATEGY_LOSS, 1)
    alert = (TRIPPED, Breaker.STRATEGY_LOSS, -1, 0, -money(result), money(250))
    assert watch.alerts() == ([alert] if tripped else [])


def test_strategy_loss_counts_from_the_best() -> None:
    watch = losing()
    watch.result(1000)
    watch.result("750.000001")
    assert not watch.is_tripped(Breaker.STRATEGY_LOSS)
    watch.result(750)
    assert watch.is_tripped(Breaker.STRATEGY_LOSS)


@pytest.mark.parametrize(("early_ns", "tripped"), [(1, True), (0, False), (-1, False)])
def test_strategy_loss_ends_exactly_at_its_time(early_ns: int, tripped: bool) -> None:
    watch = losing()
    watch.result(-300)
    watch.at(int(watch.account.time_ns) + 1440 * MINUTE - early_ns)
    watch.result(-300)
    assert watch.is_tripped(Breaker.STRATEGY_LOSS) == tripped
    assert watch.kinds() == [TRIPPED] + [RELEASED] * (not tripped)


@pytest.mark.parametrize("by_operator", [True, False])
def test_a_strategys_loss_counts_once(by_operator: bool) -> None:
    watch = losing()
    watch.result(-300)
    if by_operator:
        assert watch.release(Breaker.STRATEGY_LOSS)
    else:
        watch.at(int(watch.account.time_ns) + 1440 * MINUTE)
    watch.result(-300)
    watch.result("-549.999999")
    assert not watch.is_tripped(Breaker.STRATEGY_LOSS)
    watch.result(-550)
    assert watch.is_tripped(Breaker.STRATEGY_LOSS)


# --- exit failure


def exiting(*instruments: int, **changes: Any) -> Watch:
    """Exits in progress since now; three attempts or 120 s, and two instruments kill."""
    watch = Watch(**changes)
    for i in instruments:
        watch.state.positions[i].quantity = 5
        watch.state.positions[i].phase = PositionPhase.EXITING
        watch.state.positions[i].progress_ns = watch.account.time_ns
    return watch


def fail(watch: Watch, i: int = QQQ, times: int = 1) -> None:
    for _ in range(times):
        exit_failed(watch.state, watch.rules, watch.out, i)


@pytest.mark.parametrize(("failures", "tripped"), [(2, False), (3, True), (4, True)])
def test_failed_exits_escalate(failures: int, tripped: bool) -> None:
    watch = exiting(QQQ)
    fail(watch, times=failures)
    check_exits(watch.state, watch.rules, watch.out)
    assert watch.is_tripped(Breaker.EXIT_FAILURE, QQQ) == tripped
    assert watch.state.positions[QQQ].urgency == int(tripped)
    assert watch.alerts() == ([(TRIPPED, Breaker.EXIT_FAILURE, QQQ, -1, 3, 3)] if tripped else [])
    assert watch.account.level == HaltLevel.ACTIVE


@pytest.mark.parametrize(
    ("passed_ns", "tripped"),
    [(2 * MINUTE - 1, False), (2 * MINUTE, False), (2 * MINUTE + 1, True)],
    ids=["below", "at", "above"],
)
def test_an_exit_that_stands_still_escalates(passed_ns: int, tripped: bool) -> None:
    watch = exiting(QQQ)
    watch.at(int(watch.account.time_ns) + passed_ns)
    check_exits(watch.state, watch.rules, watch.out)
    assert watch.is_tripped(Breaker.EXIT_FAILURE, QQQ) == tripped
    alert = (TRIPPED, Breaker.EXIT_FAILURE, QQQ, -1, passed_ns, 2 * MINUTE)
    assert watch.alerts() == ([alert] if tripped else [])


def test_time_outside_sessions_is_not_standing_still() -> None:
    watch = exiting(QQQ)
    watch.account.in_session = 0
    watch.at(at(0, 400))
    check_exits(watch.state, watch.rules, watch.out)
    watch.account.in_session = 1
    watch.account.session = 1
    watch.at(at(1, 2))
    check_exits(watch.state, watch.rules, watch.out)
    assert not watch.is_tripped(Breaker.EXIT_FAILURE, QQQ)
    watch.at(at(1, 2) + 1)
    check_exits(watch.state, watch.rules, watch.out)
    assert watch.is_tripped(Breaker.EXIT_FAILURE, QQQ)


@pytest.mark.parametrize("phase", [PositionPhase.FLAT, PositionPhase.ENTERING, PositionPhase.OPEN])
def test_what_is_not_exiting_does_not_escalate(phase: PositionPhase) -> None:
    watch = exiting(QQQ)
    watch.state.positions[QQQ].phase = phase
    fail(watch, times=5)
    watch.at(at(0, 300))
    check_exits(watch.state, watch.rules, watch.out)
    assert not watch.is_tripped(Breaker.EXIT_FAILURE, QQQ)
    assert watch.state.positions[QQQ].exit_failures == 5


def test_the_wait_after_a_failed_exit_doubles_up_to_a_bound() -> None:
    watch = exiting(QQQ)
    seconds = []
    for _ in range(9):
        fail(watch)
        waits = int(watch.state.positions[QQQ].retry_ns) - int(watch.account.time_ns)
        seconds.append(waits // 1_000_000_000)
    assert seconds == [5, 10, 20, 40, 80, 160, 320, 320, 320]


@pytest.mark.parametrize(
    ("failing", "level"),
    [((QQQ,), HaltLevel.ACTIVE), ((QQQ, PSQ), HaltLevel.KILLED), ((QQQ, PSQ, TQQQ), HaltLevel.KILLED)],
    ids=["below", "at", "above"],
)
def test_failures_in_several_instruments_kill_the_account(failing: tuple[int, ...], level: HaltLevel) -> None:
    watch = exiting(*failing)
    for i in failing:
        fail(watch, i, times=3)
    assert watch.account.level == level
    assert watch.account.flattening == int(level == HaltLevel.KILLED)
    assert wants_flat(watch.state) == (level == HaltLevel.KILLED)
    kinds = watch.kinds()
    assert kinds.count(TRIPPED) == len(failing)
    assert kinds.count(AlertKind.HALT_LEVEL) == int(level == HaltLevel.KILLED)


def test_failures_one_after_the_other_do_not_kill() -> None:
    watch = exiting(QQQ, PSQ)
    fail(watch, QQQ, times=3)
    exit_settled(watch.state, watch.rules, watch.out, QQQ)
    fail(watch, PSQ, times=3)
    assert watch.account.level == HaltLevel.ACTIVE


def test_a_resumed_account_is_not_killed_again_by_what_killed_it() -> None:
    watch = exiting(QQQ, PSQ)
    for i in (QQQ, PSQ):
        fail(watch, i, times=3)
    watch.account.level = watch.account.flattening = 0
    check_exits(watch.state, watch.rules, watch.out)
    assert watch.account.level == HaltLevel.ACTIVE


def test_an_exit_that_is_done_settles_its_breaker() -> None:
    watch = exiting(QQQ)
    fail(watch, times=3)
    exit_settled(watch.state, watch.rules, watch.out, QQQ)
    position = watch.state.positions[QQQ]
    assert (position.urgency, position.exit_failures, position.retry_ns) == (0, 0, 0)
    assert watch.alerts()[1:] == [(RELEASED, Breaker.EXIT_FAILURE, QQQ, -1, 3, 3)]
    exit_settled(watch.state, watch.rules, watch.out, QQQ)
    assert watch.alerts() == []


def test_a_released_exit_has_all_its_attempts_and_time_again() -> None:
    watch = exiting(QQQ)
    watch.at(at(0, 100))
    fail(watch, times=3)
    assert watch.release(Breaker.EXIT_FAILURE, instrument=QQQ)
    check_exits(watch.state, watch.rules, watch.out)
    fail(watch, times=2)
    assert not watch.is_tripped(Breaker.EXIT_FAILURE, QQQ)
    assert watch.state.positions[QQQ].urgency == 0
    fail(watch)
    assert watch.is_tripped(Breaker.EXIT_FAILURE, QQQ)


# --- halt level


@pytest.mark.parametrize("before", HaltLevel)
@pytest.mark.parametrize("asked", HaltLevel)
def test_the_halt_level_only_rises(before: HaltLevel, asked: HaltLevel) -> None:
    watch = Watch()
    watch.account.level = before
    raise_level(watch.state, watch.out, asked)
    assert watch.account.level == max(before, asked)
    alert = (AlertKind.HALT_LEVEL, Breaker.DAILY_LOSS, -1, -1, before, asked)
    assert watch.alerts() == ([alert] if asked > before else [])


@pytest.mark.parametrize(
    ("level", "flattening", "flat"),
    [(0, 0, False), (HaltLevel.HALTED, 0, False), (HaltLevel.KILLED, 0, True), (0, 1, True)],
)
def test_when_everything_is_sold(level: int, flattening: int, flat: bool) -> None:
    watch = Watch()
    watch.account.level = level
    watch.account.flattening = flattening
    assert wants_flat(watch.state) == flat


# --- all breakers


def trip_daily(watch: Watch) -> None:
    watch.equity(9700)


def trip_rapid(watch: Watch) -> None:
    watch.limits.daily_loss = 10**6
    watch.equity(CASH)
    watch.equity(9000)


def trip_drawdown(watch: Watch) -> None:
    watch.limits.daily_loss = watch.limits.rapid_loss = 10**6
    watch.equity(8000)


def trip_consecutive(watch: Watch) -> None:
    trips_of(watch, [-1, -1, -1])


def trip_strategy(watch: Watch) -> None:
    watch.result(-600)


def trip_exit(watch: Watch) -> None:
    watch.state.positions[QQQ].phase = PositionPhase.EXITING
    watch.state.positions[QQQ].progress_ns = watch.account.time_ns
    fail(watch, times=3)


def trip_unusual(watch: Watch) -> None:
    watch.state.strategies[0].blocks = 1
    watch.state.strategies[0].spacing_ns = 1
    for _ in range(33):
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)


HOW: dict[Breaker, Callable[[Watch], None]] = {
    Breaker.DAILY_LOSS: trip_daily,
    Breaker.RAPID_LOSS: trip_rapid,
    Breaker.DRAWDOWN: trip_drawdown,
    Breaker.CONSECUTIVE_LOSSES: trip_consecutive,
    Breaker.STRATEGY_LOSS: trip_strategy,
    Breaker.UNUSUAL_TRADING: trip_unusual,
    Breaker.EXIT_FAILURE: trip_exit,
}


def narrow(**changes: Any) -> Watch:
    return Watch(
        **{
            "daily_loss__share": Decimal("0.02"),
            "daily_loss__release": "operator",
            "rapid_loss__share": Decimal("0.01"),
            "drawdown__share": Decimal("0.15"),
            "drawdown__release_share": Decimal("0.1"),
            "consecutive_losses__count": 3,
            "strategy_loss__share": Decimal("0.05"),
            "unusual_trading__slow_at": 2,
            "unusual_trading__stop_at": 4,
            **changes,
        }
    )


@pytest.mark.parametrize("breaker", HOW)
def test_a_breaker_trips_and_is_released_with_one_alert_each(breaker: Breaker) -> None:
    watch = narrow()
    HOW[breaker](watch)
    before = watch.alerts()
    assert before == [(TRIPPED, breaker, *before[0][2:])]
    switch = watch.switch(breaker)
    assert (switch.trips, switch.tripped_ns) == (1, watch.account.time_ns)
    assert (switch.observed, switch.limit) == before[0][4:]
    assert watch.release(breaker)
    assert watch.alerts() == [(RELEASED, *before[0][1:])]
    assert not watch.is_tripped(breaker)
    assert not watch.release(breaker)
    assert watch.alerts() == []


@pytest.mark.parametrize("breaker", HOW)
def test_a_restart_releases_nothing_and_resets_no_timer(breaker: Breaker) -> None:
    straight, restarted = narrow(), narrow()
    for watch in (straight, restarted):
        HOW[breaker](watch)
        for minute in (61, 90, 300, 1501, 3000):
            if watch is restarted:
                watch.restart()
            watch.at(at(0, minute))
            measure(watch.state, watch.rules, watch.out)
            check_exits(watch.state, watch.rules, watch.out)
    assert restarted.state.words.tobytes() == straight.state.words.tobytes()
    assert restarted.alerts() == straight.alerts()


@pytest.mark.parametrize("breaker", HOW)
def test_what_has_no_time_is_not_released_by_it(breaker: Breaker) -> None:
    watch = narrow()
    HOW[breaker](watch)
    timed = watch.switch(breaker).until_ns > 0
    assert timed == (breaker in (Breaker.RAPID_LOSS, Breaker.CONSECUTIVE_LOSSES, Breaker.STRATEGY_LOSS))
    watch.at(at(0, 60) + 1000 * DAY)
    measure(watch.state, watch.rules, watch.out)
    assert watch.is_tripped(breaker) == (not timed)


@pytest.mark.parametrize("breaker", HOW)
@pytest.mark.parametrize(("strategy", "instrument"), [(1, PSQ), (99, 99), (-2, -2)])
def test_an_operator_releases_only_what_is_named(breaker: Breaker, strategy: int, instrument: int) -> None:
    watch = narrow(strategies=TWO)
    HOW[breaker](watch)
    of_account = breaker <= Breaker.DRAWDOWN
    assert watch.release(breaker, strategy, instrument) == of_account
    assert watch.is_tripped(breaker) == (not of_account)


@pytest.mark.parametrize("breaker", [-1, len(Breaker), 10**6])
def test_an_unknown_breaker_cannot_be_released(breaker: int) -> None:
    watch = narrow()
    for trip in HOW.values():
        trip(watch)
    before = watch.state.words.tobytes()
    assert not watch.release(breaker)
    assert watch.state.words.tobytes() == before


def test_an_operator_releases_all_strategies_at_once() -> None:
    watch = narrow(strategies=TWO)
    for s in (0, 1):
        trips_of(watch, [-1, -1, -1], s)
    assert watch.release(Breaker.CONSECUTIVE_LOSSES)
    assert not any(watch.is_tripped(Breaker.CONSECUTIVE_LOSSES, s) for s in (0, 1))
    assert watch.kinds() == [TRIPPED, TRIPPED, RELEASED, RELEASED]


# --- unusual trading: habits


@kernel
def trade(state, rules, out, wishes, lives, fee, other, opened):
    """Play blocks of a habit. wishes (blocks, BLOCK): 1 where the strategy wants to open, in turn `other` and
    QQQ; a wish that is refused is repeated for `lives` bars. `opened` (blocks,): orders sent; each costs
    `fee`.
    """
    account = state.account[0]
    left = 0
    i = QQQ
    for block in range(len(wishes)):
        for k in range(BLOCK):
            account.time_ns += MINUTE
            if wishes[block, k] == 1:
                left = lives
                i = other if i == QQQ else QQQ
                opening_wanted(state, rules, out, 0, i)
            if left > 0:
                left -= 1
                allowed, _, _, _ = gate.judge(state, rules, i, 10, 1)
                if allowed > 0:
                    left = 0
                    opened[block] += 1
                    record_opening(state, rules, out, 0, i)
                    costs_paid(state, rules, 0, fee)
            bar_passed(state, rules, out, 0)


FEE = money(3)


def play(
    habit: Sequence[int],
    slow_at: "str | int" = 2,
    stop_at: "str | int" = 4,
    lives: int = 1,
    fee: int = FEE,
    other: int = QQQ,
    watch: Watch | None = None,
) -> tuple[list[int], Watch]:
    """Orders sent in each block by a strategy that wants to open so often in it, at random bars."""
    if watch is None:
        watch = Watch(unusual_trading__slow_at=Decimal(slow_at), unusual_trading__stop_at=Decimal(stop_at))
    rng = np.random.default_rng(17)
    wishes = np.zeros((len(habit), BLOCK), np.int64)
    for block, count in enumerate(habit):
        wishes[block, rng.choice(BLOCK, count, replace=False)] = 1
    opened = np.zeros(len(habit), np.int64)
    trade(watch.state, watch.rules, watch.out, wishes, lives, fee, other, opened)
    return opened.tolist(), watch


MANY = 200 if COMPILED else 20  # blocks


@pytest.mark.parametrize("lives", [1, 5, BLOCK], ids=lambda n: f"for {n} bars")
def test_a_burst_is_slowed_and_then_stopped(lives: int) -> None:
    habit = [15] * 24
    opened, watch = play([*habit, 100, 15, 15], lives=lives)
    assert opened[:24] == habit
    # Normal is 15 and a floor of 8; slowed from 46 on, stopped from 92 on.
    assert 46 < opened[24] < 70
    assert opened[25:] == [15 + (lives > 1), 15]  # the last wish of the block is carried out in the next
    (tripped, released) = watch.alerts()
    assert tripped[:4] == (TRIPPED, Breaker.UNUSUAL_TRADING, -1, 0)
    assert tripped[4] == tripped[5] + 1 == pytest.approx(94, abs=3)
    assert released == (RELEASED, *tripped[1:])


def test_what_is_slowed_but_not_stopped_goes_on_at_its_normal_pace() -> None:
    opened, watch = play([*[15] * 24, 80, 15])
    assert 46 < opened[24] < 70
    assert watch.alerts() == []
    assert opened[25] == 15


@pytest.mark.parametrize("wanted", [0, 1, 15, 50, 150, 370, 480])
@pytest.mark.parametrize("limits", [(2, 4), (1, 1)], ids=str)
def test_a_steady_habit_is_never_touched(wanted: int, limits: tuple[int, int]) -> None:
    habit = [wanted] * (MANY // 10 + 2)
    assert play(habit, *limits)[0] == habit


def test_a_strategy_that_always_flips_is_never_touched() -> None:
    habit = [200] * (MANY // 10 + 2)
    assert play(habit, other=PSQ)[0] == habit


def test_a_strategy_that_begins_to_flip_is_touched() -> None:
    _, watch = play([60] * 4)
    assert play([60], watch=watch)[0] == [60]
    assert play([60], other=PSQ, watch=watch)[0][0] < 60


@pytest.mark.parametrize("usual", [0, 1, 8, 15])
def test_a_quiet_strategy_is_not_touched_by_its_sixteenth_opening(usual: int) -> None:
    habit = [*[usual] * 20, 16]
    assert play(habit)[0] == habit


def test_slow_drift_is_not_touched() -> None:
    habit = [20] * 20 + [20 + 19 * k // 2 for k in range(MANY // 5)]
    assert play(habit)[0] == habit


@pytest.mark.parametrize("rate", [5, 50, 300])
@pytest.mark.parametrize("limits", [(2, 4), (1, 2), (1, 1)], ids=str)
def test_noise_is_hardly_touched(rate: int, limits: tuple[int, int]) -> None:
    habit = np.minimum(np.random.default_rng(rate).poisson(rate, MANY), BLOCK).tolist()
    opened, _ = play(habit, *limits)
    touched = sum(sent < wanted for sent, wanted in zip(opened, habit, strict=True))
    assert touched < 0.02 * len(habit)


@pytest.mark.parametrize(("before", "after"), [(15, 300), (0, 300), (15, 480), (50, 480)], ids=str)
@pytest.mark.parametrize("lives", [1, 3] if COMPILED else [3])
def test_a_changed_habit_is_believed_after_a_few_blocks(before: int, after: int, lives: int) -> None:
    opened, _ = play([before] * 24 + [after] * 8, lives=lives)
    changed = opened[24:]
    assert changed[0] < after / 2
    assert changed[-3:] == [after] * 3
    believed = [min(sent, after) for sent in changed]
    assert believed == sorted(believed), "no block lets less through than the one before"
    assert changed[1] > 1.5 * changed[0]


@pytest.mark.parametrize("seed", range(3))
def test_no_strategy_oscillates(seed: int) -> None:
    """A strategy that flips on most bars was once traded 410, 0, 329 and 299 times in a row."""
    rng = np.random.default_rng(seed)
    habit = rng.integers(290, 420, 12).tolist()
    assert play(habit)[0] == habit


def test_two_habits_in_turn_are_both_normal() -> None:
    habit = [410, 20] * 8
    assert play(habit)[0] == habit


def test_one_burst_does_not_become_normal() -> None:
    first, _ = play([*[15] * 24, 300, *[15] * 20, 300])
    assert first[-1] == pytest.approx(first[24], rel=0.2)


def test_idle_weeks_are_not_forgotten_at_once() -> None:
    habit = [300] * 8 + [0] * 15 + [300] * 4
    assert play(habit)[0] == habit


@pytest.mark.parametrize("fee", [0, 10, money(1), money(1000)])
def test_the_size_of_costs_does_not_matter(fee: int) -> None:
    habit = [15] * 4 + [200] + [15]
    opened, _ = play(habit, fee=fee)
    assert opened == play(habit)[0]
    assert opened[4] < 200


@pytest.mark.parametrize("capital", ["0.5", "0.000001"])
def test_the_size_of_a_strategy_does_not_matter(capital: str) -> None:
    watch = Watch(
        strategies=[strategy("first", capital)],
        unusual_trading__slow_at=2,
        unusual_trading__stop_at=4,
    )
    habit = [15] * 4 + [200] + [15]
    opened, _ = play(habit, watch=watch)
    assert opened == play(habit)[0]
    assert opened[4] < 200


def test_costs_out_of_the_ordinary_stop_a_strategy_that_opens_as_usual() -> None:
    _, watch = play([15] * 24)
    opened, _ = play([15, 15], fee=20 * FEE, watch=watch)
    assert opened[0] < 15
    assert TRIPPED in watch.kinds()
    assert opened[1] > opened[0]


def test_costs_alone_stop_a_strategy_by_the_next_bar() -> None:
    _, watch = play([15] * 24)
    open_orders(watch, 1)
    costs_paid(watch.state, watch.rules, 0, 200 * FEE)
    assert watch.alerts() == []
    bar_passed(watch.state, watch.rules, watch.out, 0)
    assert watch.kinds() == [TRIPPED]


def test_costs_slightly_out_of_the_ordinary_do_not() -> None:
    _, watch = play([15] * 24)
    assert play([15] * 4, fee=2 * FEE, watch=watch)[0] == [15] * 4


# --- unusual trading: one block


def experienced(usual: int = 15, strategies: Sequence[dict[str, Any]] = TWO) -> Watch:
    """A strategy that always opened so often; slowed at twice, stopped at four times normal."""
    watch = narrow(strategies=strategies)
    profile = watch.state.strategies[0]
    profile.blocks = 50
    profile.usual[OPENINGS] = 1000 * usual
    return watch


def open_orders(watch: Watch, times: int, i: int = QQQ) -> None:
    for _ in range(times):
        record_opening(watch.state, watch.rules, watch.out, 0, i)


@pytest.mark.parametrize(("count", "slowed"), [(45, False), (46, False), (47, True)])
def test_where_a_strategy_is_slowed(count: int, slowed: bool) -> None:
    watch = experienced()
    open_orders(watch, count)
    assert (watch.state.strategies[0].spacing_ns > watch.account.time_ns) == slowed
    assert watch.state.strategies[1].spacing_ns == 0
    assert watch.alerts() == []


@pytest.mark.parametrize(("count", "tripped"), [(91, False), (92, False), (93, True)])
def test_where_a_strategy_is_stopped(count: int, tripped: bool) -> None:
    watch = experienced()
    open_orders(watch, 47)
    for _ in range(count - 47):
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
    assert watch.is_tripped(Breaker.UNUSUAL_TRADING) == tripped
    assert not watch.is_tripped(Breaker.UNUSUAL_TRADING, 1)
    alert = (TRIPPED, Breaker.UNUSUAL_TRADING, -1, 0, 93, 92)
    assert watch.alerts() == ([alert] if tripped else [])


def test_the_distance_is_that_of_the_normal_pace_and_grows_with_the_excess() -> None:
    watch = experienced()
    open_orders(watch, 47)
    pace = BLOCK * MINUTE / 23
    distance = int(watch.state.strategies[0].spacing_ns) - int(watch.account.time_ns)
    assert distance == pytest.approx(pace * 47 / 46, rel=1e-3)
    for _ in range(43):
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
    open_orders(watch, 1)
    distance = int(watch.state.strategies[0].spacing_ns) - int(watch.account.time_ns)
    assert distance == pytest.approx(pace * 90 / 46, rel=1e-3)


def test_the_distance_is_at_most_a_block() -> None:
    watch = experienced(usual=0)
    watch.limits.slow_at, watch.limits.stop_at = 10**6, 10**9
    watch.state.strategies[0].count[OPENINGS] = 1000
    open_orders(watch, 1)
    assert watch.state.strategies[0].spacing_ns == watch.account.time_ns + BLOCK * MINUTE


def test_a_strategy_that_reads_two_instruments_has_blocks_half_as_long() -> None:
    both = {**strategy("first", 1, family=None), "signals": ["QQQ", "PSQ"]}
    one, two = experienced(), experienced(strategies=[both])
    distances = []
    for watch in (one, two):
        open_orders(watch, 47)
        distances.append(int(watch.state.strategies[0].spacing_ns) - int(watch.account.time_ns))
    assert distances[0] == 2 * distances[1]


def test_wishes_count_only_once_a_strategy_is_slowed_and_its_orders_only_until_then() -> None:
    watch = experienced()
    for _ in range(100):
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
    count = watch.state.strategies[0].count
    assert count[OPENINGS] == 0
    open_orders(watch, 47)
    open_orders(watch, 5)  # after their distance
    assert count[OPENINGS] == 47
    opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
    assert count[OPENINGS] == 48


def test_flips_are_openings_in_another_instrument() -> None:
    watch = experienced()
    for i in (QQQ, QQQ, PSQ, QQQ, TQQQ, TQQQ):
        open_orders(watch, 1, i)
    assert watch.state.strategies[0].count.tolist() == [6, 3, 0]


@pytest.mark.parametrize(("openings", "slowed"), [(17, False), (18, True)])
def test_flips_out_of_the_ordinary_slow(openings: int, slowed: bool) -> None:
    watch = experienced(usual=300)
    for k in range(openings):  # the first is no flip; a floor of 8, and twice that
        open_orders(watch, 1, QQQ if k % 2 else PSQ)
    assert watch.state.strategies[0].count[FLIPS] == openings - 1
    assert (watch.state.strategies[0].spacing_ns > 0) == slowed


@pytest.mark.parametrize(("wishes", "tripped"), [(32, False), (33, True)])
def test_flips_out_of_the_ordinary_stop(wishes: int, tripped: bool) -> None:
    watch = experienced(usual=300)
    watch.state.strategies[0].spacing_ns = 1
    watch.state.strategies[0].facing = QQQ
    for k in range(wishes):
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ if k % 2 else PSQ)
    assert watch.is_tripped(Breaker.UNUSUAL_TRADING) == tripped


def test_costs_are_a_share_of_the_strategys_capital() -> None:
    watch = experienced()  # half of 10,000
    costs_paid(watch.state, watch.rules, 0, money(5))
    assert watch.state.strategies[0].count[COSTS] == 1_000_000  # a thousandth
    costs_paid(watch.state, watch.rules, 0, -money(2))
    assert watch.state.strategies[0].count[COSTS] == 600_000
    costs_paid(watch.state, watch.rules, 0, -money(100))
    assert watch.state.strategies[0].count[COSTS] == 0
    assert watch.state.strategies[1].count[COSTS] == 0


@pytest.mark.parametrize("equity", [0, -1, 10**6, 900 * 10**12])
@pytest.mark.parametrize("cost", [2**62, -(2**62), 10**15, 1])
def test_no_cost_is_too_large_to_count(equity: int, cost: int) -> None:
    watch = experienced()
    watch.account.equity = equity
    profile = watch.state.strategies[0]
    for _ in range(3):
        for _ in range(20):
            costs_paid(watch.state, watch.rules, 0, cost)
            open_orders(watch, 1)
            opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
        for _ in range(BLOCK):
            bar_passed(watch.state, watch.rules, watch.out, 0)
    for field in (profile.usual, profile.spread):
        assert 0 <= field.min() <= field.max() < 10**14


def test_what_no_strategy_does_is_not_counted() -> None:
    watch = experienced()
    before = watch.state.words.tobytes()
    opening_wanted(watch.state, watch.rules, watch.out, -1, QQQ)
    record_opening(watch.state, watch.rules, watch.out, -1, QQQ)
    costs_paid(watch.state, watch.rules, -1, money(5))
    assert watch.state.words.tobytes() == before


def test_the_first_block_is_learned_without_judgement() -> None:
    watch = narrow()
    open_orders(watch, 5000)
    assert watch.state.strategies[0].spacing_ns == 0
    assert watch.alerts() == []
    for _ in range(BLOCK):
        bar_passed(watch.state, watch.rules, watch.out, 0)
    assert watch.state.strategies[0].usual[OPENINGS] == 5_000_000


@pytest.mark.parametrize(("bars", "tripped"), [(BLOCK - 1, True), (BLOCK, False)])
def test_the_end_of_the_block_releases(bars: int, tripped: bool) -> None:
    watch = narrow()
    trip_unusual(watch)
    for _ in range(bars):
        bar_passed(watch.state, watch.rules, watch.out, 0)
    profile = watch.state.strategies[0]
    assert watch.is_tripped(Breaker.UNUSUAL_TRADING) == tripped
    assert watch.kinds() == [TRIPPED] + [RELEASED] * (not tripped)
    assert (profile.bars == 0, profile.spacing_ns == 0, profile.count[OPENINGS] == 0) == (not tripped,) * 3


def test_a_release_by_an_operator_ends_the_block() -> None:
    watch = narrow()
    trip_unusual(watch)
    assert watch.release(Breaker.UNUSUAL_TRADING)
    profile = watch.state.strategies[0]
    assert (profile.blocks, profile.bars, profile.spacing_ns) == (2, 0, 0)
    assert profile.usual[OPENINGS] == 8_000  # the mean of 0 and of the 16 that may be learned


STOPS: dict[str, Callable[[Watch], None]] = {
    "reducing": lambda watch: setattr(watch.account, "level", HaltLevel.REDUCING),
    "daily loss": trip_daily,
    "rapid loss": trip_rapid,
    "consecutive losses": trip_consecutive,
    "strategy loss": trip_strategy,
}


@pytest.mark.parametrize("stop", STOPS)
def test_while_something_else_stops_a_strategy_it_is_not_judged(stop: str) -> None:
    watch = experienced()
    open_orders(watch, 47)
    STOPS[stop](watch)
    before = watch.state.words.tobytes()
    for _ in range(2 * BLOCK):
        bar_passed(watch.state, watch.rules, watch.out, 0)
        opening_wanted(watch.state, watch.rules, watch.out, 0, QQQ)
    assert watch.state.words.tobytes() == before


def test_another_strategys_pause_does_not_stop_the_bars_of_this_one() -> None:
    watch = experienced()
    trips_of(watch, [-1, -1, -1], s=1)
    bar_passed(watch.state, watch.rules, watch.out, 0)
    assert watch.state.strategies[0].bars == 1


# --- configuration

NUMBERS = {  # least and most that is allowed
    "breakers.daily_loss.share": ("0.000001", "1"),
    "breakers.rapid_loss.share": ("0.000001", "1"),
    "breakers.rapid_loss.window_minutes": (1, 1440),
    "breakers.rapid_loss.pause_minutes": (1, 100_000),
    "breakers.drawdown.share": ("0.000001", "1"),
    "breakers.drawdown.factor": ("0", "0.999999"),
    "breakers.drawdown.release_share": ("0.000001", "1"),
    "breakers.consecutive_losses.count": (1, 1_000_000),
    "breakers.consecutive_losses.pause_minutes": (1, 100_000),
    "breakers.strategy_loss.share": ("0.000001", "1"),
    "breakers.strategy_loss.pause_minutes": (1, 100_000),
    "breakers.exit_failure.attempts": (1, 100),
    "breakers.exit_failure.no_progress_seconds": (60, 36_000),
    "breakers.exit_failure.instruments_to_kill": (1, 1000),
    "breakers.unusual_trading.slow_at": ("1", "1000"),
    "breakers.unusual_trading.stop_at": ("1", "1000"),
    "gates.messages.burst": (1, 1_000_000),
    "gates.messages.per_minute": (1, 1_000_000),
    "gates.messages.reserved_share": ("0", "0.999999"),
    "orders.retry_seconds": (0, 3600),
}
SIZES = {key: (Decimal(least), Decimal(most)) for key, (least, most) in NUMBERS.items()}
WHOLE = {key for key, (least, _) in NUMBERS.items() if isinstance(least, int)}
PARTNERS = {  # keys that must be ordered move together
    "breakers.drawdown.share": "breakers.drawdown.release_share",
    "breakers.drawdown.release_share": "breakers.drawdown.share",
    "breakers.unusual_trading.slow_at": "breakers.unusual_trading.stop_at",
    "breakers.unusual_trading.stop_at": "breakers.unusual_trading.slow_at",
}


def configure(key: str, value: object) -> None:
    keys = [key, PARTNERS[key]] if key in PARTNERS else [key]
    changes = {name.replace(".", "__"): value for name in keys}
    parse_config(base_with(BASE, **changes))


def of_kind(key: str, value: Decimal) -> "Decimal | int":
    return int(value) if key in WHOLE else value


@pytest.mark.parametrize("key", NUMBERS)
def test_a_limit_may_be_its_least_and_its_most(key: str) -> None:
    for value in SIZES[key]:
        configure(key, of_kind(key, value))


@pytest.mark.parametrize("key", NUMBERS)
def test_a_limit_beyond_its_range_is_refused(key: str) -> None:
    least, most = SIZES[key]
    step = 1 if key in WHOLE else Decimal("0.000001")
    for value in (least - step, most + step, -most, -step, 10**30):
        with pytest.raises(ConfigError, match=key):
            configure(key, of_kind(key, Decimal(value)))


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), float("nan"), "1", True, None, []],
    ids=str,
)
def test_a_limit_that_is_no_number_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        configure(key, value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_a_file_with_a_limit_that_is_no_number_is_refused(value: str) -> None:
    text = (DEPLOY / "demo.toml").read_text(encoding="utf-8")
    wanted = "[breakers.daily_loss]\nshare = "
    head, tail = text.split(wanted)
    changed = f"{head}{wanted}{value}\n{tail.partition(chr(10))[2]}"
    with pytest.raises(ConfigError, match=r"my\.toml: breakers\.daily_loss\.share"):
        read_toml(changed, "my.toml", parse_config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"breakers__drawdown__release_share": Decimal("0.5"), "breakers__drawdown__share": Decimal("0.4")},
         "release_share 0.5 must not be above share 0.4"),
        ({"breakers__unusual_trading__slow_at": 5, "breakers__unusual_trading__stop_at": 4},
         "slow_at 5 must not be above stop_at 4"),
        ({"breakers__exit_failure__no_progress_seconds": 59},
         "no_progress_seconds: 59 is less than a bar, 60"),
        ({"breakers__daily_loss__release": "never"}, "daily_loss.release"),
    ],
    ids=["drawdown", "unusual trading", "exit failure", "release"],
)  # fmt: skip
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(base_with(BASE, **changes))


@pytest.mark.parametrize("section", sorted({key.rpartition(".")[0] for key in NUMBERS}))
def test_no_limit_has_a_default(section: str) -> None:
    with pytest.raises(ConfigError, match=section):
        parse_config(base_with(BASE, **{section.replace(".", "__"): None}))
