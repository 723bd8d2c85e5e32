"""The market stage: four machines, each keyed by symbol.

    BarBatch -> Quality -> MarketBatch (+ DeadLetters) -> Indicators -> Strategies -> SignalFilter ->
    MarketBatch

Each machine carries vectors of fixed size from one batch to the next, so cutting batches elsewhere changes
nothing. A batch belongs to one path through the graph, so each machine fills its own fields in place.
"""

from typing import Any

import numpy as np

from operators import quality
from operators.account_state import EVENT
from operators.market_plan import MarketPlan, SymbolPlan
from operators.signal_filter import filter_signals
from schemas.batches import (
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    VOLUME,
    BarBatch,
    DeadLetters,
    Float64s,
    MarketBatch,
    SliceBatch,
)
from schemas.codes import DeadLetter, EventKind, Verdict
from schemas.records import MICRO
from schemas.sessions import Sessions
from schemas.topics import BARS


class Quality:
    """Separates good bars from dead letters. State: the last good bar and the quarantine."""

    name = "quality"
    version = 1

    def __init__(self, limits: quality.QualityLimits, sessions: Sessions, plan: MarketPlan):
        self.limits = limits
        self.sessions = sessions
        self.plan = plan
        self.state = quality.initial_state()

    def step(self, event: BarBatch) -> list[MarketBatch | DeadLetters]:
        reason, session, minute = quality.judge(event, self.state, self.limits, self.sessions)
        good = reason == DeadLetter.NONE
        outputs: list[MarketBatch | DeadLetters] = list(event.refused)
        if good.all():
            end_ns, prices = event.end_ns, event.prices
        else:
            bad = ~good
            outputs.append(
                DeadLetters(
                    BARS,
                    [event.symbol] * int(bad.sum()),
                    reason[bad],
                    event.start_ns[bad],
                    event.end_ns[bad],
                    event.prices[:, bad],
                    [b""] * int(bad.sum()),
                )
            )
            end_ns, prices = event.end_ns[good], np.ascontiguousarray(event.prices[:, good])
            session, minute = session[good], minute[good]
        n, s = len(end_ns), self.plan.strategies
        last_ns = int(self.state["end_ns"][0])
        outputs.append(
            MarketBatch(
                event.symbol,
                end_ns,
                prices,
                session,
                minute,
                max(event.complete_ns, last_ns),
                event.final,
                features=np.empty((self.plan.symbols[event.symbol].features, n)),
                signals=np.empty((s, n)),
                passed=np.zeros((s, n), np.int64),
                verdict=np.full((s, n), Verdict.ABSENT, np.uint8),
            )
        )
        if event.final:
            outputs.append(_end_of_dead_letters())
        return outputs

    def dump(self) -> dict[str, Any]:
        return {"state": self.state.tobytes()}

    def load(self, data: dict[str, Any]) -> None:
        self.state = quality.load_state(data["state"])


class _PerSymbol:
    """A machine whose state is one float64 vector a task; its symbol is known with the first batch."""

    name: str
    version = 1

    def __init__(self, plan: MarketPlan):
        self.plan = plan
        self.vectors: list[Float64s] | None = None

    def sizes(self, plan: SymbolPlan) -> list[int]:
        raise NotImplementedError

    def start(self, symbol: str) -> tuple[SymbolPlan, list[Float64s]]:
        plan = self.plan.symbols[symbol]
        if self.vectors is None:
            self.vectors = [np.zeros(size) for size in self.sizes(plan)]
        return plan, self.vectors

    def dump(self) -> dict[str, Any]:
        vectors = self.vectors  # none before the first batch names the symbol
        return {"vectors": None if vectors is None else [vector.tobytes() for vector in vectors]}

    def load(self, data: dict[str, Any]) -> None:
        vectors = data["vectors"]
        self.vectors = None if vectors is None else [np.frombuffer(vector).copy() for vector in vectors]


class Indicators(_PerSymbol):
    """Fills `features`."""

    name = "indicators"

    def sizes(self, plan: SymbolPlan) -> list[int]:
        return [task.state_size for task in plan.indicators]

    def step(self, event: MarketBatch) -> list[MarketBatch]:
        plan, vectors = self.start(event.symbol)
        for task, vector in zip(plan.indicators, vectors, strict=True):
            task.indicator.kernel(
                event.prices,
                event.session,
                event.minute,
                task.parameters,
                vector,
                event.features[task.first : task.last],
            )
        return [event]


class Strategies(_PerSymbol):
    """Fills `signals`."""

    name = "strategies"

    def sizes(self, plan: SymbolPlan) -> list[int]:
        return [task.state_size for task in plan.strategies]

    def step(self, event: MarketBatch) -> list[MarketBatch]:
        plan, vectors = self.start(event.symbol)
        for task, vector in zip(plan.strategies, vectors, strict=True):
            task.strategy.kernel(
                event.prices,
                event.session,
                event.minute,
                event.features[list(task.rows)],
                task.parameters,
                vector,
                event.signals[task.index],
            )
        return [event]


class SignalFilter(_PerSymbol):
    """Fills `passed` and `verdict`."""

    name = "signal_filter"

    def sizes(self, plan: SymbolPlan) -> list[int]:
        return [task.filter_state_size for task in plan.strategies]

    def step(self, event: MarketBatch) -> list[MarketBatch]:
        plan, vectors = self.start(event.symbol)
        for task, vector in zip(plan.strategies, vectors, strict=True):
            filter_signals(
                event.signals[task.index],
                task.strategy.emits == "probability",
                task.filter_parameters,
                vector,
                event.passed[task.index],
                event.verdict[task.index],
            )
        return [event]


def journal_slices(batch: MarketBatch, instrument: int) -> SliceBatch:
    """Slices for the journal: from here on there are integers only."""
    n = len(batch.end_ns)
    events = np.empty(n, EVENT)
    events["kind"] = EventKind.SLICE
    events["time_ns"] = batch.end_ns
    events["instrument"] = instrument
    events["detail"] = 0
    for row, name in ((OPEN, "open"), (HIGH, "high"), (LOW, "low"), (CLOSE, "close")):
        events[name] = np.rint(batch.prices[row] * MICRO)
    events["volume"] = batch.prices[VOLUME]
    return SliceBatch(
        instrument,
        events,
        np.ascontiguousarray(batch.passed.T),
        np.ascontiguousarray(batch.verdict.T),
        batch.complete_ns,
        batch.final,
    )


def _end_of_dead_letters() -> DeadLetters:
    empty = np.zeros(0, np.int64)
    return DeadLetters(BARS, [], np.zeros(0, np.uint8), empty, empty, np.zeros((5, 0)), [], final=True)
