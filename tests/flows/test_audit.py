"""The audit on tables written by hand: a clean book passes, its own statement alone catches each breach, and
what lies just beside a breach is none.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from audit_fixtures import (
    CASH,
    MICRO,
    NONE,
    PSQ,
    QQQ,
    SESSIONS,
    SQQQ,
    TQQQ,
    Book,
    at,
    clean_day,
    free_config,
    rows,
)

from connectors.config_file import load_config
from flows.auditor import (
    STATEMENTS,
    AuditAlarm,
    AuditError,
    Auditor,
    Counts,
    Finding,
    audit,
    canaries,
    check_canaries,
    machine,
    recount,
)
from flows.auditor.books import Breach
from schemas.codes import (
    AlertKind,
    Breaker,
    ControlAction,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderKind,
    Outcome,
    Side,
    Stage,
)
from schemas.config import Config
from schemas.records import Alert, Decision, Equity, Execution, Order

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(free_config(tmp_path_factory.mktemp("config") / "free.toml"))


def findings(
    book: Book, config: Config, closing_cash: int | None = None, counts: Counts | None = None
) -> dict[str, Finding]:
    cash = book.cash if closing_cash is None else closing_cash
    (news,) = Auditor.of(config, SESSIONS, counts, cash).step(book.batch(final=True))
    assert news.findings is not None
    return news.findings


def whole_audit(book: Book, config: Config) -> dict[str, Finding]:
    batch = book.batch()
    return audit(
        batch.orders,
        batch.executions,
        batch.decisions,
        batch.alerts,
        book.cash,
        config,
        SESSIONS,
        equity=batch.equity,
    )


def breached(book: Book, config: Config, closing_cash: int | None = None) -> list[str]:
    return [key for key, finding in findings(book, config, closing_cash).items() if not finding.held]


def by_venue(book: Book, config: Config) -> list[str]:
    return [key for key, finding in findings(book, config).items() if finding.by_venue]


def quiet_day() -> Book:
    book = Book()
    book.close()
    return book


# --- the whole


def test_a_clean_book_passes(config: Config) -> None:
    held = whole_audit(clean_day(), config)
    assert list(held) == list(STATEMENTS)
    assert all(finding.breaches == 0 and finding.by_venue == 0 for finding in held.values())
    assert all(finding.first is None and finding.evidence for finding in held.values())


def test_a_quiet_day_passes(config: Config) -> None:
    assert breached(quiet_day(), config) == []


def test_nothing_at_all_is_no_result(config: Config) -> None:
    with pytest.raises(AuditError, match="nothing to audit"):
        whole_audit(Book(), config)


def test_every_breach_is_counted(config: Config) -> None:
    book = clean_day()
    for minute in (100, 200, 300):
        for attempt in (0, 1):
            order = book.order(minute, QQQ, Side.BUY, 10, day=1, limit=500, attempt=attempt)
            book.report(order, minute + 1, ExecutionKind.EXPIRED, day=1)
    assert findings(book, config)["P4"].breaches == 3


def test_the_first_breach_is_told_with_its_numbers(config: Config) -> None:
    book = clean_day()
    for minute in (100, 110):
        order = book.buy(minute, QQQ, 10, 500, day=1)
        book.executions[-1]["position"] += 7
        book.sell(minute + 2, QQQ, 10, 500, day=1)
    assert order["quantity"] == 10
    found = findings(book, config)["O2"]
    assert found.breaches == 2
    assert found.first is not None
    assert found.first.time_ns == at(101, 1)
    assert str(found.first) == "2024-12-03T16:11:00.000Z QQQ: position 17 told, 10 recounted"


def test_every_kind_of_breach_belongs_to_a_statement_and_has_a_canary() -> None:
    told = [kind for statement in STATEMENTS.values() for kind in statement.breaches]
    assert set(told) == set(Breach) == set(canaries.CANARIES)


def test_a_batch_cut_between_any_two_times_gives_the_same(config: Config) -> None:
    book = clean_day()
    book.executions[3]["position"] += 1
    whole = book.batch()
    times = np.unique(
        np.concatenate(
            [
                whole.orders["time_ns"],
                whole.executions["known_ns"],
                whole.decisions["time_ns"],
                whole.equity["time_ns"],
            ]
        )
    )
    for cut in times:
        auditor = Auditor.of(config, SESSIONS, closing_cash=book.cash)
        for final in (False, True):
            part = book.batch(final=final)
            part.orders = part.orders[(part.orders["time_ns"] >= cut) == final]
            part.executions = part.executions[(part.executions["known_ns"] >= cut) == final]
            part.decisions = part.decisions[(part.decisions["time_ns"] >= cut) == final]
            part.equity = part.equity[(part.equity["time_ns"] >= cut) == final]
            auditor.step(part)
            again = Auditor.of(config, SESSIONS, closing_cash=book.cash)
            again.load(auditor.dump())
            auditor = again
        assert auditor.findings() == findings(book, config)


def test_a_dump_does_not_share_memory_with_the_auditor(config: Config) -> None:
    auditor = Auditor.of(config, SESSIONS)
    before = auditor.dump()
    auditor.step(clean_day().batch())
    assert before != auditor.dump()
    auditor.load(before)
    assert auditor.dump() == before


def test_a_dump_of_another_configuration_does_not_fit(config: Config) -> None:
    fewer = config.model_copy(update={"instruments": config.instruments[:3], "families": ()})
    other = Auditor.of(fewer, SESSIONS)
    with pytest.raises(ValueError, match="do not fit this configuration"):
        other.load(Auditor.of(config, SESSIONS).dump())


def test_breaches_are_news_once(config: Config) -> None:
    auditor = Auditor.of(config, SESSIONS)
    book = clean_day()
    book.executions[0]["position"] += 1
    (news,) = auditor.step(book.batch())
    assert news.breaches == (
        "position differs: 1 more, 1 and by the venue 0 in all; first 2024-12-02T15:01:00.000Z QQQ: "
        "position 101 told, 100 recounted",
    )
    assert news.findings is None
    (last,) = auditor.step(Book().batch(final=True))
    assert last.breaches == ()
    assert last.findings is not None
    assert [key for key, finding in last.findings.items() if not finding.held] == ["O2"]


# --- the audit itself


def test_all_canaries_are_found() -> None:
    check_canaries()


def test_an_audit_that_misses_a_canary_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {**STATEMENTS, "P2": canaries.STATEMENTS["P1"]}
    monkeypatch.setattr(machine, "STATEMENTS", one)
    with pytest.raises(AuditAlarm, match=r"cannot be trusted: .*it missed, in the history 'both sides': P2"):
        check_canaries()


def test_an_audit_that_finds_what_is_not_there_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def more_cash(books: object, has_cash: int, closing_cash: int) -> None:
        recount.close_books(books, has_cash, closing_cash + 1)

    monkeypatch.setattr(machine, "close_books", more_cash)
    with pytest.raises(AuditAlarm, match=r"found, in the history 'clean', what is not there: closing cash"):
        check_canaries()


@pytest.mark.parametrize("kind", list(Breach), ids=lambda kind: kind.name.lower())
def test_each_canary_breaks_one_thing_alone(kind: Breach) -> None:
    own = canaries.Shadow()
    canaries.CANARIES[kind](own)
    auditor = Auditor(*canaries.shadow_terms(), closing_cash=own.cash + own.more_cash)
    batch = own.batch()
    batch.final = True
    auditor.step(batch)
    assert [found for found, row in auditor.found().items() if row.breaches] == [kind]
    assert auditor.found()[kind].breaches == (3 if kind == Breach.NEGATIVE_CASH else 1)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_auditor_shares_no_code_with_what_it_audits() -> None:
    ours = ("schemas", "operators", "connectors", "flows")
    for path in (ROOT / "flows" / "auditor").glob("*.py"):
        for name in _imports(path):
            if name.split(".")[0] in ours:
                assert name.startswith(("schemas", "flows.auditor")) or name == "operators.compiled", path


def test_the_audit_loads_nothing_of_what_it_audits() -> None:
    loaded = "import sys, flows.audit_cli; print(*(m for m in sys.modules if m.startswith('operators')))"
    words = [sys.executable, "-c", loaded]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(said.stdout.split()) == {"operators", "operators.compiled", "operators.shell"}


# --- P1


def test_cash_that_was_never_there_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 250, 500, day=1)  # 125,000 of 100,000
    book.sell(110, QQQ, 250, 500, day=1)
    assert breached(book, config) == ["P1"]


@pytest.mark.parametrize(("minute", "expected"), [(100, ["P1"]), (101, ["P1"]), (102, [])])
def test_open_buys_that_could_take_more_than_the_cash_are_caught(
    minute: int, expected: list[str], config: Config
) -> None:
    book = clean_day()
    first = book.order(100, QQQ, Side.BUY, 120, limit=500, day=1)
    second = book.order(minute, TQQQ, Side.BUY, 600, limit=100, day=1)
    book.report(first, 102, ExecutionKind.EXPIRED, day=1)
    book.report(second, 103, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


@pytest.mark.parametrize(("lots", "expected"), [(200, []), (201, ["P1"])])
def test_an_open_buy_may_take_all_the_cash_and_no_more(
    lots: int, expected: list[str], config: Config
) -> None:
    book = quiet_day()
    order = book.order(100, QQQ, Side.BUY, lots, limit=500, day=1)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


@pytest.mark.parametrize(("fee", "expected"), [(0, []), (1, ["P1"])])
def test_the_fee_of_an_open_buy_counts(fee: int, expected: list[str], config: Config) -> None:
    venue = config.venue.model_copy(update={"commission_share": Decimal(fee) / MICRO})
    book = quiet_day()
    order = book.order(100, QQQ, Side.BUY, 200, limit=500, day=1)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config.model_copy(update={"venue": venue})) == expected


@pytest.mark.parametrize(("limit", "expected"), [(0, ["P1"]), (501, [])])
def test_an_opening_needs_a_limit(limit: int, expected: list[str], config: Config) -> None:
    book = quiet_day()
    book.fill(book.order(100, QQQ, Side.BUY, 10, limit=limit, day=1), 101, 10, 500, day=1)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == expected


def test_a_charge_beyond_the_cash_is_caught(config: Config) -> None:
    book = quiet_day()
    nothing = dict.fromkeys(("instrument", "order_ns", "intent", "attempt", "side"), 0) | {"instrument": NONE}
    book.report(nothing, 10, ExecutionKind.FEE, day=1, fee=CASH)
    assert breached(book, config) == []
    book.report(nothing, 11, ExecutionKind.FEE, day=1, fee=1)
    assert breached(book, config) == ["P1"]


# --- P2


@pytest.mark.parametrize(("bull", "bear"), [(QQQ, PSQ), (QQQ, SQQQ), (TQQQ, PSQ), (TQQQ, SQQQ)])
def test_both_sides_held_are_caught(bull: int, bear: int, config: Config) -> None:
    book = clean_day()
    book.buy(100, bull, 10, 50, day=1)
    book.buy(110, bear, 10, 50, day=1)
    book.sell(120, bull, 10, 50, day=1)
    book.sell(130, bear, 10, 50, day=1)
    assert breached(book, config) == ["P2"]


def test_both_sides_by_open_orders_alone_are_caught(config: Config) -> None:
    book = clean_day()
    orders = [book.order(100, i, Side.BUY, 10, limit=50, day=1) for i in (TQQQ, SQQQ)]
    for order in orders:
        book.report(order, 103, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P2"]


def test_an_entry_beside_an_exit_that_is_not_confirmed_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    out = book.order(110, QQQ, Side.SELL, 10, day=1)
    other = book.order(110, SQQQ, Side.BUY, 10, limit=31, day=1)
    book.fill(out, 111, 10, 500, day=1)
    book.fill(other, 111, 10, 30, day=1)
    book.sell(120, SQQQ, 10, 30, day=1)
    assert breached(book, config) == ["P2"]


def test_an_entry_at_the_time_its_exit_is_confirmed_passes(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.fill(book.order(110, QQQ, Side.SELL, 10, day=1), 111, 10, 500, day=1)
    book.buy(111, SQQQ, 10, 30, day=1)
    book.sell(120, SQQQ, 10, 30, day=1)
    assert breached(book, config) == []


def test_two_of_one_side_are_no_conflict(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.buy(101, TQQQ, 10, 100, day=1)
    book.sell(120, QQQ, 10, 500, day=1)
    book.sell(121, TQQQ, 10, 100, day=1)
    assert breached(book, config) == []


def test_a_short_does_not_hide_a_conflict(config: Config) -> None:
    book = clean_day()
    book.sell(99, QQQ, 10, 50, day=1)
    book.buy(100, TQQQ, 10, 50, day=1)
    book.buy(101, SQQQ, 10, 50, day=1)
    book.sell(110, TQQQ, 10, 50, day=1)
    book.sell(111, SQQQ, 10, 50, day=1)
    book.buy(120, QQQ, 10, 50, day=1)
    assert breached(book, config) == ["P2", "P5", "O1"]


# --- P3


def test_a_position_held_over_the_close_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.sell(30, QQQ, 10, 500, day=2)
    assert breached(book, config) == ["P3"]


def test_a_position_never_sold_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    assert breached(book, config) == ["P3"]


def test_a_sale_that_is_known_only_at_the_close_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.sell(389, QQQ, 10, 500, day=1)
    found = findings(book, config)["P3"]
    assert found.breaches == 2  # held at the close, and filled in the last minute


def test_a_fill_in_the_last_minute_is_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    order = book.order(388, QQQ, Side.SELL, 10, day=1)
    book.fill(order, 389, 10, 500, known_ns=at(389, 1) + 1)
    assert breached(book, config) == ["P3"]


def test_an_exit_that_is_known_sixty_seconds_before_the_close_passes(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.sell(388, QQQ, 10, 500, day=1)
    assert breached(book, config) == []


@pytest.mark.parametrize(("minute", "expected"), [(390, ["P3"]), (389, [])])
def test_an_order_open_at_the_close_is_caught(minute: int, expected: list[str], config: Config) -> None:
    book = clean_day()
    order = book.order(380, QQQ, Side.BUY, 10, day=1, limit=500)
    book.report(order, minute, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


def test_an_order_that_never_ends_is_caught(config: Config) -> None:
    book = clean_day()
    book.order(380, QQQ, Side.BUY, 10, day=1, limit=500)
    assert breached(book, config) == ["P3", "O8"]


def test_an_order_that_leaves_at_the_close_is_caught(config: Config) -> None:
    book = clean_day()
    book.value(390, day=1)
    order = book.order(390, QQQ, Side.BUY, 10, day=1, limit=500)
    book.report(order, 390, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P3"]


# --- P4


@pytest.mark.parametrize("intent", list(Intent))
def test_two_openings_of_one_instrument_in_one_bar_are_caught(intent: Intent, config: Config) -> None:
    """Whatever they are said to be for."""
    book = clean_day()
    for attempt in (0, 1):
        order = book.order(100, QQQ, Side.BUY, 10, limit=500, attempt=attempt, intent=intent, day=1)
        book.report(order, 100, ExecutionKind.EXPIRED, day=1)
    assert "P4" in breached(book, config)


def test_openings_count_by_the_bar_they_were_decided_on(config: Config) -> None:
    book = clean_day()
    for minute in (100, 101):
        order = book.order(
            minute, QQQ, Side.BUY, 10, limit=500, attempt=minute - 100, day=1, order_ns=at(100, 1)
        )
        book.report(order, minute, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P4"]


def test_openings_of_two_instruments_in_one_bar_pass(config: Config) -> None:
    book = clean_day()
    orders = [book.order(100, i, Side.BUY, 10, limit=500, day=1) for i in (QQQ, TQQQ)]
    for order in orders:
        book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == []


# --- P5


def test_a_short_is_caught(config: Config) -> None:
    book = clean_day()
    book.sell(100, QQQ, 10, 500, day=1)
    book.buy(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ["P5", "O1"]


@pytest.mark.parametrize(("lots", "expected"), [(4, ["O1"]), (5, ["O1", "P5"])])
def test_open_sells_beyond_the_position_are_caught(lots: int, expected: list[str], config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    first = book.order(110, QQQ, Side.SELL, 6, day=1)
    second = book.order(110, QQQ, Side.SELL, lots, attempt=1, day=1)
    book.report(second, 111, ExecutionKind.EXPIRED, day=1)
    book.fill(first, 112, 6, 500, day=1)
    book.sell(113, QQQ, 4, 500, day=1)
    assert sorted(breached(book, config)) == expected


@pytest.mark.parametrize("off", [-1, 1])
def test_cash_that_differs_by_a_millionth_is_caught(off: int, config: Config) -> None:
    book = clean_day()
    assert breached(book, config, book.cash + off) == ["P5"]


def test_without_a_closing_cash_the_last_equity_counts(config: Config) -> None:
    book = clean_day()
    book.close(1)
    assert Auditor.of(config, SESSIONS).step(book.batch(final=True))[0].breaches == ()
    book.equity[-1]["cash"] += 1
    book.equity[-1]["equity"] += 1
    (news,) = Auditor.of(config, SESSIONS).step(book.batch(final=True))
    assert news.findings is not None
    assert [key for key, finding in news.findings.items() if not finding.held] == ["P5", "O9"]


def test_a_statement_of_the_venue_that_differs_is_caught(config: Config) -> None:
    book = clean_day()
    book.alert(100, AlertKind.RECONCILIATION, QQQ, day=1, observed=10, limit=0)
    assert breached(book, config) == ["P5"]


def test_a_statement_while_an_order_is_open_is_the_venues(config: Config) -> None:
    book = clean_day()
    order = book.order(99, QQQ, Side.BUY, 10, limit=500, day=1)
    book.alert(100, AlertKind.RECONCILIATION, QQQ, day=1, observed=10, limit=0)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == []
    assert by_venue(book, config) == ["P5"]


# --- O1


@pytest.mark.parametrize(("ended", "expected"), [(False, ["O1"]), (True, [])])
def test_a_second_exit_is_caught_while_the_first_is_open(
    ended: bool, expected: list[str], config: Config
) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    first = book.order(110, QQQ, Side.SELL, 5, day=1)
    if ended:
        book.report(first, 111, ExecutionKind.EXPIRED, day=1)
    second = book.order(112, QQQ, Side.SELL, 5, day=1)
    book.fill(second, 113, 5, 500, day=1)
    if not ended:
        book.fill(first, 113, 5, 500, day=1)
    else:
        book.sell(114, QQQ, 5, 500, day=1)
    assert breached(book, config) == expected


@pytest.mark.parametrize(("lots", "expected"), [(10, []), (11, ["O1", "P1"])])
def test_a_cover_is_no_larger_than_what_was_oversold(lots: int, expected: list[str], config: Config) -> None:
    """A cover at the market opens nothing, so it needs no limit; one lot more would open."""
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    late = book.sell(102, QQQ, 10, 500, day=1)
    book.fill(late, 104, 10, 500, day=1, late=1)
    cover = book.order(105, QQQ, Side.BUY, lots, day=1, intent=Intent.EXIT)
    book.fill(cover, 106, 10, 500, day=1)
    if lots > 10:
        book.report(cover, 107, ExecutionKind.EXPIRED, day=1)
    assert sorted(breached(book, config)) == expected
    assert {"P5", "O3", "O5"} <= set(by_venue(book, config))  # what the venue sold beyond the position


# --- O2


@pytest.mark.parametrize("field", ["position", "cash"])
def test_a_position_or_cash_that_differs_from_the_fills_is_caught(field: str, config: Config) -> None:
    book = clean_day()
    book.executions[3][field] += 1
    assert breached(book, config) == ["O2"]


def test_a_missing_fill_is_caught(config: Config) -> None:
    book = clean_day()
    del book.executions[0]
    assert {"O2", "P5", "D4"} <= set(breached(book, config))


# --- O3


def test_a_cumulative_quantity_that_differs_from_the_fills_is_caught(config: Config) -> None:
    book = clean_day()
    book.executions[4]["cumulative"] += 1
    assert breached(book, config) == ["O3"]


def test_a_cancel_that_leaves_out_a_fill_is_caught(config: Config) -> None:
    book = clean_day()
    row = next(row for row in book.executions if row["kind"] == ExecutionKind.CANCELLED)
    row["cumulative"] -= 1
    assert breached(book, config) == ["O3"]


@pytest.mark.parametrize(("late", "ours", "venues"), [(0, ["O3"], []), (1, [], ["O3"])])
def test_more_filled_than_ordered_is_ours_unless_it_was_seen(
    late: int, ours: list[str], venues: list[str], config: Config
) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.fill(order, 101, 15, 500, day=1, late=late)
    book.sell(110, QQQ, 15, 500, day=1)
    assert breached(book, config) == ours
    assert by_venue(book, config) == venues


def test_a_bust_takes_back_what_was_filled(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.fill(order, 101, 10, 500, day=1)
    book.report(order, 102, ExecutionKind.BUST, 10, 500, day=1, late=1, reference_id=len(book.executions))
    assert book.executions[-1]["cumulative"] == 0
    assert breached(book, config) == []
    book.executions[-1]["cumulative"] = 10
    assert breached(book, config) == ["O3"]


# --- O4


def test_an_execution_that_is_applied_twice_is_caught(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 20, limit=501, day=1)
    book.fill(order, 101, 10, 500, day=1)
    book.fill(order, 102, 10, 500, day=1, execution_id=book.executions[-1]["execution_id"])
    book.sell(110, QQQ, 20, 500, day=1)
    assert breached(book, config) == ["P3", "O3", "O4", "O8"]  # by distinct fills ten lots are still open


def test_the_same_fill_under_two_ids_passes(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 20, limit=501, day=1)
    book.fill(order, 101, 10, 500, day=1)
    book.fill(order, 102, 10, 500, day=1)
    book.sell(110, QQQ, 20, 500, day=1)
    assert breached(book, config) == []


def test_ids_are_remembered_over_thousands_of_others(config: Config) -> None:
    book = quiet_day()
    nothing = dict.fromkeys(("instrument", "order_ns", "intent", "attempt", "side"), 0) | {"instrument": NONE}
    for number in range(4_000):
        book.executions.append(
            {
                "number": number,
                "execution_id": 31 * number + 5,
                "known_ns": at(10, 1),
                "kind": ExecutionKind.FEE,
                **nothing,
                "cash": CASH,
            }
        )
    book.executions.append({**book.executions[0], "number": 4_000})
    assert breached(book, config) == ["O4"]


# --- O5


@pytest.mark.parametrize(("late", "ours"), [(0, ["O5"]), (1, [])])
def test_a_late_fill_must_be_marked(late: int, ours: list[str], config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.fill(order, 102, 10, 500, day=1, late=late)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ours


@pytest.mark.parametrize("minute", [101, 102])
def test_a_fill_that_was_known_to_be_missing_is_not_late(minute: int, config: Config) -> None:
    """The alert may come before the fill or at its time."""
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.alert(minute, AlertKind.MISSING_FILL, QQQ, day=1, observed=10, limit=0)
    book.fill(order, 102, 10, 500, day=1)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == []


def test_a_fill_that_is_marked_late_and_is_not_is_caught(config: Config) -> None:
    book = clean_day()
    book.fill(book.order(100, QQQ, Side.BUY, 10, limit=501, day=1), 101, 10, 500, day=1, late=1)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ["O5"]


@pytest.mark.parametrize(("late", "ours", "venues"), [(0, ["O5"], []), (1, [], ["O5"])])
def test_a_fill_of_a_rejected_order_is_a_contradiction(
    late: int, ours: list[str], venues: list[str], config: Config
) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.REJECTED, day=1)
    book.fill(order, 102, 10, 500, day=1, late=late)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ours
    assert by_venue(book, config) == venues


@pytest.mark.parametrize("told", [True, False])
def test_an_order_that_was_proven_absent_is_final(told: bool, config: Config) -> None:
    """By the alert alone, or by an execution that says so at its time."""
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.alert(101, AlertKind.NO_ANSWER, QQQ, day=1)
    book.alert(103, AlertKind.ABSENCE_PROVEN, QQQ, day=1)
    if told:
        book.report(order, 103, ExecutionKind.ABSENT, day=1)
    assert breached(book, config) == []
    book.fill(order, 104, 10, 500, day=1)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ["O5"]


@pytest.mark.parametrize(("late", "ours"), [(0, ["O5"]), (1, [])])
def test_a_fill_of_no_order_of_ours_must_be_marked(late: int, ours: list[str], config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    book.fill({**order, "attempt": 9}, 102, 10, 500, day=1, late=late, cumulative=0)
    book.sell(110, QQQ, 10, 500, day=1)
    assert breached(book, config) == ours


@pytest.mark.parametrize(("late", "ours"), [(0, ["O5"]), (1, [])])
def test_a_fill_on_the_other_side_must_be_marked(late: int, ours: list[str], config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    order = book.order(110, QQQ, Side.BUY, 5, limit=501, day=1)
    book.fill(order, 111, 10, 500, day=1, side=Side.SELL, late=late, cumulative=0)
    book.report(order, 112, ExecutionKind.EXPIRED, day=1, cumulative=0)
    assert breached(book, config) == ours


@pytest.mark.parametrize(("again", "expected"), [(True, ["O5"]), (False, [])])
def test_an_order_ends_once(again: bool, expected: list[str], config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    if again:
        book.report(order, 102, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


@pytest.mark.parametrize(
    "changed", [{"quantity": 0}, {"price": 0}, {"price": 10**17}, {"instrument": NONE}, {"kind": 4}]
)
def test_an_execution_that_means_nothing_is_caught(changed: dict[str, int], config: Config) -> None:
    book = clean_day()
    order = book.buy(100, QQQ, 10, 500, day=1)
    book.executions[-1].update(changed)
    assert order["quantity"] == 10
    assert "O5" in breached(book, config)


# --- O6


def test_an_id_that_is_used_again_is_caught(config: Config) -> None:
    book = clean_day()
    for minute in (100, 110):
        order = book.order(minute, QQQ, Side.BUY, 10, limit=501, day=1, order_ns=at(100, 1))
        book.report(order, minute + 1, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P4", "O6", "D1"]


def test_an_entry_and_an_exit_of_one_bar_are_two_ids(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    exit_ = book.order(102, QQQ, Side.SELL, 10, day=1, order_ns=at(100, 1))
    book.fill(exit_, 103, 10, 500, day=1)
    assert breached(book, config) == []


@pytest.mark.parametrize("kind", [OrderKind.CANCEL, OrderKind.QUERY])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"attempt": 3}, ["O6"]),
        ({"quantity": 11}, ["O6"]),
        ({"limit_price": 1}, ["O6"]),
        ({"side": Side.SELL}, ["O6"]),
    ],
)
def test_a_request_names_its_order(
    kind: OrderKind, changed: dict[str, int], expected: list[str], config: Config
) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.request(101, order, kind, day=1, **changed)
    book.report(order, 102, ExecutionKind.CANCELLED, day=1)
    assert breached(book, config) == expected


def test_a_query_may_name_an_order_that_has_ended(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.request(102, order, OrderKind.QUERY, day=1)
    assert breached(book, config) == []


def test_an_order_confirmed_cancelled_at_the_time_of_its_cancel_passes(config: Config) -> None:
    """A venue inside the account answers at once: request and answer have one time."""
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=501, day=1)
    book.request(101, order, OrderKind.CANCEL, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    gone = book.order(102, QQQ, Side.BUY, 10, limit=501, day=1)
    book.report(gone, 102, ExecutionKind.REJECTED, day=1)
    assert breached(book, config) == []


# --- O7


@pytest.mark.parametrize("kind", [AlertKind.NO_ANSWER, AlertKind.UNKNOWN_OUTCOME])
@pytest.mark.parametrize(
    ("settled", "expected"), [("no", ["O7"]), ("filled", []), ("other instrument", []), ("absent", [])]
)
def test_an_unknown_outcome_blocks_its_instrument(
    kind: AlertKind, settled: str, expected: list[str], config: Config
) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    lost = book.order(102, QQQ, Side.BUY, 10, limit=500, day=1)
    book.alert(103, kind, QQQ, day=1)
    if settled == "filled":
        book.fill(lost, 104, 4, 500, day=1)
    elif settled == "absent":
        book.alert(104, AlertKind.ABSENCE_PROVEN, QQQ, day=1)
    other = TQQQ if settled == "other instrument" else QQQ
    new = book.order(105, other, Side.BUY, 10, limit=500, day=1)
    book.report(new, 106, ExecutionKind.EXPIRED, day=1)
    if settled != "absent":
        book.report(lost, 106, ExecutionKind.EXPIRED, day=1)
    book.sell(110, QQQ, book.position[QQQ], 500, day=1)
    assert breached(book, config) == expected


# --- O8


@pytest.mark.parametrize(
    ("alerted", "expected"),
    [(None, ["P3", "O8"]), (AlertKind.NOT_FLAT, ["P3"]), (AlertKind.NO_ANSWER, ["P3"])],
)
def test_an_order_that_outlives_its_session_needs_an_alert(
    alerted: AlertKind | None, expected: list[str], config: Config
) -> None:
    book = clean_day()
    order = book.order(380, QQQ, Side.BUY, 10, day=1, limit=500)
    if alerted is not None:
        book.alert(390, alerted, QQQ, day=1)
    book.close(1)
    book.report(order, 10, ExecutionKind.EXPIRED, day=2)
    assert breached(book, config) == expected


# --- O9


@pytest.mark.parametrize("field", ["cash", "fees", "equity", "realised_pnl", "position_value"])
def test_equity_that_differs_from_the_recount_is_caught(field: str, config: Config) -> None:
    book = clean_day()
    book.value(100, day=1)
    book.value(101, day=1)
    book.equity[-2][field] += 1
    assert breached(book, config) == ["O9"]


def test_equity_before_what_came_at_its_own_time_passes(config: Config) -> None:
    """Executions that come late have the account's time, so there may be several bar ends of one time."""
    book = clean_day()
    order = book.order(99, QQQ, Side.BUY, 20, limit=500, day=1)
    book.value(100, day=1)
    book.fill(order, 100, 10, 500, day=1)
    book.value(100, 5_000 * MICRO, day=1)
    book.fill(order, 100, 10, 500, day=1)
    book.value(100, 10_000 * MICRO, day=1)
    book.sell(101, QQQ, 20, 500, day=1)
    assert breached(book, config) == []
    book.equity[-2]["cash"] += 1
    book.equity[-2]["equity"] += 1
    assert breached(book, config) == ["O9"]


# --- O10


def test_an_order_without_a_decision_is_caught(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=500, day=1, decision=0)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["O10"]


def test_an_order_on_a_refusal_is_caught(config: Config) -> None:
    book = clean_day()
    refused = book.decision(100, QQQ, 10, Outcome.REFUSED, day=1)
    order = book.order(100, QQQ, Side.BUY, 10, limit=500, day=1, decision=refused["sequence"])
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["O10"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"outcome": Outcome.REDUCED, "target": 20}, []),
        ({"approved": 11}, ["O10"]),
        ({"position": 1}, ["O10"]),
        ({"instrument": TQQQ}, ["O10"]),
        ({"time_ns": at(99, 1)}, ["O10"]),
    ],
)
def test_an_entry_is_what_was_approved(changed: dict[str, int], expected: list[str], config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=500, day=1)
    book.decisions[-1].update(changed)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


def test_two_orders_on_one_decision_are_caught(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    first = book.order(102, QQQ, Side.SELL, 5, day=1)
    book.fill(first, 103, 5, 500, day=1)
    second = book.order(104, QQQ, Side.SELL, 5, day=1, decision=first["decision"])
    book.fill(second, 105, 5, 500, day=1)
    assert breached(book, config) == ["O10"]


# --- O11


@pytest.mark.parametrize(
    ("outcome", "target", "expected"),
    [
        (Outcome.REFUSED, 0, ["O11"]),
        (Outcome.REFUSED, 9, ["O11"]),
        (Outcome.REFUSED, 11, []),
        (Outcome.RECORDED, 0, []),
    ],
)
def test_a_reduction_is_never_refused(
    outcome: Outcome, target: int, expected: list[str], config: Config
) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.decision(102, QQQ, target, outcome, day=1)
    book.sell(103, QQQ, 10, 500, day=1)
    assert breached(book, config) == expected


# --- O12


def level(book: Book, minute: int, before: HaltLevel, now: HaltLevel) -> None:
    book.alert(minute, AlertKind.HALT_LEVEL, day=1, observed=before, limit=now)


@pytest.mark.parametrize(
    ("minute", "action", "expected"),
    [
        (101, ControlAction.RESUME, []),
        (100, ControlAction.RESUME, ["O12"]),
        (102, ControlAction.RESUME, ["O12"]),
        (101, ControlAction.RELEASE, ["O12"]),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_level_is_lowered_by_a_resume_alone(
    minute: int, action: ControlAction, first: bool, expected: list[str], config: Config
) -> None:
    book = clean_day()
    level(book, 99, HaltLevel.ACTIVE, HaltLevel.KILLED)
    if minute < 101 or (minute == 101 and first):
        book.alert(minute, AlertKind.COMMAND, day=1, limit=action)
    level(book, 101, HaltLevel.KILLED, HaltLevel.ACTIVE)
    if minute > 101 or (minute == 101 and not first):
        book.alert(minute, AlertKind.COMMAND, day=1, limit=action)
    assert breached(book, config) == expected


def test_a_resume_stands_beside_the_level_it_lowers(config: Config) -> None:
    book = clean_day()
    level(book, 99, HaltLevel.ACTIVE, HaltLevel.KILLED)
    book.alert(101, AlertKind.COMMAND, day=1, limit=ControlAction.RESUME)
    book.alert(101, AlertKind.PRINCIPLE, day=1)
    level(book, 101, HaltLevel.KILLED, HaltLevel.ACTIVE)
    assert breached(book, config) == ["O12"]


def test_a_level_that_rises_needs_no_command(config: Config) -> None:
    book = clean_day()
    level(book, 100, HaltLevel.ACTIVE, HaltLevel.REDUCING)
    level(book, 101, HaltLevel.REDUCING, HaltLevel.KILLED)
    assert breached(book, config) == []


def test_a_level_that_was_not_is_caught(config: Config) -> None:
    book = clean_day()
    level(book, 100, HaltLevel.REDUCING, HaltLevel.KILLED)
    assert breached(book, config) == ["O12"]


@pytest.mark.parametrize("at_level", [HaltLevel.REDUCING, HaltLevel.HALTED, HaltLevel.KILLED])
def test_an_entry_while_halted_is_caught(at_level: HaltLevel, config: Config) -> None:
    book = clean_day()
    book.buy(98, QQQ, 10, 500, day=1)
    level(book, 100, HaltLevel.ACTIVE, at_level)
    book.sell(100, QQQ, 10, 500, day=1)
    assert breached(book, config) == []
    order = book.order(102, QQQ, Side.BUY, 10, limit=500, day=1)
    book.report(order, 103, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["O12"]


def test_an_entry_of_the_same_time_counts_by_its_place(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 10, limit=500, day=1)
    level(book, 100, HaltLevel.ACTIVE, HaltLevel.HALTED)
    book.report(order, 101, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == []


# --- O13


ALL = {"strategy": NONE, "instrument": NONE}
OF_STRATEGY = {"strategy": 0, "instrument": NONE}
OF_ANOTHER = {"strategy": NONE, "instrument": TQQQ}


@pytest.mark.parametrize(
    ("breaker", "of", "expected"),
    [
        (Breaker.DAILY_LOSS, ALL, ["O13"]),
        (Breaker.RAPID_LOSS, ALL, ["O13"]),
        (Breaker.DRAWDOWN, ALL, []),
        (Breaker.CONSECUTIVE_LOSSES, OF_STRATEGY, ["O13"]),
        (Breaker.STRATEGY_LOSS, OF_STRATEGY, ["O13"]),
        (Breaker.UNUSUAL_TRADING, OF_STRATEGY, ["O13"]),
        (Breaker.EXIT_FAILURE, {"strategy": NONE, "instrument": QQQ}, []),
        (Breaker.REPEATED_EXECUTION, {"strategy": 0, "instrument": QQQ}, ["O13"]),
        (Breaker.REPEATED_EXECUTION, {"strategy": 0, "instrument": TQQQ}, []),
        (Breaker.REPEATED_EXECUTION, OF_ANOTHER, []),
    ],
)
def test_a_tripped_breaker_forbids_entries(
    breaker: Breaker, of: dict[str, int], expected: list[str], config: Config
) -> None:
    book = clean_day()
    book.alert(100, AlertKind.BREAKER_TRIPPED, day=1, breaker=breaker, **of)
    order = book.order(101, QQQ, Side.BUY, 10, limit=500, day=1)
    book.report(order, 102, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == expected


def test_a_released_breaker_forbids_nothing(config: Config) -> None:
    book = clean_day()
    for kind in (AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED):
        book.alert(100, kind, day=1, breaker=Breaker.RAPID_LOSS)
    order = book.order(101, QQQ, Side.BUY, 10, limit=500, day=1)
    book.report(order, 102, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == []


@pytest.mark.parametrize("kind", [AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED])
def test_a_breaker_trips_and_is_released_by_turns(kind: AlertKind, config: Config) -> None:
    book = clean_day()
    for each in (AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED, AlertKind.BREAKER_TRIPPED):
        book.alert(100, each, day=1, breaker=Breaker.DRAWDOWN)
    assert breached(book, config) == []
    if kind == AlertKind.BREAKER_RELEASED:
        book.alert(101, kind, day=1, breaker=Breaker.DRAWDOWN)
    book.alert(102, kind, day=1, breaker=Breaker.DRAWDOWN)
    assert breached(book, config) == ["O13"]


# --- D1, D4, D5


def test_an_approval_without_an_order_is_caught(config: Config) -> None:
    book = clean_day()
    book.decision(100, QQQ, 10, day=1)
    assert breached(book, config) == ["D1"]
    book.decisions[-1]["outcome"] = Outcome.RECORDED
    assert breached(book, config) == []


def test_an_approval_without_an_order_is_caught_long_before_the_end(config: Config) -> None:
    auditor = Auditor.of(config, SESSIONS)
    book = clean_day()
    book.decision(100, QQQ, 10, day=1)
    while book.sequence % recount.APPROVALS != book.decisions[-1]["sequence"] % recount.APPROVALS:
        book.sequence += 1
    book.buy(101, QQQ, 10, 500, day=1)
    auditor.step(book.batch())
    assert not auditor.findings()["D1"].held


@pytest.mark.parametrize("table", ["orders", "decisions", "alerts"])
def test_a_row_that_is_gone_is_caught(table: str, config: Config) -> None:
    book = clean_day()
    book.alert(100, AlertKind.COMMAND_REFUSED, day=1)
    book.alert(101, AlertKind.COMMAND_REFUSED, day=1)
    book.value(102, day=1)
    del getattr(book, table)[0]
    assert "D4" in breached(book, config)


@pytest.mark.parametrize("table", ["orders", "executions", "decisions", "alerts"])
def test_a_row_that_is_doubled_is_caught(table: str, config: Config) -> None:
    book = clean_day()
    book.alert(100, AlertKind.COMMAND_REFUSED, day=1)
    data = getattr(book, table)
    data.insert(1, dict(data[0]))
    assert "D4" in breached(book, config)


@pytest.mark.parametrize("table", ["orders", "executions", "decisions"])
def test_rows_in_another_order_are_caught(table: str, config: Config) -> None:
    book = clean_day()
    data = getattr(book, table)
    data[1], data[2] = data[2], data[1]
    assert "D4" in breached(book, config)


def test_time_that_goes_back_is_caught(config: Config) -> None:
    book = clean_day()
    for minute in (101, 100):
        book.decision(minute, QQQ, 10, Outcome.REFUSED, day=1)
    assert breached(book, config) == ["D4"]


def test_a_session_whose_end_is_not_recorded_is_caught(config: Config) -> None:
    book = clean_day()
    book.value(390, day=1)
    assert breached(book, config) == []
    book.value(1, day=2)
    assert breached(book, config) == ["D5"]


@pytest.mark.parametrize(("off", "expected"), [(0, True), (1, False)])
def test_counts_of_a_summary_must_agree(off: int, expected: bool, config: Config) -> None:
    counts = Counts({"fills": 9, "orders": 9 + off}, {"rows": (5, 5)})
    found = findings(clean_day(), config, counts=counts)["D5"]
    assert found.held == expected
    assert ("orders: 10 told, 9 counted" in found.evidence) != expected


# --- fills


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [(Side.BUY, 501, []), (Side.BUY, 502, ["fills"]), (Side.SELL, 499, []), (Side.SELL, 498, ["fills"])],
)
def test_a_fill_beyond_its_limit_is_caught(
    side: Side, price: int, expected: list[str], config: Config
) -> None:
    book = clean_day()
    if side == Side.BUY:
        book.fill(book.order(100, QQQ, Side.BUY, 10, limit=501, day=1), 101, 10, price, day=1)
        book.sell(110, QQQ, 10, 500, day=1)
    else:
        book.buy(100, QQQ, 10, 500, day=1)
        book.fill(book.order(110, QQQ, Side.SELL, 10, limit=499, day=1), 111, 10, price, day=1)
    assert breached(book, config) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (500, 500, True),
        (510, 520, True),  # within the collar of 2 % of the bar
        (511, 520, False),
        (480, 491, True),
        (480, 490, False),
        (0, 0, False),
        (-1, -1, True),
    ],
)
def test_a_fill_lies_within_its_bar(low: int, high: int, expected: bool, config: Config) -> None:
    book = quiet_day()
    book.buy(100, QQQ, 10, 500, day=1)
    book.sell(110, QQQ, 10, 500, day=1)
    ranges = np.array([[low, high], [500, 500]]) * MICRO
    if low < 0:
        ranges[0] = -1
    (news,) = Auditor.of(config, SESSIONS).step(book.batch(ranges=ranges, final=True))
    assert news.findings is not None
    assert news.findings["fills"].held == expected


# --- whose fault it is


def late_fill(book: Book, minute: int = 100) -> None:
    """A cancelled buy of QQQ fills although the venue had confirmed the cancel."""
    order = book.order(minute, QQQ, Side.BUY, 10, limit=500, day=1)
    book.request(minute + 1, order, OrderKind.CANCEL, day=1)
    book.report(order, minute + 2, ExecutionKind.CANCELLED, day=1)
    book.buy(minute + 3, SQQQ, 10, 30, day=1)
    book.fill(order, minute + 5, 10, 500, day=1, late=1)


def test_a_conflict_by_a_late_fill_is_the_venues(config: Config) -> None:
    book = clean_day()
    late_fill(book)
    book.sell(106, QQQ, 10, 500, day=1)
    book.sell(108, SQQQ, 10, 30, day=1)
    assert breached(book, config) == []
    assert by_venue(book, config) == ["P2"]


def test_a_bust_of_an_ended_order_leaves_none_of_its_fills(config: Config) -> None:
    """Later fills of it count from there."""
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 20, limit=500, day=1)
    book.fill(order, 101, 10, 500, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.report(order, 102, ExecutionKind.BUST, 10, 500, day=1, late=1)
    book.fill(order, 103, 20, 500, day=1, late=1)
    book.sell(104, QQQ, 20, 500, day=1)
    assert book.executions[-2]["cumulative"] == 20
    assert breached(book, config) == []


def test_an_order_that_the_account_has_forgotten_may_be_told_with_nothing(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 20, limit=500, day=1)
    book.fill(order, 101, 10, 500, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.fill(order, 102, 6, 500, day=1, late=1, cumulative=0)
    book.report(order, 103, ExecutionKind.BUST, 6, 500, day=1, late=1, cumulative=0)
    book.sell(104, QQQ, 10, 500, day=1)
    assert breached(book, config) == []


@pytest.mark.parametrize(("missing", "ours"), [(True, []), (False, ["P5"])])
def test_while_a_fill_is_missing_a_contradiction_is_not_over(
    missing: bool, ours: list[str], config: Config
) -> None:
    """A bust takes what an exit was selling; the exit is cancelled, and yet some of it had been sold."""
    book = clean_day()
    bought = book.buy(100, QQQ, 10, 500, day=1)
    exit_ = book.order(102, QQQ, Side.SELL, 10, day=1)
    book.report(bought, 103, ExecutionKind.BUST, 10, 500, day=1, late=1)
    book.report(exit_, 103, ExecutionKind.CANCELLED, day=1)
    book.alert(103, AlertKind.MISSING_FILL, QQQ, day=1, observed=4 if missing else 0, limit=0)
    book.fill(exit_, 104, 4, 500, day=1)
    cover = book.order(105, QQQ, Side.BUY, 4, day=1, intent=Intent.EXIT)
    book.fill(cover, 106, 4, 500, day=1)
    assert breached(book, config) == ours


def test_an_entry_into_a_conflict_is_ours_whoever_began_it(config: Config) -> None:
    book = clean_day()
    late_fill(book)
    order = book.order(106, PSQ, Side.BUY, 10, limit=40, day=1)
    book.report(order, 107, ExecutionKind.EXPIRED, day=1)
    book.sell(108, QQQ, 10, 500, day=1)
    book.sell(110, SQQQ, 10, 30, day=1)
    assert breached(book, config) == ["P2"]


def test_after_the_instrument_is_flat_a_conflict_is_ours_again(config: Config) -> None:
    book = clean_day()
    late_fill(book)
    book.sell(106, QQQ, 10, 500, day=1)
    book.buy(108, QQQ, 10, 500, day=1)
    book.sell(110, QQQ, 10, 500, day=1)
    book.sell(112, SQQQ, 10, 30, day=1)
    assert breached(book, config) == ["P2"]


def test_what_a_bust_leaves_over_the_close_is_the_venues_for_one_close(config: Config) -> None:
    book = clean_day()
    book.buy(100, QQQ, 10, 500, day=1)
    sold = book.sell(102, QQQ, 10, 500, day=1)
    book.report(sold, 389, ExecutionKind.BUST, 10, 500, day=1, late=1)
    book.close(1)
    book.close(2)
    found = findings(book, config)["P3"]
    assert (found.by_venue, found.breaches) == (1, 1)  # there was a whole session to sell it in
    del book.equity[-1], book.decisions[-1]
    book.sequence -= 1
    book.sell(10, QQQ, 10, 500, day=2)
    assert breached(book, config) == []
    assert by_venue(book, config) == ["P3"]


def test_cash_that_a_late_fill_takes_is_the_venues_until_it_is_back(config: Config) -> None:
    book = clean_day()
    order = book.order(100, QQQ, Side.BUY, 200, limit=500, day=1)
    book.report(order, 101, ExecutionKind.CANCELLED, day=1)
    book.buy(102, TQQQ, 100, 100, day=1)
    book.fill(order, 104, 200, 500, day=1, late=1)
    book.sell(105, QQQ, 200, 500, day=1)
    book.sell(107, TQQQ, 100, 100, day=1)
    assert breached(book, config) == []
    assert by_venue(book, config) == ["P1"]
    ours = book.order(110, QQQ, Side.BUY, 300, limit=500, day=1)
    book.report(ours, 111, ExecutionKind.EXPIRED, day=1)
    assert breached(book, config) == ["P1"]


# --- anything at all


TABLES: dict[str, type] = {
    "orders": Order,
    "executions": Execution,
    "decisions": Decision,
    "alerts": Alert,
    "equity": Equity,
}
Spoil = Callable[[Book], object]


@pytest.mark.parametrize("table", [name for name in TABLES if name != "alerts"])
def test_no_field_that_matters_can_be_changed_unseen(table: str, config: Config) -> None:
    """Each of the fields that the statements are about, one more than it was."""
    unseen = {
        "orders": {"reference_price", "expires_ns", "strategy", "limit_price"},
        "executions": {"time_ns", "reference_price", "reference_id", "leaves"},
        "decisions": {
            *("strategy", "reason", "reference_price", "observed", "limit"),
            *("target", "stage", "outcome"),  # of an approval that its order bears out
        },
        "equity": {"costs", "time_ns"},
    }
    model = TABLES[table]
    names = rows(model, []).dtype.names
    assert names is not None
    book = clean_day()
    book.close(1)
    for name in set(names) - unseen[table]:
        row = getattr(book, table)[0 if table == "decisions" else 1]
        before = row.get(name, 0)
        row[name] = before + 1
        assert breached(book, config), f"{table}.{name}"
        row[name] = before
    assert breached(book, config) == []


def test_a_day_without_its_stage_is_a_session_without_end(config: Config) -> None:
    book = clean_day()
    next(row for row in book.decisions if row.get("stage") == Stage.SESSION_END)["stage"] = Stage.CASH
    assert breached(book, config) == ["D5"]
