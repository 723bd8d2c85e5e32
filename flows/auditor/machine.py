"""The auditor as a machine. Key: account. In: what left the account, in batches; the rows of one time come
together. Out: breaches as they happen and, with the last batch, the findings. State: one int64 vector whose
size the configuration fixes.
"""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.auditor import books, recount
from flows.auditor.books import (
    DECISION,
    FAMILY,
    FOUND,
    ID,
    INSTRUMENT,
    NOTE,
    ORDER,
    PLACES,
    TALLY,
    TERM,
    TRIPPED,
    Books,
    Breach,
    Terms,
)
from flows.auditor.recount import APPROVALS, BUCKETS, LAST, NONE, NOTES, close_books
from flows.auditor.statements import STATEMENTS, Finding, Found, finding, words
from schemas.config import NS, Config, micro
from schemas.records import MICRO, Alert, Decision, Equity, Execution, Order, Record, dtype_of
from schemas.sessions import Sessions

NOT_LOOKED_AT = -1

Rows = NDArray[Any]


class AuditError(ValueError):
    """There is nothing that could be audited, or it cannot be read; the message says what and where."""


def no_rows(model: type[Record]) -> Rows:
    return np.zeros(0, dtype_of(model))


@dataclass(slots=True)
class AuditBatch:
    """Rows that left one account, each table in its order, in their fixed-width form. The rows of one time
    come together. `ranges` (n, 2) int64, beside `executions`: low and high, in millionths, of the bar each
    happened in, 0 where there was none; without it no bars are looked at. `final`: nothing follows.
    """

    orders: Rows = field(default_factory=lambda: no_rows(Order))
    executions: Rows = field(default_factory=lambda: no_rows(Execution))
    decisions: Rows = field(default_factory=lambda: no_rows(Decision))
    alerts: Rows = field(default_factory=lambda: no_rows(Alert))
    equity: Rows = field(default_factory=lambda: no_rows(Equity))
    ranges: NDArray[np.int64] | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """What a summary says it counted. `told`: of the tally, by name. `sums`: pairs that must be equal."""

    told: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditNews:
    """What one batch brought to light, a line each; after the last one, all findings."""

    time_ns: int
    breaches: tuple[str, ...]
    findings: dict[str, Finding] | None


@dataclass(frozen=True, slots=True)
class Names:
    """What indices of instruments stand for, and how many strategies there are."""

    instruments: tuple[str, ...]
    strategies: int


def terms_of(config: Config, sessions: Sessions) -> Terms:
    """The configuration and the calendar as the recount reads them."""
    n = len(config.instruments)
    family, side = np.full(n, -1), np.zeros(n, np.int64)
    for f, each in enumerate(config.families):
        for sign, tiers in ((1, each.bull), (-1, each.bear)):
            for tier in tiers:
                i = config.instruments.index(tier.instrument)
                family[i], side[i] = f, sign
    row = np.zeros(1, TERM).view(np.recarray)
    row[0].cash = micro(config.account.cash)
    row[0].flat_by_ns = config.gates.session.flat_by_seconds * NS
    row[0].fee_each = micro(config.venue.commission_per_unit)
    row[0].fee_share = micro(config.venue.commission_share)
    spread = micro(config.venue.half_spread) + micro(config.venue.slippage)
    row[0].tolerance = min(max(micro(config.gates.cash.collar), spread), MICRO)
    return Terms(row, family, side, sessions.close_ns)


def layout(instruments: int, families: int, strategies: int) -> tuple[tuple[np.dtype[Any], int], ...]:
    """Type and rows of each array of the books."""
    return (
        (TALLY, 1),
        (INSTRUMENT, instruments),
        (ORDER, LAST * instruments),
        (FAMILY, families),
        (DECISION, APPROVALS),
        (ID, BUCKETS),
        (TRIPPED, (strategies + 1) * (instruments + 1)),
        (FOUND, len(Breach)),
        (NOTE, NOTES),
        (PLACES, 1),
    )


def books_of(words: NDArray[np.int64], shape: tuple[int, int, int]) -> Books:
    """The books held in `words`."""
    views: list[Any] = []
    start = 0
    for dtype, rows in layout(*shape):
        end = start + dtype.itemsize // 8 * rows
        views.append(words[start:end].view(dtype).view(np.recarray))
        start = end
    if start != len(words):
        raise ValueError(f"books of {len(words)} words do not fit this configuration, which needs {start}")
    return Books(words, *views)


def open_books(new: Books, cash: int) -> None:
    """Cash and nothing else, in books that are all zero."""
    told = new.tally[0]
    told.cash = told.low = cash
    told.session = told.commanded_ns = told.lowered_ns = told.valued_ns = told.known_ns = NONE
    for name in ("opened_ns", "entry_ns", "exit_ns", "flat_ns"):
        new.instruments[name] = NONE
    new.decisions["sequence"] = NONE
    new.ids.view(np.int64)[:] = NONE


def code_hash() -> str:
    """Identity of the auditor's own sources, for snapshots."""
    modules: tuple[ModuleType, ...] = (books, recount)
    return hashlib.sha256("".join(map(inspect.getsource, modules)).encode()).hexdigest()[:16]


class Auditor:
    name = "auditor"
    version = 1

    def __init__(
        self, terms: Terms, names: Names, counts: Counts | None = None, closing_cash: int | None = None
    ):
        """`counts`: what must agree at the end. `closing_cash`: what the account says it ends with, in
        millionths; without it its last equity says so.
        """
        self.terms = terms
        self.names = names
        self.counts = counts or Counts()
        self.closing_cash = closing_cash
        self.shape = (len(names.instruments), int(terms.family.max(initial=-1)) + 1, names.strategies)
        words = sum(dtype.itemsize // 8 * rows for dtype, rows in layout(*self.shape))
        self.books = books_of(np.zeros(words, np.int64), self.shape)
        open_books(self.books, int(terms.term[0].cash))

    @classmethod
    def of(
        cls,
        config: Config,
        sessions: Sessions,
        counts: Counts | None = None,
        closing_cash: int | None = None,
    ) -> "Auditor":
        """The auditor of one account."""
        names = Names(config.instruments, len(config.strategies))
        return cls(terms_of(config, sessions), names, counts, closing_cash)

    def step(self, event: AuditBatch) -> list[AuditNews]:
        before = self.found()
        ranges = event.ranges
        if ranges is None:
            ranges = np.full((len(event.executions), 2), NOT_LOOKED_AT, np.int64)
        recount.recount(
            event.orders.view(np.recarray),
            event.executions.view(np.recarray),
            event.decisions.view(np.recarray),
            event.alerts.view(np.recarray),
            event.equity.view(np.recarray),
            ranges,
            self.terms,
            self.books,
        )
        if event.final:
            cash = self.closing_cash
            close_books(self.books, int(cash is not None), cash or 0)
        news = tuple(self._news(before))
        if not news and not event.final:
            return []
        return [
            AuditNews(int(self.books.tally["time_ns"][0]), news, self.findings() if event.final else None)
        ]

    def found(self) -> dict[Breach, Found]:
        """What was found at all so far."""
        rows = zip(Breach, self.books.found.tolist(), strict=True)
        return {kind: Found(*row) for kind, row in rows if row[0] or row[1]}

    def _news(self, before: dict[Breach, Found]) -> list[str]:
        """A line for each kind of breach that there is more of than `before`."""
        lines = []
        for kind, now in self.found().items():
            old = before.get(kind)
            more = now.breaches + now.by_venue - (old.breaches + old.by_venue if old else 0)
            if more:
                total = f"{now.breaches:,} and by the venue {now.by_venue:,} in all"
                first = now.first(kind, self.names.instruments)
                lines.append(f"{words(kind)}: {more:,} more, {total}; first {first}")
        return lines

    def findings(self) -> dict[str, Finding]:
        """Every statement by its name, as it stands after the rows so far."""
        assert TALLY.names is not None
        tally = SimpleNamespace(**dict(zip(TALLY.names, self.books.tally.tolist()[0], strict=True)))
        found, instruments = self.found(), self.names.instruments
        findings = {
            key: finding(statement, found, tally, instruments) for key, statement in STATEMENTS.items()
        }
        if self.counts.told or self.counts.sums:
            findings["D5"] = self._conserved(findings["D5"], tally)
        return findings

    def _conserved(self, found: Finding, tally: Any) -> Finding:
        """The counts of a summary beside those of the recount."""
        pairs = {name: (count, getattr(tally, name)) for name, count in self.counts.told.items()}
        pairs |= self.counts.sums
        wrong = [
            f"{name}: {told:,} told, {seen:,} counted" for name, (told, seen) in pairs.items() if told != seen
        ]
        evidence = "; ".join([f"{found.evidence}, {len(pairs)} counts of the summary", *wrong])
        return Finding(found.breaches + len(wrong), evidence, found.by_venue, found.first)

    def dump(self) -> dict[str, Any]:
        return {"words": self.books.words.tobytes()}

    def load(self, data: dict[str, Any]) -> None:
        self.books = books_of(np.frombuffer(data["words"], np.int64).copy(), self.shape)


def recounted(auditor: Auditor, batch: AuditBatch) -> dict[str, Finding]:
    """The findings of one batch that is all there is."""
    (news,) = auditor.step(replace(batch, final=True))
    assert news.findings is not None
    return news.findings
