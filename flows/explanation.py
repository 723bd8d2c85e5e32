"""What is said of one bar: the numbers that led to its decision, with their units, and one sentence on top.

Everything is plain data, for a page or for JSON: times are ISO 8601 in one zone, money is decimal text,
signals and weights are shares of one.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from connectors.recording import TIME
from flows.explain_words import REDUCED, Units
from flows.interpreted import interpreted
from flows.lineage import (
    Judged,
    Moment,
    Place,
    Result,
    Show,
    Watched,
    filter_bounds,
    place_of,
    run_until,
    watch_group,
)
from operators import allocation as allocation_stage
from operators.account_machine import Account
from operators.account_state import State
from operators.market_plan import StrategyTask
from operators.order_lifecycle import LIVE
from operators.registry import Feature
from schemas.batches import AccountBatch
from schemas.codes import (
    Breaker,
    DayPhase,
    HaltLevel,
    Intent,
    OrderState,
    PositionPhase,
    Reason,
    Side,
    Stage,
    Verdict,
)
from schemas.records import MICRO, Alert, Decision, Execution, Order, Record, dtype_of, to_arrow
from schemas.topics import ALERTS, DECISIONS, EXECUTIONS, ORDERS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUTPUTS: dict[str, tuple[type[Record], str]] = {
    ORDERS: (Order, "time_ns"),
    EXECUTIONS: (Execution, "known_ns"),
    DECISIONS: (Decision, "time_ns"),
    ALERTS: (Alert, "time_ns"),
}
"""What the account puts out, with the column that has the time of the event which made it."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BarFacts:
    start: str
    end: str
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """One strategy's signal on one symbol.

    `moves`: it can move the instrument asked for. `raw` is what the strategy said, a probability or a weight
    as `emits` says, None while pending. `score` is that from -1 to 1, `passed` what the filter let through.
    `floor`, `wait` and `held` are what the filter compares an entry with: a score, bars of cool-down left,
    and the score that passed on the bar before.
    """

    strategy: str
    kind: str
    reads: str
    trades: str
    moves: bool
    features: dict[str, float | None]
    emits: str
    raw: float | None
    score: float | None
    verdict: str
    passed: float
    floor: float
    wait: int
    held: float
    words: str


@dataclass(frozen=True, slots=True)
class SleeveFacts:
    """What allocation makes of one strategy's signals on one symbol: it wants `weight` of `instrument`."""

    strategy: str
    reads: str
    value: float
    tier: str
    instrument: str
    weight: float


@dataclass(frozen=True, slots=True)
class AllocationFacts:
    """`weight` is the share of equity wanted of the instrument. `target` are the lots that the account goes
    by, which `stage` and `reason` have set. `live`: its open order in words, "" for none.
    """

    sleeves: list[SleeveFacts]
    weight: float
    target: int
    stage: str
    reason: str
    position: int
    phase: str
    live: str


@dataclass(frozen=True, slots=True)
class GateFacts:
    """`verdict` is allowed, reduced or refused; where not `asked`, a refusal came before, and it would have
    been so.
    """

    stage: str
    asked: bool
    verdict: str
    wanted: int
    allowed: int
    reason: str
    observed: int
    limit: int
    words: str


@dataclass(frozen=True, slots=True)
class AccountFacts:
    level: str
    flattening: bool
    day_phase: str
    to_close: str
    cash: str
    reserved: str
    equity: str
    breakers: list[str]
    blocked: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`absent` says why there is no bar, "" where there is one. `executions` are those the account learned of
    at this bar end, `followed` those of the orders that left at it. `earlier`: what the account did within
    the bar, before its end. `differences`: where the result says otherwise.
    """

    sentence: str
    instrument: str
    time: str
    time_ns: int
    zone: str
    note: str
    bar: BarFacts | None
    absent: str
    dead_letters: list[Row]
    signals: list[SignalFacts]
    account: AccountFacts
    allocation: AllocationFacts
    gates: list[GateFacts]
    decisions: list[Row]
    orders: list[Row]
    executions: list[Row]
    followed: list[Row]
    alerts: list[Row]
    earlier: list[Row]
    differences: list[str]


def explain(result: Result, symbol: str, asked_ns: int, zone: ZoneInfo, show: Show) -> Explanation:
    """Explain the bar of `symbol` that ends at `asked_ns` or contains it. Raises `LineageError`."""
    place = place_of(result, symbol, asked_ns)
    moment = run_until(result, place.time_ns, show)
    account, group = moment.account, moment.group
    shadow = Account(result.setup.config, result.setup.rules)
    shadow.load(account.dump())
    outputs: list[AccountBatch] = []
    seen = Watched()
    if group is not None:
        seen, _ = watch_group(shadow, group, result.setup.config.instruments.index(symbol))
        outputs = account.step(group)
    if not np.array_equal(shadow.state.words, account.state.words):
        raise AssertionError("the watched account has done something else; this is an error of explain")
    return _Facts(result, symbol, place, moment, seen, outputs, zone).explanation()


class _Facts:
    """The facts of one instrument at one time, gathered."""

    def __init__(
        self,
        result: Result,
        symbol: str,
        place: Place,
        moment: Moment,
        seen: Watched,
        outputs: list[AccountBatch],
        zone: ZoneInfo,
    ):
        self.result, self.symbol, self.place = result, symbol, place
        self.moment, self.seen, self.outputs, self.zone = moment, seen, outputs, zone
        self.config, self.rules = result.setup.config, result.setup.rules
        self.i = self.config.instruments.index(symbol)
        self.state: State = moment.account.state if seen.state is None else seen.state
        self.units = Units(self.config.account.currency, self.clock)
        family = int(self.rules.instruments[self.i].family)
        self.family = self.config.families[family].name if family >= 0 else None

    def explanation(self) -> Explanation:
        rows = {name: self.rows(name, self.outputs, at_end=True) for name in OUTPUTS}
        noted = {name: self.noted(name) for name in OUTPUTS}
        letters = self.dead_letters()
        absent = self.absent(letters)
        signals, allocation = self.signals(), self.allocation()
        gates = [self.gate(judged) for judged in self.seen.gates]
        said = {name: self.said(frame) for name, frame in rows.items()}
        sentence = self.sentence(absent, signals, allocation, gates, said)
        return Explanation(
            sentence=sentence,
            instrument=self.symbol,
            time=self.iso(self.place.time_ns),
            time_ns=self.place.time_ns,
            zone=str(self.zone),
            note=self.note(),
            bar=self.bar(),
            absent=absent,
            dead_letters=self.said(letters),
            signals=signals,
            account=self.account(),
            allocation=allocation,
            gates=gates,
            decisions=said[DECISIONS],
            orders=said[ORDERS],
            executions=said[EXECUTIONS],
            followed=self.said(self.followed(rows[ORDERS])),
            alerts=said[ALERTS],
            earlier=[
                {"table": name, **row}
                for name in OUTPUTS
                for row in self.said(self.rows(name, self.moment.before, at_end=False))
            ],
            differences=[
                f"{name}: running again gives {len(rows[name])} rows here, the result has {len(noted[name])}"
                + ("" if len(rows[name]) != len(noted[name]) else " others")
                for name in OUTPUTS
                if not rows[name].equals(noted[name])
            ],
        )

    # --- times

    def iso(self, time_ns: int) -> str:
        moment = EPOCH + timedelta(microseconds=time_ns // 1000)
        return moment.astimezone(self.zone).isoformat(sep=" ")

    def clock(self, time_ns: int) -> str:
        """A time as one would say it: without the day where it is the day of the bar."""
        text, here = self.iso(time_ns), self.iso(self.place.time_ns)
        day, time = text[:10], text[11:19].removesuffix(":00")
        return time if day == here[:10] else f"{day} {time}"

    # --- rows of tables

    def rows(self, name: str, outputs: list[AccountBatch], *, at_end: bool) -> pl.DataFrame:
        """Rows about the instrument or the whole account that running again has made: at the bar's end, or
        before it within the bar.
        """
        model, time = OUTPUTS[name]
        parts = []
        for output in outputs:
            rows = getattr(output, name)
            here = (rows["instrument"] == self.i) | (rows["instrument"] < 0)
            if not at_end:
                here &= rows[time] > self.place.time_ns - self.config.interval_ns
            parts.append(_plain(to_arrow(model, rows[here], self.result.names)))
        if not parts:
            return _plain(to_arrow(model, np.zeros(0, dtype_of(model)), self.result.names))
        return pl.concat(parts)

    def noted(self, name: str) -> pl.DataFrame:
        """The same rows at the bar's end as the result has them."""
        here = pl.lit(self.place.time_ns).cast(TIME)
        return self.table(name, pl.col(OUTPUTS[name][1]) == here).filter(
            pl.col("instrument").is_in([self.symbol, ""])
        )

    def table(self, name: str, where: pl.Expr) -> pl.DataFrame:
        path = self.result.out / f"{name}.parquet"
        return _plain(pl.scan_parquet(path).filter(where).collect())

    def followed(self, orders: pl.DataFrame) -> pl.DataFrame:
        """Executions of the orders that left at the bar's end, from the result."""
        return self.table(EXECUTIONS, pl.col("client_order_id").is_in(orders["client_order_id"].to_list()))

    def dead_letters(self) -> pl.DataFrame:
        """Records refused that say they are this bar."""
        path = self.result.out / "dead_letters.parquet"
        if not path.is_file():
            return pl.DataFrame()
        end_ns = self.place.time_ns
        here = (pl.col("end_ns") == end_ns) | (pl.col("start_ns") == end_ns - self.config.interval_ns)
        frame = pl.scan_parquet(path).filter((pl.col("symbol") == self.symbol) & here)
        return frame.drop("raw", "topic").collect()

    def said(self, frame: pl.DataFrame) -> list[Row]:
        """Rows as plain values."""
        return [
            {name: self._value(name, value) for name, value in row.items()}
            for row in frame.iter_rows(named=True)
        ]

    def _value(self, name: str, value: Any) -> Any:
        if name.endswith("_ns"):
            return self.iso(value) if value else ""
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return f"{value:.6f}" if isinstance(value, Decimal) else value

    # --- the market

    def note(self) -> str:
        asked, end = self.place.asked_ns, self.place.time_ns
        if asked == end:
            return ""
        return f"{self.clock(asked)} is no bar end; the bar that contains it ends at {self.clock(end)}"

    def bar(self) -> BarFacts | None:
        batch = self.moment.market[self.symbol].batch
        if not len(batch.end_ns):
            return None
        end_ns = int(batch.end_ns[0])
        prices = [float(value) for value in batch.prices[:, 0]]
        return BarFacts(self.iso(end_ns - self.config.interval_ns), self.iso(end_ns), *prices)

    def absent(self, letters: pl.DataFrame) -> str:
        """Why there is no bar, "" where there is one."""
        market = self.moment.market[self.symbol]
        if len(market.batch.end_ns):
            return ""
        if len(letters):
            reasons = ", ".join(dict.fromkeys(letters["reason"]))
            return f"it was refused and is a dead letter: {reasons.replace('_', ' ')}"
        if not self.place.on_grid:
            return "this time lies outside the session"
        last_ns = int(self.moment.account.state.positions[self.i].mark_ns)
        before = f"the last one ended at {self.clock(last_ns)}" if last_ns else "none came before"
        after = f", the next one at {self.clock(market.next_ns)}" if market.next_ns else ""
        return f"the recording has a gap: {before}{after}"

    def signals(self) -> list[SignalFacts]:
        """Signals that can move the instrument, and those read from its own bars."""
        facts = []
        for reads, plan in self.result.setup.plan.symbols.items():
            for task, state in zip(plan.strategies, self.moment.market[reads].filters, strict=True):
                family = self.config.strategies[task.index].family
                moves = reads == self.symbol if family is None else family == self.family
                if moves or reads == self.symbol:
                    facts.append(self.signal(task, state, reads, moves))
        return facts

    def signal(self, task: StrategyTask, state: Any, reads: str, moves: bool) -> SignalFacts:
        settings = self.config.strategies[task.index]
        batch = self.moment.market[reads].batch
        bounds = filter_bounds(task, state)
        floor, held = bounds.floor / MICRO, bounds.held / MICRO
        features: dict[str, float | None] = {}
        raw = score = None
        passed, verdict, words = 0.0, "no_bar", f"{reads} has no bar, so no signal"
        if len(batch.end_ns):
            needed = task.strategy.features(
                {name: float(value) for name, value in settings.parameters.items()}
            )
            features = {
                _feature_name(feature): _number(batch.features[row, 0])
                for feature, row in zip(needed, task.rows, strict=True)
            }
            raw = _number(batch.signals[task.index, 0])
            if raw is not None:
                score = 2 * raw - 1 if task.strategy.emits == "probability" else raw
            passed = int(batch.passed[task.index, 0]) / MICRO
            code = Verdict(batch.verdict[task.index, 0])
            verdict = code.name.lower()
            words = _verdict_words(code, score or 0.0, floor, bounds.wait, held)
        return SignalFacts(
            strategy=settings.name,
            kind=settings.kind,
            reads=reads,
            trades=f"family {settings.family}" if settings.family else reads,
            moves=moves,
            features=features,
            emits=task.strategy.emits,
            raw=raw,
            score=score,
            verdict=verdict,
            passed=passed,
            floor=floor,
            wait=bounds.wait,
            held=held,
            words=words,
        )

    # --- the account

    def account(self) -> AccountFacts:
        row, rules = self.state.account[0], self.rules
        left = int(rules.session_close_ns[row.session] - row.time_ns) if row.in_session else -1
        blocked = int(self.state.positions[self.i].blocked)
        return AccountFacts(
            level=HaltLevel(row.level).name.lower(),
            flattening=bool(row.flattening),
            day_phase=DayPhase(row.day_phase).name.lower(),
            to_close=self.units.span(left) if left >= 0 else "",
            cash=self.units.money(int(row.cash)),
            reserved=self.units.money(int(row.reserved)),
            equity=self.units.money(int(row.equity)),
            breakers=self.breakers(),
            blocked=Reason(blocked).name.lower() if blocked else "",
        )

    def breakers(self) -> list[str]:
        """Those that are tripped, in words."""
        account = Account(self.config, self.rules)
        account.state = self.state
        words = []
        for row in account.figures()["state"]["breakers"]:
            breaker = Breaker[row["breaker"].upper()]
            names = (_spaced(row["breaker"]), row["strategy"], row["instrument"])
            about = " ".join(name for name in names if name)
            numbers = self.units.breaker(breaker, row["observed"], row["limit"])
            until = f", until {self.clock(row['until_ns'])}" if row["until_ns"] else ""
            words.append(f"{about}: {numbers}{until}")
        return words

    def allocation(self) -> AllocationFacts:
        position = self.state.positions[self.i]
        target, stage, reason = self.seen.desired or (0, Stage.ALLOCATION, Reason.NONE)
        return AllocationFacts(
            sleeves=self.sleeves(),
            weight=int(position.weight) / MICRO,
            target=target,
            stage=stage.name.lower(),
            reason=reason.name.lower(),
            position=int(position.quantity),
            phase=PositionPhase(position.phase).name.lower(),
            live=self.live(),
        )

    def sleeves(self) -> list[SleeveFacts]:
        """Sleeves that can move the instrument."""
        mine = self.rules.instruments[self.i].family
        return [
            SleeveFacts(
                strategy=self.config.strategies[rule.strategy].name,
                reads=self.config.instruments[rule.signal],
                value=int(sleeve.value) / MICRO,
                tier=self.tier(int(rule.family), int(sleeve.tier)),
                instrument=self.config.instruments[sleeve.instrument] if sleeve.weight else "",
                weight=int(sleeve.weight) / MICRO,
            )
            for rule, sleeve in zip(self.rules.sleeves, self.state.sleeves, strict=True)
            if (rule.signal == self.i if rule.family < 0 else rule.family == mine)
        ]

    def tier(self, family: int, level: int) -> str:
        if family < 0:
            return ""
        if level == 0:
            return "cash"
        rule = self.config.families[family]
        tier = (rule.bull if level > 0 else rule.bear)[abs(level) - 1]
        side = "bull" if level > 0 else "bear"
        return f"{side} {abs(level)}, from probability {tier.probability}: {tier.instrument}"

    def live(self) -> str:
        order = self.state.orders[self.i]
        if not LIVE[order.state]:
            return ""
        intent, side = Intent(order.intent).name.lower(), Side(order.side).name.lower()
        state = OrderState(order.state).name.lower().replace("_", " ")
        return (
            f"{intent} of {self.clock(int(order.sent_ns))}, {side} {order.quantity:,}, "
            f"{order.cumulative:,} filled, {state}"
        )

    def gate(self, judged: Judged) -> GateFacts:
        verdict = (
            "refused" if not judged.allowed else "reduced" if judged.allowed < judged.wanted else "allowed"
        )
        return GateFacts(
            stage=judged.stage.name.lower(),
            asked=judged.asked,
            verdict=verdict,
            wanted=judged.wanted,
            allowed=judged.allowed,
            reason=judged.reason.name.lower(),
            observed=judged.observed,
            limit=judged.limit,
            words=self.units.gate(judged.stage, judged.reason, judged.observed, judged.limit),
        )

    # --- the sentence

    def sentence(
        self,
        absent: str,
        signals: list[SignalFacts],
        allocation: AllocationFacts,
        gates: list[GateFacts],
        rows: dict[str, list[Row]],
    ) -> str:
        decisions = {row["sequence"]: row for row in rows[DECISIONS]}
        for kind in ("new", "cancel"):
            for order in rows[ORDERS]:
                if order["kind"] == kind:
                    return self.about_order(order, decisions[order["decision"]], gates)
        for row in rows[DECISIONS]:
            if row["outcome"] == "refused":
                words = next(gate.words for gate in gates if gate.stage == row["stage"])
                return f"No order: refused by the {_spaced(row['stage'])} gate: {words}"
        return f"No order: {self.quiet(absent, signals, allocation)}"

    def about_order(self, order: Row, decision: Row, gates: list[GateFacts]) -> str:
        what = f"{order['side']} {order['quantity']:,} {self.symbol}"
        if order["kind"] == "cancel":
            return f"Cancel of {what}: {REDUCED[Reason[decision['reason'].upper()]]}"
        limit = Decimal(order["limit_price"])
        terms = f"limit {limit:,.2f}" if limit else "at the market"
        if order["intent"] == "exit":
            why = REDUCED[Reason[decision["reason"].upper()]]
        else:
            held = f"{decision['position']:,} are held"
            why = f"the target is {decision['target']:,}, set by {order['strategy']}, and {held}"
            less = [gate for gate in gates if gate.verdict == "reduced"]
            why += "".join(f"; the {_spaced(gate.stage)} gate reduced it: {gate.words}" for gate in less)
        return f"Order: {what}, {terms}, because {why}"

    def quiet(self, absent: str, signals: list[SignalFacts], allocation: AllocationFacts) -> str:
        """Why nothing was decided."""
        account, position = self.state.account[0], self.state.positions[self.i]
        target, held = allocation.target, allocation.position
        if absent:
            return f"there is no bar of {self.symbol} at {self.clock(self.place.time_ns)}: {absent}"
        if self.seen.state is None:
            return "the account is not in a session"
        if allocation.live:
            return f"an order is open: {allocation.live}"
        if position.weight == 0 and held == 0:
            return _no_weight(self.symbol, signals, allocation.sleeves)
        if target != held:
            if position.retry_ns > account.time_ns:
                return f"an exit failed and is tried again at {self.clock(int(position.retry_ns))}"
            return "what may be sold already is not sold again: the venue told of a fill that has not come"
        if allocation.reason == "halted":
            return f"the account is halted, so signals do not count; {held:,} held"
        if held:
            return f"the position is its target, {held:,}"
        if allocation.stage != "allocation":
            return f"nothing is held and nothing may be opened: {REDUCED[Reason[allocation.reason.upper()]]}"
        if interpreted(allocation_stage.outvoted, {})(self.state, self.rules, self.i):
            return "strategies disagree, and the family's other side has at least as much weight"
        return f"{allocation.weight:.1%} of {self.units.money(int(account.equity))} is less than one lot"


def _plain(table: Any) -> pl.DataFrame:
    """A table with times as numbers and names as text, however it was stored."""
    frame = pl.from_arrow(table) if not isinstance(table, pl.DataFrame) else table
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String), pl.col(pl.Datetime).to_physical()
    )


def _feature_name(feature: Feature) -> str:
    """As a strategy names it: `bollinger(k=2, n=20).upper`."""
    parameters = ", ".join(f"{name}={value:g}" for name, value in feature.parameters)
    return f"{feature.indicator}({parameters})" + ("" if feature.output == "value" else f".{feature.output}")


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _bars(number: int) -> str:
    return f"{number} bar" + ("" if number == 1 else "s")


def _verdict_words(verdict: Verdict, score: float, floor: float, wait: int, held: float) -> str:
    match verdict:
        case Verdict.PENDING:
            return "the strategy is warming up"
        case Verdict.NEUTRAL:
            return "the signal became neutral" if held else "the signal stayed neutral"
        case Verdict.PASSED:
            return f"the signal passed, {score:+.3f}"
        case Verdict.REFUSED_NOISE:
            return f"the filter refused the signal as noise: {abs(score):.3f} is not above {floor:.3f}"
        case Verdict.REFUSED_COOLDOWN:
            return f"the filter refused the signal in the cool-down, {_bars(wait)} left"
        case Verdict.INVALID:
            return "the strategy is switched off: it said something that is no number in its range"
    return "the strategy does not read these bars"


def _no_weight(symbol: str, signals: list[SignalFacts], sleeves: list[SleeveFacts]) -> str:
    """Why no strategy wants any of the instrument."""
    moving = [signal for signal in signals if signal.moves]
    if not moving:
        return f"no strategy trades {symbol}"
    by_signal = {(sleeve.strategy, sleeve.reads): sleeve for sleeve in sleeves}
    said = [_unwanted(signal, by_signal[signal.strategy, signal.reads]) for signal in moving]
    if len(said) == 1:
        return said[0]
    return "; ".join(f"{signal.strategy}: {words}" for signal, words in zip(moving, said, strict=True))


def _unwanted(signal: SignalFacts, sleeve: SleeveFacts) -> str:
    if signal.verdict != "passed":
        return signal.words
    if sleeve.instrument:
        return f"{signal.words}, and chose {sleeve.instrument}"
    if sleeve.tier:
        return f"{signal.words}, and reaches no tier"
    return f"{signal.words}, but nothing is sold short"
