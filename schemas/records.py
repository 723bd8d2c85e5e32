"""Every record of Sluice, defined once.

A record is a pydantic model: that is its JSON form. The same field annotations give its fixed-width numpy
form, in which kernels read and write it, and its Arrow form, in which it is kept and shown:

| annotation | JSON | kernel (int64) | Arrow |
|---|---|---|---|
| `TimeNs` | integer, ns UTC | the same | timestamp[ns, UTC] |
| `Money` | decimal string | millionths | decimal128(18, 6) |
| `Lots`, `Count` | integer | the same | int64 |
| `Symbol`, `StrategyName` | string | index in `Names`, -1 for none | dictionary of strings |
| an enumeration | lower-case name | its code | dictionary of strings |
| `OrderId` | string | not stored: a function of the other fields | string |
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from schemas import codes

MICRO = 1_000_000
"""Money is kept in millionths of the account's currency."""

MAX_INT = 2**63 - 1
MAX_MICRO = 10**18


@dataclass(frozen=True, slots=True)
class Kind:
    """How a field is stored; see the table above."""

    name: Literal["time", "money", "integer", "symbol", "strategy", "enum", "order_id"]


_DECIMAL = re.compile(r"-?[0-9]{1,13}(\.[0-9]{1,6})?")


def _exact(value: object) -> object:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    if isinstance(value, Decimal):
        return value
    raise ValueError('money is a decimal string such as "-12.5", with six places at most')


def _code(kind: type[IntEnum]) -> Any:
    """Annotation of an enumeration: its lower-case name in JSON, the member in Python."""
    names = {member.name.lower(): member for member in kind}

    def parse(value: object) -> IntEnum:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and value in names:
            return names[value]
        if isinstance(value, str):
            known = {"known": ", ".join(names)}
            raise PydanticCustomError("unknown_enum", "not one of {known}", known)
        raise ValueError(f"a name is needed, one of {', '.join(names)}")

    return Annotated[kind, Kind("enum"), BeforeValidator(parse), PlainSerializer(lambda m: m.name.lower())]


TimeNs = Annotated[int, Kind("time"), Field(ge=0, le=MAX_INT)]
Money = Annotated[
    Decimal,
    Kind("money"),
    BeforeValidator(_exact),
    Field(max_digits=18, decimal_places=6, allow_inf_nan=False),
    PlainSerializer(lambda d: f"{d:z.6f}"),  # one text for one value
]
Lots = Annotated[int, Kind("integer"), Field(ge=-MAX_INT, le=MAX_INT)]
Count = Annotated[int, Kind("integer"), Field(ge=-MAX_INT, le=MAX_INT)]
Symbol = Annotated[str, Kind("symbol"), Field(max_length=32)]
StrategyName = Annotated[str, Kind("strategy"), Field(max_length=64)]
OrderId = Annotated[str, Kind("order_id"), Field(max_length=128)]


class Record(BaseModel):
    """Base of all records: strict, closed, immutable. A new major `VERSION` refuses the old wire form."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    VERSION: ClassVar[int] = 1


class Bar(Record):
    """One bar. `start_ns <= t < end_ns`; prices in the account's currency, volume in units traded."""

    symbol: Annotated[str, Field(min_length=1, max_length=32)]
    start_ns: TimeNs
    end_ns: TimeNs
    open: float
    high: float
    low: float
    close: float
    volume: float
    source: Annotated[str, Field(max_length=64)] = ""


class Tick(Record):
    """The clock says that event time has reached `time_ns`."""

    time_ns: TimeNs


class Signal(Record):
    """One strategy's filtered signal: `value` in millionths, from -1,000,000, fully short, to 1,000,000,
    fully long.
    """

    value: Annotated[int, Field(ge=-MICRO, le=MICRO)]
    verdict: _code(codes.Verdict)  # type: ignore[valid-type]


class MarketSlice(Record):
    """Marks and filtered signals of one symbol at one bar end."""

    instrument: Symbol
    time_ns: TimeNs
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Lots
    signals: dict[str, Signal]


class Order(Record):
    """An order request, or a request to cancel one.

    `client_order_id` names the order for ever; `order_ns` (the bar end it was decided on), `intent` and
    `attempt` are its parts. `limit_price` 0 is a market order. `reference_price` is the close it was decided
    on. From `expires_ns` on the venue ends it; 0 is the end of the session.
    """

    sequence: Count
    time_ns: TimeNs
    kind: _code(codes.OrderKind)  # type: ignore[valid-type]
    client_order_id: OrderId
    instrument: Symbol
    strategy: StrategyName
    order_ns: TimeNs
    intent: _code(codes.Intent)  # type: ignore[valid-type]
    attempt: Count
    side: _code(codes.Side)  # type: ignore[valid-type]
    quantity: Lots
    limit_price: Money
    reference_price: Money
    expires_ns: TimeNs
    decision: Count


class Report(Record):
    """What a venue reports to the journal; `time_ns` is when it happened there.

    `execution_id` names it for ever: a number, or the first 63 bits of the SHA-256 of a venue's own text.
    `reference_id` is the fill that a bust undoes, else 0. `cumulative` is what the venue says has filled of
    the order so far. `quantity`, `price` (of one lot) and `fee` (of all of it) are those of a fill or a bust;
    a `FEE` uses `fee` alone, a `POSITION` statement `quantity`, a `CASH` statement `price`. `reference_price`
    is the price without spread and slippage, 0 where the venue does not know.
    """

    kind: _code(codes.ExecutionKind)  # type: ignore[valid-type]
    time_ns: TimeNs
    execution_id: Count
    reference_id: Count
    client_order_id: OrderId
    instrument: Symbol
    order_ns: TimeNs
    intent: _code(codes.Intent)  # type: ignore[valid-type]
    attempt: Count
    side: _code(codes.Side)  # type: ignore[valid-type]
    quantity: Lots
    price: Money
    reference_price: Money
    fee: Money
    cumulative: Lots


class Execution(Record):
    """A report that the account applied: it moved a position or cash, or ended an order. `time_ns` is when it
    happened, `known_ns` when the account learned it.

    `reference_price` is the price without spread and slippage. `position` and `cash` are the account's after
    applying it. `late`: the order had ended and nothing announced it, or it is not ours.
    """

    number: Count
    execution_id: Count
    reference_id: Count
    time_ns: TimeNs
    known_ns: TimeNs
    kind: _code(codes.ExecutionKind)  # type: ignore[valid-type]
    client_order_id: OrderId
    instrument: Symbol
    order_ns: TimeNs
    intent: _code(codes.Intent)  # type: ignore[valid-type]
    attempt: Count
    side: _code(codes.Side)  # type: ignore[valid-type]
    quantity: Lots
    price: Money
    reference_price: Money
    fee: Money
    cumulative: Lots
    leaves: Lots
    late: Count
    position: Lots
    cash: Money


class Decision(Record):
    """What a stage decided about one instrument, with the numbers it decided on.

    `target` and `approved` are absolute positions. `observed` and `limit` are the two numbers that were
    compared; their unit is the stage's: lots, millionths of currency, nanoseconds or a count.
    """

    sequence: Count
    time_ns: TimeNs
    instrument: Symbol
    strategy: StrategyName
    stage: _code(codes.Stage)  # type: ignore[valid-type]
    outcome: _code(codes.Outcome)  # type: ignore[valid-type]
    reason: _code(codes.Reason)  # type: ignore[valid-type]
    target: Lots
    approved: Lots
    position: Lots
    reference_price: Money
    observed: Count
    limit: Count


class Alert(Record):
    """Something the owner must know. `breaker` counts where `kind` is about one. `observed` and `limit` are
    the numbers behind it; `AlertKind` says which.
    """

    sequence: Count
    time_ns: TimeNs
    kind: _code(codes.AlertKind)  # type: ignore[valid-type]
    breaker: _code(codes.Breaker)  # type: ignore[valid-type]
    instrument: Symbol
    strategy: StrategyName
    observed: Count
    limit: Count


class Equity(Record):
    """The account at one bar end, marked at the last closes. `costs` is spread and slippage paid so far."""

    time_ns: TimeNs
    cash: Money
    position_value: Money
    equity: Money
    realised_pnl: Money
    fees: Money
    costs: Money


class Refusal(Record):
    """A dead letter: what was refused, where it stood, and why. `partition` and `offset` are -1 where they
    are not known any more; `record` is the refused bytes, or fields, in base64.
    """

    topic: Annotated[str, Field(max_length=249)]
    partition: Count
    offset: Count
    reason: _code(codes.DeadLetter)  # type: ignore[valid-type]
    symbol: str
    record: str


@dataclass(frozen=True, slots=True)
class Names:
    """What the indices of the fixed-width form stand for."""

    account: str
    instruments: tuple[str, ...]
    strategies: tuple[str, ...]


def kind_of(annotation: Any, metadata: Sequence[Any]) -> Kind | None:
    """The storage kind of a model field."""
    for item in (*metadata, *(get_args(annotation)[1:] if get_origin(annotation) is Annotated else ())):
        if isinstance(item, Kind):
            return item
    return None


@cache
def fields_of(model: type[Record]) -> tuple[tuple[str, Kind, type[IntEnum] | None], ...]:
    """(name, kind, enumeration or None) of every field, in order; all must have a storage kind."""
    rows: list[tuple[str, Kind, type[IntEnum] | None]] = []
    for name, info in model.model_fields.items():
        kind = kind_of(info.annotation, info.metadata)
        if kind is None:
            raise TypeError(f"{model.__name__}.{name} has no fixed-width form")
        member = info.annotation
        rows.append(
            (name, kind, member if isinstance(member, type) and issubclass(member, IntEnum) else None)
        )
    return tuple(rows)


@cache
def dtype_of(model: type[Record]) -> np.dtype[Any]:
    """Fixed-width form: every stored field an int64, little-endian, without padding."""
    return np.dtype([(name, "<i8") for name, kind, _ in fields_of(model) if kind.name != "order_id"])


@cache
def arrow_schema_of(model: type[Record]) -> pa.Schema:
    """Arrow form."""
    text = pa.dictionary(pa.int32(), pa.string())
    types = {
        "time": pa.timestamp("ns", "UTC"),
        "money": pa.decimal128(18, 6),
        "integer": pa.int64(),
        "symbol": text,
        "strategy": text,
        "enum": text,
        "order_id": pa.string(),
    }
    return pa.schema([pa.field(name, types[kind.name], nullable=False) for name, kind, _ in fields_of(model)])


def _micro_to_decimal(values: NDArray[np.int64]) -> pa.Array:
    """Millionths as decimal128(18, 6): the same 64 bits, sign-extended. Raises OverflowError beyond it."""
    if len(values) and max(values.max(), -values.min()) >= MAX_MICRO:
        raise OverflowError(f"money of {max(values.max(), -values.min())} millionths has more than 18 digits")
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = values
    words[:, 1] = values >> 63
    return pa.Decimal128Array.from_buffers(pa.decimal128(18, 6), len(values), [None, pa.py_buffer(words)])


def _named(indices: NDArray[np.int64], names: Sequence[str]) -> pa.Array:
    """Indices as a dictionary of names. Raises ArrowIndexError for an index without a name."""
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(names, pa.string()))


def _named_or_none(indices: NDArray[np.int64], names: Sequence[str]) -> pa.Array:
    """The same, where -1 stands for none, the empty name."""
    return _named(indices + 1, ["", *names])


def order_ids(rows: NDArray[Any], names: Names) -> pa.Array:
    """Client order ids: ACCOUNT-SYMBOL-NANOSECONDS-INTENT-ATTEMPT, a pure function of the decision behind the
    order.
    """
    import pyarrow.compute as pc

    symbols = _named_or_none(rows["instrument"], names.instruments).cast(pa.string())
    intents = _named(rows["intent"], [m.name.lower() for m in codes.Intent]).cast(pa.string())
    return pc.binary_join_element_wise(
        names.account,
        symbols,
        pa.array(rows["order_ns"]).cast(pa.string()),
        intents,
        pa.array(rows["attempt"]).cast(pa.string()),
        "-",
    )


def order_id_texts(rows: NDArray[Any], names: Names) -> list[str]:
    """The same as texts, which a few rows get sooner than as an Arrow array."""
    instruments = (*names.instruments, "")  # -1 is none
    fields = (rows[name].tolist() for name in ("instrument", "order_ns", "intent", "attempt"))
    return [
        f"{names.account}-{instruments[instrument]}-{order_ns}-{codes.Intent(intent).name.lower()}-{attempt}"
        for instrument, order_ns, intent, attempt in zip(*fields, strict=True)
    ]


def to_arrow(model: type[Record], rows: NDArray[Any], names: Names) -> pa.Table:
    """Fixed-width rows as an Arrow table."""
    columns = []
    for name, kind, enumeration in fields_of(model):
        match kind.name:
            case "order_id":
                columns.append(order_ids(rows, names))
                continue
            case "symbol":
                column = _named_or_none(rows[name], names.instruments)
            case "strategy":
                column = _named_or_none(rows[name], names.strategies)
            case "enum":
                assert enumeration is not None
                column = _named(rows[name], [member.name.lower() for member in enumeration])
            case "money":
                column = _micro_to_decimal(rows[name])
            case "time":
                column = pa.array(np.ascontiguousarray(rows[name]).view("M8[ns]"), pa.timestamp("ns", "UTC"))
            case _:
                column = pa.array(rows[name])
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=arrow_schema_of(model))
