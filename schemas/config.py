"""The configuration of one deployment: one TOML file, one account.

Every key is checked when the file is read. Unknown keys are refused, no limit that guards money has a
default, and an error names the file, the key, the value and what is allowed.
"""

import base64
import binascii
import datetime as dt
import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from schemas.records import MICRO

NS = 1_000_000_000
MINUTE_NS = 60 * NS
MAX_MONEY = 900_000_000
"""Largest sum of money: times ten thousand, in millionths, it still fits 63 bits, so no product in the
account overflows.
"""


class ConfigError(ValueError):
    """The configuration cannot be used; the message says where and why."""


def _decimal(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    return value


Number = Annotated[Decimal, BeforeValidator(_decimal), Field(allow_inf_nan=False)]
Money = Annotated[Number, Field(gt=0, le=MAX_MONEY, decimal_places=6)]
Fee = Annotated[Number, Field(ge=0, le=1000, decimal_places=6)]
Share = Annotated[Number, Field(gt=0, le=1, decimal_places=6)]
Fraction = Annotated[Number, Field(ge=0, lt=1, decimal_places=6)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/^-]*$"
CURRENCY_PATTERN = r"^[A-Z]{3,5}$"
PREFIX_PATTERN = r"^[A-Za-z0-9._-]*$"
Name = Annotated[str, Field(min_length=1, max_length=32, pattern=NAME_PATTERN)]


class Section(BaseModel):
    """Base of all sections: strict and closed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Account(Section):
    id: Name = Field(description="name of the account; part of every client order id")
    currency: Annotated[str, Field(pattern=CURRENCY_PATTERN)] = Field(
        description="currency of prices and cash"
    )
    cash: Money = Field(description="cash at the start")


class Calendar(Section):
    exchange: str = Field(description="exchange calendar, such as XNYS or 24/7")
    first: dt.date = Field(description="first day that exists for this deployment")
    last: dt.date = Field(description="last day that exists; a bar beyond it is refused")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first, {self.first}, must not be after last, {self.last}")
        return self


class Bars(Section):
    interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(description="length of a bar")
    jump_limit: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="largest believed change from bar to bar"
    )
    max_gap_bars: Annotated[int, Field(ge=1, le=100_000)] = Field(description="largest believed gap, in bars")
    max_price: Annotated[Number, Field(gt=0, le=1_000_000)] = Field(description="larger prices are refused")
    max_volume: Annotated[Number, Field(gt=0, le=10**12)] = Field(description="larger volumes are refused")
    other_symbols: Literal["refuse", "ignore"] = Field(description="bars of symbols that are not instruments")


class Tier(Section):
    probability: Annotated[Number, Field(gt=Decimal("0.5"), le=1)] = Field(
        description="entered at or above this"
    )
    instrument: Name
    weight: Share = Field(description="share of the strategy's capital")


class Family(Section):
    """Instruments that move with or against one index. Bull and bear sides are never held together."""

    name: Name
    bull: tuple[Tier, ...] = Field(description="tiers by rising probability")
    bear: tuple[Tier, ...] = Field(description="tiers by rising probability of a fall")
    hysteresis: Annotated[Number, Field(ge=0, lt=Decimal("0.5"))] = Field(
        description="a tier is left only this far below its probability"
    )

    @model_validator(mode="after")
    def _sides(self) -> Self:
        for name, tiers in (("bull", self.bull), ("bear", self.bear)):
            steps = [t.probability for t in tiers]
            if steps != sorted(set(steps)):
                shown = ", ".join(str(step) for step in steps)
                raise ValueError(f"{name}: probabilities must rise from tier to tier, not {shown}")
        both = {t.instrument for t in self.bull} & {t.instrument for t in self.bear}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot be on both sides")
        if not self.bull and not self.bear:
            raise ValueError("needs at least one tier in bull or bear")
        return self


class Filter(Section):
    cooldown: Annotated[int, Field(ge=0, le=10_000)] = Field(
        description="bars between leaving a side and entering one"
    )
    noise_factor: Annotated[Number, Field(ge=0, le=10)] = Field(
        description="times the measured noise; 0 lets all pass"
    )
    noise_window: Annotated[int, Field(ge=10, le=500)] = Field(
        description="bars over which noise is measured"
    )
    min_score: Annotated[Number, Field(ge=0, le=1)] = Field(description="weakest score that may enter")


class Strategy(Section):
    name: Name
    kind: str = Field(description="a registered strategy")
    parameters: dict[str, Number] = Field(description="parameters of the strategy")
    signals: tuple[Name, ...] = Field(min_length=1, description="instruments whose bars it reads")
    family: Name | None = Field(
        default=None, description="family it trades; without one it trades the instruments it reads"
    )
    capital_share: Share = Field(description="share of equity, divided equally over `signals`")
    filter: Filter


class SessionGate(Section):
    entries_stop_minutes: Annotated[int, Field(ge=1, le=600)] = Field(
        description="before the close: no entries"
    )
    cancel_entries_minutes: Annotated[int, Field(ge=1, le=600)] = Field(
        description="before the close: entries cancelled"
    )
    exits_begin_minutes: Annotated[int, Field(ge=1, le=600)] = Field(
        description="before the close: everything is sold"
    )
    reprice_minutes: Annotated[int, Field(ge=1, le=600)] = Field(
        description="before the close: exits out of the market's reach are sent anew, at twice their collar"
    )
    force_minutes: Annotated[int, Field(ge=1, le=600)] = Field(
        description="before the close: exits are market orders"
    )
    flat_by_seconds: Annotated[int, Field(ge=0, le=36_000)] = Field(
        description="before the close: flat at the latest"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        steps = {name: getattr(self, name) for name in type(self).model_fields}
        times = [value * (1 if name == "flat_by_seconds" else 60) for name, value in steps.items()]
        if times != sorted(times, reverse=True) or times[-2] == times[-1]:
            *others, last = (f"{name} {value}" for name, value in steps.items())
            raise ValueError(
                f"{', '.join(others)} and {last} must be times before the close that come in this order"
            )
        return self


class FreshnessGate(Section):
    max_age_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        description="no entry on an older last bar"
    )


class ConflictGate(Section):
    two_of_one_side: Literal["allow", "refuse"] = Field(
        description="two instruments of one side of a family at once"
    )


class FrequencyGate(Section):
    """More openings than these, by instrument, switch it off until `release`."""

    openings_per_window: Annotated[int, Field(ge=1, le=16)]
    window_minutes: Annotated[int, Field(ge=1, le=1440)]
    openings_per_day: Annotated[int, Field(ge=1, le=100_000)]
    release: Literal["operator", "next_session"]


class SizeGate(Section):
    max_position_value: Money = Field(description="largest position at its entry")
    max_position_share: Share = Field(description="largest position as a share of equity")
    max_positions: Annotated[int, Field(ge=1, le=10_000)]
    max_volume_share: Share = Field(description="largest order as a share of the last bar's volume")
    min_order_value: Money = Field(description="smaller entries are not worth their costs")


class CashGate(Section):
    buffer_share: Fraction = Field(description="share of cash that stays")
    collar: Annotated[Number, Field(gt=0, le=Decimal("0.2"), decimal_places=6)] = Field(
        description="limit of a buy above its reference price; the worst case that is paid"
    )


class MessageGate(Section):
    """A bucket of messages to the venue. Entries leave a reserve in it for cancels and exits, which are never
    refused.
    """

    burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="messages the full bucket holds")
    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="messages it gains a minute")
    reserved_share: Fraction = Field(description="share of the bucket that entries may not use")


class Gates(Section):
    session: SessionGate
    freshness: FreshnessGate
    conflict: ConflictGate
    frequency: FrequencyGate
    size: SizeGate
    cash: CashGate
    messages: MessageGate


class DailyLoss(Section):
    share: Share = Field(description="loss since the session's first event, of equity then: halt and flatten")
    release: Literal["operator", "next_session"]


class RapidLoss(Section):
    share: Share = Field(description="loss from the highest equity within the window: no entries")
    window_minutes: Annotated[int, Field(ge=1, le=1440)]
    pause_minutes: Annotated[int, Field(ge=1, le=100_000)]


class Drawdown(Section):
    share: Share = Field(description="fall of equity from its peak: every target is multiplied by `factor`")
    factor: Fraction
    release_share: Share = Field(description="released when the fall is at most this")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.release_share > self.share:
            raise ValueError(f"release_share {self.release_share} must not be above share {self.share}")
        return self


class ConsecutiveLosses(Section):
    count: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        description="round trips lost in a row pause a strategy"
    )
    pause_minutes: Annotated[int, Field(ge=1, le=100_000)]


class StrategyLoss(Section):
    share: Share = Field(description="fall of a strategy's result from its best, of its capital: paused")
    pause_minutes: Annotated[int, Field(ge=1, le=100_000)]


class ExitFailure(Section):
    """An exit that does not get done becomes a market order, and several at once kill the account."""

    attempts: Annotated[int, Field(ge=1, le=100)] = Field(description="failed attempts that escalate an exit")
    no_progress_seconds: Annotated[int, Field(ge=1, le=36_000)] = Field(
        description="time without a fill that escalates an exit; at least one bar"
    )
    instruments_to_kill: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="escalated exits at once that kill the account"
    )


class UnusualTrading(Section):
    """Openings, flips and costs of a strategy beside what its own profile calls normal. No unit depends on
    the strategy.
    """

    slow_at: Annotated[Number, Field(ge=1, le=1000)] = Field(
        description="times normal from which entries are spaced out"
    )
    stop_at: Annotated[Number, Field(ge=1, le=1000)] = Field(
        description="times normal from which there are none"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.slow_at > self.stop_at:
            raise ValueError(f"slow_at {self.slow_at} must not be above stop_at {self.stop_at}")
        return self


class Breakers(Section):
    daily_loss: DailyLoss
    rapid_loss: RapidLoss
    drawdown: Drawdown
    consecutive_losses: ConsecutiveLosses
    strategy_loss: StrategyLoss
    exit_failure: ExitFailure
    unusual_trading: UnusualTrading


_ED25519_PRIME = 2**255 - 19
_ORDER_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _ED25519_PRIME - 1, _ORDER_EIGHT, _ED25519_PRIME - _ORDER_EIGHT}
"""Heights of the eight points of small order: anybody can make signatures that such a "key" verifies, and 32
zero bytes are one of them.
"""


def _public_key(value: object) -> object:
    if isinstance(value, str):
        try:
            key = base64.b64decode(value, validate=True)
        except binascii.Error:
            key = b""
        height = int.from_bytes(key, "little") % 2**255 % _ED25519_PRIME
        if len(key) == 32 and height not in _SMALL_ORDER:
            return value
    raise ValueError("must be an Ed25519 public key of 32 bytes in base64; `sluice keygen` prints it")


class Control(Section):
    """Who may command the account. Without a key only the presence of a kill file can stop it."""

    keys: dict[Name, Annotated[str, BeforeValidator(_public_key)]] = Field(
        default={}, description="public keys of the operators"
    )


class Allocation(Section):
    min_weight_change: Share = Field(
        description="a weight of a strategy moves its target only in steps this large"
    )


class Orders(Section):
    entry_lifetime_bars: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="an unfilled entry expires after this"
    )
    exit_collar: Annotated[Number, Field(gt=0, le=Decimal("0.2"), decimal_places=6)] = Field(
        description="limit of an exit below its reference price, until it is urgent"
    )
    retry_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        description="wait after a failed exit, doubled with each more; none near the close"
    )
    answer_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        description="without an answer for so long the outcome of a request is unknown"
    )
    query_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        description="an unknown outcome is asked for this often"
    )
    absence_answers: Annotated[int, Field(ge=1, le=100)] = Field(
        description="so many answers that the venue does not know an order"
    )
    absence_seconds: Annotated[int, Field(ge=0, le=36_000)] = Field(
        description="over at least so long, prove that it never arrived"
    )


class Faults(Section):
    """What a bad venue does, each with a probability; the same seed gives the same faults."""

    seed: Annotated[int, Field(ge=0, le=2**62)]
    reject: Fraction = Decimal(0)
    partial: Fraction = Field(default=Decimal(0), description="a fill is cut to a random part")
    delay: Fraction = Field(default=Decimal(0), description="a report comes up to `delay_seconds` late")
    delay_seconds: Annotated[int, Field(ge=1, le=36_000)] = 90
    lose: Fraction = Field(default=Decimal(0), description="a report is lost; a query brings it back")
    duplicate: Fraction = Field(default=Decimal(0), description="a report comes twice")
    fill_after_cancel: Fraction = Field(default=Decimal(0), description="an order fills after its cancel")
    unknown: Fraction = Field(default=Decimal(0), description="a request is answered with a time-out")
    vanish: Fraction = Field(default=Decimal(0), description="a request never arrives, and has no answer")
    bust: Fraction = Field(default=Decimal(0), description="a fill is undone later")


class PaperVenue(Section):
    half_spread: Fraction = Field(description="of the price, paid on each side")
    slippage: Fraction = Field(description="of the price, paid on each side")
    commission_per_unit: Fee
    commission_share: Fraction = Field(description="of the traded value")
    participation: Share = Field(description="largest share of a bar's volume that fills")
    faults: Faults | None = Field(default=None, description="faults on purpose, to see the account withstand")


class Live(Section):
    """Trading from topics. What stands here decides results; where things are does not: see `Kafka`."""

    clock: Literal["wall", "publisher"] = Field(
        description='who says what time it is: this machine, or whoever publishes recorded bars ("publisher")'
    )
    tick_seconds: Annotated[int, Field(ge=1, le=60)] = Field(
        description="from one tick of the clock to the next"
    )
    grace_seconds: Annotated[Number, Field(ge=0, le=60, decimal_places=3)] = Field(
        description="the account waits so long after a bar's end for symbols that have not reported it"
    )


class Kafka(Section):
    """Where the topics are."""

    bootstrap_servers: Annotated[str, Field(min_length=1)] = Field(
        description="host:port, several with commas; the environment's KAFKA_BOOTSTRAP_SERVERS wins"
    )
    properties: str = Field(
        default="", description="file of librdkafka settings, key=value: SASL, TLS; secrets stay there"
    )
    prefix: Annotated[str, Field(max_length=64, pattern=PREFIX_PATTERN)] = Field(
        default="", description="put before every topic's name"
    )
    account_partition: Annotated[int, Field(ge=0, le=9999)] = Field(
        description="of this account in the topics of accounts; no two accounts share one"
    )
    account_partitions: Annotated[int, Field(ge=1, le=10_000)] = Field(
        description="partitions of journal, orders, decisions and alerts"
    )
    bars_partitions: Annotated[int, Field(ge=1, le=10_000)] = Field(description="partitions of bars")
    replication_factor: Annotated[int, Field(ge=1, le=9)] = Field(description="copies of every partition")

    @model_validator(mode="after")
    def _own_partition(self) -> Self:
        if self.account_partition >= self.account_partitions:
            raise ValueError(
                f"account_partition: {self.account_partition} is not one of account_partitions, "
                f"{self.account_partitions}; the first is 0"
            )
        return self


class Metrics(Section):
    """Figures over HTTP, for Prometheus."""

    host: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="address to listen on; the default is for this machine only"
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(description="0 takes any that is free")


NO_DECISION = {"kafka", "metrics"}
"""Sections that say where things are, and decide nothing: no part of `Config.hash`."""


class Config(Section):
    """All of it."""

    account: Account
    calendar: Calendar
    bars: Bars
    instruments: tuple[Name, ...] = Field(min_length=1, max_length=1000)
    modules: tuple[str, ...] = Field(
        default=(), description="Python modules that register strategies of your own"
    )
    families: tuple[Family, ...] = ()
    strategies: tuple[Strategy, ...] = Field(min_length=1, max_length=64)
    allocation: Allocation
    gates: Gates
    breakers: Breakers
    orders: Orders
    venue: PaperVenue
    control: Control = Control()
    live: Live | None = None
    kafka: Kafka | None = None
    metrics: Metrics | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _distinct("instruments", self.instruments)
        _distinct("families", [f.name for f in self.families])
        _distinct("strategies", [s.name for s in self.strategies])
        seen: dict[str, str] = {}
        for family in self.families:
            for symbol in {t.instrument for t in (*family.bull, *family.bear)}:
                if symbol not in self.instruments:
                    raise ValueError(f"families.{family.name}: {symbol!r} is not in instruments")
                if symbol in seen:
                    raise ValueError(
                        f"families.{family.name}: {symbol!r} is already in family {seen[symbol]!r}"
                    )
                seen[symbol] = family.name
        for s in self.strategies:
            for symbol in s.signals:
                if symbol not in self.instruments:
                    raise ValueError(f"strategies.{s.name}.signals: {symbol!r} is not in instruments")
            if s.family is not None and s.family not in {f.name for f in self.families}:
                raise ValueError(f"strategies.{s.name}.family: {s.family!r} is not in families")
            if s.family is not None and len(s.signals) != 1:
                raise ValueError(
                    f"strategies.{s.name}.signals: a strategy on a family reads exactly one instrument"
                )
            if micro(s.capital_share) < len(s.signals):
                raise ValueError(
                    f"strategies.{s.name}.capital_share: {s.capital_share} over {len(s.signals)} signals "
                    f"leaves less than a millionth each"
                )
        session = self.gates.session
        needed = session.flat_by_seconds + 3 * self.bars.interval_seconds
        if session.exits_begin_minutes * 60 < needed:
            raise ValueError(
                f"gates.session.exits_begin_minutes: {session.exits_begin_minutes} is too late; a "
                f"cancel, what it leaves and an exit take three bars before flat_by_seconds: at least "
                f"{-(-needed // 60)}"
            )
        needed = session.flat_by_seconds + self.bars.interval_seconds
        if session.force_minutes * 60 < needed:
            raise ValueError(
                f"gates.session.force_minutes: {session.force_minutes} is too late; an exit takes one bar "
                f"before flat_by_seconds: at least {-(-needed // 60)}"
            )
        if self.breakers.exit_failure.no_progress_seconds < self.bars.interval_seconds:
            raise ValueError(
                f"breakers.exit_failure.no_progress_seconds: "
                f"{self.breakers.exit_failure.no_progress_seconds} is less than a bar, "
                f"{self.bars.interval_seconds}"
            )
        total = sum(s.capital_share for s in self.strategies)
        if total > 1:
            raise ValueError(f"strategies: capital_share adds up to {total}; at most 1 is allowed")
        return self

    @property
    def interval_ns(self) -> int:
        return self.bars.interval_seconds * NS

    @property
    def hash(self) -> str:
        """SHA-256 of the meaning of the file: comments, layout, order of keys, ways to write a number and the
        sections `NO_DECISION` do not count.
        """
        meaning = json.dumps(self.model_dump(exclude=NO_DECISION), sort_keys=True, default=_plain)
        return hashlib.sha256(meaning.encode()).hexdigest()


def _plain(value: object) -> str:
    """Dates and decimals, each with one text."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _distinct(key: str, names: "tuple[str, ...] | list[str]") -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"{key}: {', '.join(twice)} given twice")


def micro(value: Decimal) -> int:
    """Millionths, towards minus infinity: a limit never grows by rounding."""
    return int((value * MICRO).to_integral_value(ROUND_FLOOR))


def _expected(loc: tuple[int | str, ...]) -> tuple[Any, list[Any], str]:
    """What belongs at a location of a configuration: (type or None, its constraints, description)."""
    expected: Any = Config
    constraints: list[Any] = []
    description = ""
    for step in loc:
        section = _section(expected)
        if section is not None:
            field = section.model_fields.get(str(step))
            if field is None:
                return None, [], ""
            expected, constraints, description = field.annotation, field.metadata, field.description or ""
        else:
            of_dict = isinstance(step, str)
            expected, constraints, description = get_args(expected)[of_dict], [], ""
        members = [inner for inner in get_args(expected) if inner is not type(None)]
        if type(None) in get_args(expected):
            expected = members[0]
        if get_origin(expected) is Annotated:
            expected, *more = get_args(expected)
            constraints = [c for m in more for c in (m.metadata if isinstance(m, FieldInfo) else [m])]
    return expected, constraints, description


def _section(expected: Any) -> type[BaseModel] | None:
    return expected if isinstance(expected, type) and issubclass(expected, BaseModel) else None


_TEXTS = {
    NAME_PATTERN: "letters, digits and . _ / ^ -, a letter or digit first",
    PREFIX_PATTERN: "letters, digits and . _ -",
    CURRENCY_PATTERN: "three to five capital letters",
}


def _allowed(expected: Any, constraints: list[Any]) -> str:
    """A type and its constraints in plain words."""
    found = {
        name: getattr(item, name)
        for item in constraints
        for name in ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "decimal_places")
        if getattr(item, name, None) is not None
    }
    bounds = [
        f"{words} {found[name]:,}"
        for name, words in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
        if name in found
    ]
    if get_origin(expected) is Literal:
        return " or ".join(repr(choice) for choice in get_args(expected))
    if get_origin(expected) is tuple:
        sizes = [f"at least {found['min_length']}"] if "min_length" in found else []
        sizes += [f"at most {found['max_length']:,}"] if "max_length" in found else []
        return f"a list of {' and '.join(sizes)}" if sizes else "a list"
    if expected is Decimal:
        places = f", to {found['decimal_places']} decimal places" if "decimal_places" in found else ""
        return f"a number, {' and '.join(bounds)}{places}" if bounds else "a finite number"
    if expected is int:
        return f"a whole number, {' and '.join(bounds)}"
    if expected is dt.date:
        return "a date such as 2026-01-31"
    if expected is str:
        least, most = found.get("min_length", 0), found.get("max_length")
        lengths = f" of {least} to {most} characters" if most else ""
        pattern = f": {_TEXTS[found['pattern']]}" if "pattern" in found else ""
        return f"a text{lengths}{pattern}"
    return "a section of keys and values"


def _shown(value: object) -> str:
    """A value of the file for people, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    return str(value)[:40].lower()


def _key(data: Any, loc: tuple[int | str, ...]) -> str:
    """A location with the items of lists called by their name where they have one."""
    steps = []
    for step in loc:
        inner = data[step] if isinstance(data, tuple) and isinstance(step, int) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        steps.append(name if isinstance(name, str) and 0 < len(name) <= 32 else str(step))
        data = data.get(step) if isinstance(data, dict) else inner
    return ".".join(steps)


def _explain(where: str, data: Any, error: ValidationError) -> str:
    """One line an error: the file, the key, the value and what is allowed."""
    lines = []
    errors = error.errors(include_url=False)
    for item in errors:
        loc = item["loc"]
        if item["type"] == "too_short" and any(e["loc"][: len(loc)] == loc != e["loc"] for e in errors):
            continue  # the list is only short of its wrong items
        key = _key(data, loc)
        expected, constraints, description = _expected(loc)
        about = f" ({description})" if description else ""
        match item["type"]:
            case "extra_forbidden":
                section = _section(_expected(loc[:-1])[0])
                known = ", ".join(section.model_fields) if section else "none"
                problem = f"unknown key; known here: {known}"
            case "missing":
                problem = f"missing and has no default; must be {_allowed(expected, constraints)}{about}"
            case "value_error":
                problem = str(item["ctx"]["error"])
            case _:
                shown = _shown(item["input"])
                problem = f"{shown} is not allowed; must be {_allowed(expected, constraints)}{about}"
        lines.append(": ".join(part for part in (where, key, problem) if part))
    return "\n".join(lines)


def _tuples(value: Any) -> Any:
    """TOML arrays as tuples, which the models hold."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def parse_config(data: Mapping[str, Any], where: str = "configuration") -> Config:
    """A configuration from a mapping. Raises `ConfigError`."""
    values = _tuples(dict(data))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(where, values, error)) from None


T = TypeVar("T")


def read_toml(text: str, where: str, parse: Callable[[Mapping[str, Any], str], T]) -> T:
    """Parse TOML with exact decimals, then `parse` it. Raises `ConfigError`."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    except (ValueError, InvalidOperation):
        raise ConfigError(f"{where}: not valid TOML: a number has too many digits") from None
    return parse(data, where)
