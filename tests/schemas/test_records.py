"""One definition gives the model, the fixed-width form and the Arrow form of every stored record."""

from decimal import Decimal
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas import codes
from schemas.records import (
    MAX_INT,
    Alert,
    Decision,
    Equity,
    Execution,
    Names,
    Order,
    Record,
    Report,
    Tick,
    arrow_schema_of,
    dtype_of,
    fields_of,
    to_arrow,
)

STORED: list[type[Record]] = [Order, Report, Execution, Decision, Alert, Equity, Tick]
NAMES = Names("demo", ("QQQ", "SQQQ"), ("sigor", "plain"))


def zeros(model: type[Record], n: int) -> np.ndarray[Any, Any]:
    return np.zeros(n, dtype_of(model))


def column(model: type[Record], rows: np.ndarray[Any, Any], name: str) -> list[Any]:
    found = to_arrow(model, rows, NAMES).column(name)
    values: list[Any] = (found.cast(pa.int64()) if pa.types.is_timestamp(found.type) else found).to_pylist()
    return values


@pytest.mark.parametrize("model", STORED)
def test_model_rows_and_arrow_have_the_same_fields_in_the_same_order(model: type[Record]) -> None:
    names = list(model.model_fields)
    assert arrow_schema_of(model).names == names
    derived = [name for name, kind, _ in fields_of(model) if kind.name == "order_id"]
    assert list(dtype_of(model).names or ()) == [name for name in names if name not in derived]
    assert derived == [name for name in names if name == "client_order_id"]


@pytest.mark.parametrize("model", STORED)
def test_rows_are_little_endian_64_bit_integers_without_padding(model: type[Record]) -> None:
    dtype = dtype_of(model)
    assert {dtype[name].str for name in dtype.names or ()} == {"<i8"}
    assert dtype.itemsize == 8 * len(dtype.names or ())


@pytest.mark.parametrize("model", STORED)
def test_every_field_is_stored_as_its_kind_says(model: type[Record]) -> None:
    text = pa.dictionary(pa.int32(), pa.string())
    expected = {
        "time": pa.timestamp("ns", "UTC"),
        "money": pa.decimal128(18, 6),
        "integer": pa.int64(),
        "symbol": text,
        "strategy": text,
        "enum": text,
        "order_id": pa.string(),
    }
    annotations = {Decimal: {"money"}, int: {"time", "integer"}, str: {"symbol", "strategy", "order_id"}}
    for name, kind, enumeration in fields_of(model):
        assert arrow_schema_of(model).field(name).type == expected[kind.name]
        assert not arrow_schema_of(model).field(name).nullable
        annotation = model.model_fields[name].annotation
        if kind.name == "enum":
            assert annotation is enumeration
        else:
            assert kind.name in annotations[annotation]  # type: ignore[index]


@pytest.mark.parametrize("model", STORED)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_arrow_has_a_row_for_each_row_and_the_declared_schema(model: type[Record], n: int) -> None:
    table = to_arrow(model, zeros(model, n), NAMES)
    assert table.num_rows == n
    assert table.schema == arrow_schema_of(model)
    table.validate(full=True)


@pytest.mark.parametrize(
    ("millionths", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (1_500_000, "1.500000"),
        (-123_456_789, "-123.456789"),
        (10**18 - 1, "999999999999.999999"),
        (1 - 10**18, "-999999999999.999999"),
    ],
)
def test_money_in_arrow_is_exact(millionths: int, text: str) -> None:
    rows = zeros(Equity, 2)
    rows["cash"][1] = millionths
    assert [str(value) for value in column(Equity, rows, "cash")] == ["0.000000", text]


def test_index_minus_one_is_the_empty_name() -> None:
    rows = zeros(Decision, 3)
    rows["instrument"] = [-1, 0, 1]
    rows["strategy"] = [1, -1, 0]
    assert column(Decision, rows, "instrument") == ["", "QQQ", "SQQQ"]
    assert column(Decision, rows, "strategy") == ["plain", "", "sigor"]


def test_times_keep_their_nanoseconds() -> None:
    times = [0, 1, 1_751_549_400_000_000_001, MAX_INT]
    rows = zeros(Tick, 4)
    rows["time_ns"] = times
    assert column(Tick, rows, "time_ns") == times


def test_columns_of_a_strided_slice_are_read_correctly() -> None:
    rows = zeros(Equity, 6)
    rows["time_ns"] = range(6)
    rows["cash"] = np.arange(6) * -1_000_000
    assert column(Equity, rows[1::2], "time_ns") == [1, 3, 5]
    assert column(Equity, rows[1::2], "cash") == [Decimal(-1), Decimal(-3), Decimal(-5)]


def test_client_order_id_names_account_symbol_time_intent_and_attempt() -> None:
    rows = zeros(Order, 2)
    rows["instrument"] = [1, 0]
    rows["order_ns"] = [1_751_549_400_000_000_000, 7]
    rows["intent"] = [codes.Intent.ENTRY, codes.Intent.EXIT]
    rows["attempt"] = [0, 2]
    assert column(Order, rows, "client_order_id") == [
        "demo-SQQQ-1751549400000000000-entry-0",
        "demo-QQQ-7-exit-2",
    ]


@pytest.mark.parametrize("model", STORED)
def test_every_member_of_every_enumeration_is_stored_by_its_name(model: type[Record]) -> None:
    for name, kind, enumeration in fields_of(model):
        if kind.name != "enum":
            continue
        assert enumeration is not None
        rows = zeros(model, len(enumeration))
        rows[name] = list(enumeration)
        assert column(model, rows, name) == [member.name.lower() for member in enumeration]


def test_codes_count_up_from_zero_and_have_distinct_wire_names() -> None:
    enumerations = [
        e for e in vars(codes).values() if isinstance(e, type) and issubclass(e, IntEnum) and e is not IntEnum
    ]
    assert len(enumerations) >= 10
    for enumeration in enumerations:
        assert [int(member) for member in enumeration] == list(range(len(enumeration)))
        assert len({member.name.lower() for member in enumeration}) == len(enumeration)


def test_a_field_without_a_storage_kind_is_refused() -> None:
    class Loose(Record):
        note: str

    with pytest.raises(TypeError, match=r"Loose\.note has no fixed-width form"):
        dtype_of(Loose)


@pytest.mark.parametrize("model", STORED)
def test_records_are_closed_strict_and_immutable(model: type[Record]) -> None:
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["strict"] is True
    assert model.model_config["frozen"] is True
    assert all(field.is_required() for field in model.model_fields.values())
