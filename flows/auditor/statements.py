"""The statements that are audited, in words: which breaches belong to each, and what is its evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.auditor.books import Breach
from schemas.codes import Breaker, ExecutionKind, HaltLevel
from schemas.records import MICRO


@dataclass(frozen=True, slots=True)
class First:
    """The first breach of a statement: when, in which instrument (empty: none), and what was found."""

    time_ns: int
    instrument: str
    text: str

    def __str__(self) -> str:
        where = f" {self.instrument}" if self.instrument else ""
        return f"{shown_time(self.time_ns)}{where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement: how often we broke it, what was looked at, and how often the venue broke it by
    contradicting itself, which no program can prevent.
    """

    breaches: int
    evidence: str
    by_venue: int = 0
    first: First | None = None

    @property
    def held(self) -> bool:
        return self.breaches == 0


def shown_time(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns").astype("datetime64[ms]")) + "Z"


def _money(value: int) -> str:
    return f"{value / MICRO:,.6f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _seconds(value: int) -> str:
    return f"{value / 10**9:,.3f} s"


def _level(value: int) -> str:
    return _name(HaltLevel, value)


def _kind(value: int) -> str:
    return _name(ExecutionKind, value)


def _breaker(value: int) -> str:
    return _name(Breaker, value)


def _breakers(bits: int) -> str:
    return ", ".join(breaker.name.lower() for breaker in Breaker if bits >> breaker & 1)


def _name(kind: Any, value: int) -> str:
    return kind(value).name.lower() if value in iter(kind) else str(value)


Shown = Callable[[int], str]

WORDS: dict[Breach, tuple[str, Shown, Shown]] = {
    Breach.NEGATIVE_CASH: ("cash less open buys is {}, they could take {}", _money, _money),
    Breach.OPENING_WITHOUT_LIMIT: ("an order that opens has limit {}, {} lots", _money, _count),
    Breach.BOTH_SIDES: ("{} instruments of the bull side and {} of the bear side", _count, _count),
    Breach.NOT_FLAT: ("at the close {} lots held, {} lots open", _count, _count),
    Breach.FLAT_TOO_LATE: ("a fill {} before the close, flat is due {} before", _seconds, _seconds),
    Breach.SECOND_OPENING: ("a second opening at bar end {}, attempt {}", shown_time, _count),
    Breach.SHORT: ("{} lots held, {} open to sell", _count, _count),
    Breach.CLOSING_CASH: ("the account ends with {}, its executions with {}", _money, _money),
    Breach.RECONCILIATION: ("the venue states {}, the ledger {}", _count, _count),
    Breach.SECOND_EXIT: ("{} exits open, the newest is attempt {}", _count, _count),
    Breach.EXIT_BEYOND_POSITION: ("{} lots open to exit, {} held", _count, _count),
    Breach.POSITION_DIFFERS: ("position {} told, {} recounted", _count, _count),
    Breach.CASH_DIFFERS: ("cash {} told, {} recounted", _money, _money),
    Breach.CUMULATIVE_DIFFERS: ("cumulative {} told, {} recounted", _count, _count),
    Breach.OVERFILLED: ("{} filled, {} ordered", _count, _count),
    Breach.APPLIED_TWICE: ("execution id {} again, execution {}", _count, _count),
    Breach.LATE_NOT_TOLD: ("execution {} of {} lots is late or not ours and not marked", _count, _count),
    Breach.LATE_TOLD_WRONGLY: ("execution {} is marked late, its order is open, {} filled", _count, _count),
    Breach.FILL_AFTER_FINAL: ("{} more lots of an order that was final, {} filled", _count, _count),
    Breach.ENDED_TWICE: ("{} after {}", _kind, _kind),
    Breach.END_OF_NO_ORDER: ("{} of no order, execution {}", _kind, _count),
    Breach.MEANINGLESS: (
        "kind {} of row {} has an instrument, lots or a price that mean nothing",
        _count,
        _count,
    ),
    Breach.ID_USED_AGAIN: ("bar end {} after {}: the id may have been used", shown_time, shown_time),
    Breach.NAMES_NO_ORDER: ("a request for the order of bar end {}, attempt {}", shown_time, _count),
    Breach.NAMES_ANOTHER_ORDER: (
        "a request names {} lots, its order {}, or side or limit differ",
        _count,
        _count,
    ),
    Breach.NEW_WHILE_UNKNOWN: ("a new order, the outcome of {}, attempt {}, is unknown", shown_time, _count),
    Breach.OPEN_AFTER_SESSION: (
        "{} lots open after the session, without an alert; orders like this: {}",
        _count,
        _count,
    ),
    Breach.FORGOTTEN_OPEN: (
        "an order with {} lots open, attempt {}, and too many orders after it",
        _count,
        _count,
    ),
    Breach.CASH_AT_BAR_END: ("cash {} at the bar end, {} recounted", _money, _money),
    Breach.FEES_AT_BAR_END: ("fees {} at the bar end, {} recounted", _money, _money),
    Breach.EQUITY_NOT_THE_SUM: ("equity {}, cash and positions {}", _money, _money),
    Breach.DOUBLE_ENTRY: ("flat, with a result of {} and {} more cash than at the start", _money, _money),
    Breach.NO_DECISION: ("decision {} of order {} does not exist or did not approve", _count, _count),
    Breach.DECISION_USED_TWICE: ("decision {} again, for order {}", _count, _count),
    Breach.ANOTHER_DECISION: (
        "the decision is of {}, or another instrument; the order of {}",
        shown_time,
        shown_time,
    ),
    Breach.NOT_AS_APPROVED: ("{} lots ordered, {} approved", _count, _count),
    Breach.REDUCTION_REFUSED: ("target {} of {} held is not approved", _count, _count),
    Breach.LEVEL_LOWERED: ("to {} from {}, without a resume", _level, _level),
    Breach.LEVEL_JUMPS: ("from {}, it was {}", _level, _level),
    Breach.ENTRY_WHILE_HALTED: ("an entry while {}, {} lots", _level, _count),
    Breach.TRIPPED_TWICE: ("{} of strategy {} trips again", _breaker, _count),
    Breach.RELEASED_UNTRIPPED: ("{} of strategy {} is released and was not tripped", _breaker, _count),
    Breach.ENTRY_WHILE_TRIPPED: ("an entry while tripped: {}; {} lots", _breakers, _count),
    Breach.DECISION_WITHOUT_ORDER: ("decision {} approves {} lots, no order followed", _count, _count),
    Breach.SEQUENCE_BREAKS: ("sequence {}, due {}", _count, _count),
    Breach.NUMBER_BREAKS: ("execution number {}, due {}", _count, _count),
    Breach.TIME_GOES_BACK: ("{} after {}", shown_time, shown_time),
    Breach.SESSION_WITHOUT_END: (
        "the session's end is not recorded, {} bar ends, {} ends so far",
        _count,
        _count,
    ),
    Breach.BEYOND_LIMIT: ("a fill at {}, limit {}", _money, _money),
    Breach.NO_BAR: ("a fill at {} where there is no bar, price {}", shown_time, _money),
    Breach.OUTSIDE_BAR: ("a fill at {}, the bar reached {}", _money, _money),
}
"""What a breach found: text, and how its two numbers are shown."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, what breaks it, and its evidence from the tally."""

    name: str
    breaches: tuple[Breach, ...]
    evidence: Callable[[Any], str]


STATEMENTS: dict[str, Statement] = {
    "P1": Statement(
        "no negative cash",
        (Breach.NEGATIVE_CASH, Breach.OPENING_WITHOUT_LIMIT),
        lambda t: f"lowest cash less open buys at their worst: {t.low / MICRO:,.2f} over {t.events:,} events",
    ),
    "P2": Statement(
        "no conflicting positions",
        (Breach.BOTH_SIDES,),
        lambda t: f"{t.changes_of_side:,} changes of side over {t.events:,} events",
    ),
    "P3": Statement(
        "no overnight positions",
        (Breach.NOT_FLAT, Breach.FLAT_TOO_LATE),
        lambda t: f"{t.sessions:,} sessions",
    ),
    "P4": Statement(
        "one opening a bar and instrument",
        (Breach.SECOND_OPENING,),
        lambda t: f"{t.openings:,} openings",
    ),
    "P5": Statement(
        "no short, ledger equals venue",
        (Breach.SHORT, Breach.CLOSING_CASH, Breach.RECONCILIATION),
        lambda t: f"{t.events:,} events, cash recounted {t.cash / MICRO:,.2f}",
    ),
    "O1": Statement(
        "one exit at a time, never beyond the position",
        (Breach.SECOND_EXIT, Breach.EXIT_BEYOND_POSITION),
        lambda t: f"{t.exits:,} exits",
    ),
    "O2": Statement(
        "position and cash move by executions alone",
        (Breach.POSITION_DIFFERS, Breach.CASH_DIFFERS),
        lambda t: f"{t.fills:,} fills, {t.busts:,} busts, {t.charges:,} charges",
    ),
    "O3": Statement(
        "cumulative is the sum of the fills, at most what was ordered",
        (Breach.CUMULATIVE_DIFFERS, Breach.OVERFILLED),
        lambda t: f"{t.fills + t.busts + t.ends:,} executions",
    ),
    "O4": Statement(
        "an execution id is applied once",
        (Breach.APPLIED_TWICE,),
        lambda t: f"{t.fills + t.busts + t.charges:,} ids",
    ),
    "O5": Statement(
        "after its end an order has late fills and busts alone",
        (
            Breach.LATE_NOT_TOLD,
            Breach.LATE_TOLD_WRONGLY,
            Breach.FILL_AFTER_FINAL,
            Breach.ENDED_TWICE,
            Breach.END_OF_NO_ORDER,
            Breach.MEANINGLESS,
        ),
        lambda t: f"{t.ends:,} ends, {t.contradictions:,} contradictions by the venue",
    ),
    "O6": Statement(
        "an order id is used once, and requests name their order",
        (Breach.ID_USED_AGAIN, Breach.NAMES_NO_ORDER, Breach.NAMES_ANOTHER_ORDER),
        lambda t: f"{t.orders:,} orders, {t.cancels:,} cancels, {t.queries:,} queries",
    ),
    "O7": Statement(
        "an unknown outcome blocks its instrument",
        (Breach.NEW_WHILE_UNKNOWN,),
        lambda t: f"{t.unknown:,} unknown outcomes, {t.orders:,} orders",
    ),
    "O8": Statement(
        "after its session an order has ended or had its alert",
        (Breach.OPEN_AFTER_SESSION, Breach.FORGOTTEN_OPEN),
        lambda t: f"{t.orders:,} orders in {t.sessions:,} sessions",
    ),
    "O9": Statement(
        "double entry",
        (Breach.CASH_AT_BAR_END, Breach.FEES_AT_BAR_END, Breach.EQUITY_NOT_THE_SUM, Breach.DOUBLE_ENTRY),
        lambda t: f"{t.bar_ends:,} bar ends, {t.bar_ends_flat:,} of them flat",
    ),
    "O10": Statement(
        "every order has one decision",
        (
            Breach.NO_DECISION,
            Breach.DECISION_USED_TWICE,
            Breach.ANOTHER_DECISION,
            Breach.NOT_AS_APPROVED,
        ),
        lambda t: f"{t.orders + t.cancels:,} orders and cancels, {t.approved:,} approvals",
    ),
    "O11": Statement(
        "no reduction is refused",
        (Breach.REDUCTION_REFUSED,),
        lambda t: f"{t.refused:,} refusals and reductions",
    ),
    "O12": Statement(
        "halt levels rise, a resume alone lowers them",
        (Breach.LEVEL_LOWERED, Breach.LEVEL_JUMPS, Breach.ENTRY_WHILE_HALTED),
        lambda t: f"{t.levels:,} changes of level, {t.openings:,} openings",
    ),
    "O13": Statement(
        "a tripped breaker stays until released",
        (Breach.TRIPPED_TWICE, Breach.RELEASED_UNTRIPPED, Breach.ENTRY_WHILE_TRIPPED),
        lambda t: f"{t.breakers:,} trips and releases, {t.openings:,} openings",
    ),
    "D1": Statement(
        "orders are the approved decisions",
        (Breach.DECISION_WITHOUT_ORDER, Breach.ID_USED_AGAIN),
        lambda t: f"{t.orders:,} orders and {t.cancels:,} cancels, {t.approved:,} approvals",
    ),
    "D4": Statement(
        "sequences without gaps",
        (Breach.SEQUENCE_BREAKS, Breach.NUMBER_BREAKS, Breach.TIME_GOES_BACK),
        lambda t: f"{t.orders + t.cancels + t.queries + t.decisions + t.alerts:,} rows of the sequence",
    ),
    "D5": Statement(
        "nothing is lost on the way",
        (Breach.SESSION_WITHOUT_END,),
        lambda t: f"{t.session_ends:,} sessions ended",
    ),
    "fills": Statement(
        "fills at prices that were",
        (Breach.BEYOND_LIMIT, Breach.NO_BAR, Breach.OUTSIDE_BAR),
        lambda t: f"{t.fills:,} fills, {t.priced:,} beside their bar",
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One kind of breach, as the books count it."""

    breaches: int
    by_venue: int
    time_ns: int
    instrument: int
    seen: int
    due: int

    def first(self, kind: Breach, instruments: tuple[str, ...]) -> First:
        """The first of them, in words."""
        text, seen, due = WORDS[kind]
        name = instruments[self.instrument] if 0 <= self.instrument < len(instruments) else ""
        return First(self.time_ns, name, text.format(seen(self.seen), due(self.due)))


def words(kind: Breach) -> str:
    return kind.name.lower().replace("_", " ")


def finding(
    statement: Statement, found: Mapping[Breach, Found], tally: Any, instruments: tuple[str, ...]
) -> Finding:
    """What the books say of one statement. `found`: what was found at all. The first breach of ours is told,
    without one the venue's.
    """
    rows = [(kind, found[kind]) for kind in statement.breaches if kind in found]
    evidence = statement.evidence(tally)
    if not rows:
        return Finding(0, evidence)
    ours = sum(row.breaches for _, row in rows)
    counts = "; ".join(f"{words(kind)} {row.breaches + row.by_venue:,} times" for kind, row in rows)
    told = [(kind, row) for kind, row in rows if row.breaches or not ours]
    kind, first = min(told, key=lambda pair: pair[1].time_ns)
    by_venue = sum(row.by_venue for _, row in rows)
    return Finding(ours, f"{evidence}; {counts}", by_venue, first.first(kind, instruments))
