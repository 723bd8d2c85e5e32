"""The fast parser of bars against the strict decoder: the same fields, bit for bit, or it leaves a record."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.bar_parser import LEFT, BarParser
from flows.publish import bar_bytes
from schemas.codecs import decode, encode
from schemas.records import Bar

SYMBOLS = ("QQQ", "TQQQ", "BRK.B", "Ä", 'a"b', "x" * 33)
PARSER = BarParser(SYMBOLS)
START = 1_732_631_400_000_000_000
GOOD: dict[str, Any] = {
    "symbol": "QQQ",
    "start_ns": START,
    "end_ns": START + 60_000_000_000,
    "open": 100.25,
    "high": 101.0,
    "low": 0.07,
    "close": 100.3,
    "volume": 12_345.0,
    "source": "synthetic, nan",
}
WIRE = bar_bytes(GOOD)


def fields(start_ns: int, end_ns: int, numbers: Any) -> tuple[int, int, bytes]:
    return int(start_ns), int(end_ns), struct.pack("<5d", *numbers)


def agrees(value: bytes, symbol: str = "QQQ") -> bool:
    """Whether the parser read the record; if so, it must have read what `decode` does."""
    (index,), times, prices = PARSER.parse([symbol.encode()], [value])
    if index == LEFT:
        return False
    bar = decode(Bar, value)
    assert isinstance(bar, Bar), bar
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    assert SYMBOLS[index] == bar.symbol == symbol
    assert fields(*times[:, 0], prices[:, 0]) == fields(bar.start_ns, bar.end_ns, numbers)
    return True


def with_text(name: str, text: str) -> bytes:
    """The good bar with `text` as the value of a field, as it stands."""
    parts = [f'"{key}":{text if key == name else json.dumps(value)}' for key, value in GOOD.items()]
    return f'{{"type":"bar","version":1,{",".join(parts)}}}'.encode()


def test_what_is_written_is_read() -> None:
    assert agrees(WIRE)
    assert agrees(encode(Bar(**GOOD)))
    for symbol in SYMBOLS[:-1]:
        assert agrees(encode(Bar(**GOOD | {"symbol": symbol})), symbol)


def test_a_field_that_is_added_or_renamed_in_the_record_is_noticed_here() -> None:
    assert encode(Bar(**GOOD)) == WIRE


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("open", text)
            for text in ("1", "-1.0", "-0.0", "01.0", "1.", ".5", "1.0e5", "1e5", "+1.0", "NaN")
        ),
        *(
            ("volume", text)
            for text in ("Infinity", "null", '"1.0"', "9007199254740992.0", "1.5.5", "", "1.0 ")
        ),
        *(("low", text) for text in ("0.12345678901234567", "00.5", "1" * 400 + ".0", "0." + "0" * 400)),
        *(
            ("start_ns", text)
            for text in ("-1", "00", "1.0", "9223372036854775808", "9" * 30, "", "null", "+1")
        ),
        *(
            ("source", text)
            for text in ('"a\\"b"', '"\\u0041"', '"ä"', f'"{"x" * 65}"', "null", '"\t"', '"\x7f"')
        ),
        *(("symbol", text) for text in ('"TQQQ"', '"QQ"', '"QQQQ"', '"\\u0051QQ"', "null", "QQQ")),
    ],
)
def test_what_is_not_plain_is_left(name: str, text: str) -> None:
    assert not agrees(with_text(name, text))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        WIRE[:-1],
        WIRE + b" ",
        WIRE + WIRE,
        b" " + WIRE,
        b"\xef\xbb\xbf" + WIRE,
        WIRE.replace(b'"version":1', b'"version":2'),
        WIRE.replace(b'"bar"', b'"tick"'),
        WIRE.replace(b'"open"', b'"Open"'),
        WIRE.replace(b":", b": "),
        WIRE.replace(b'"source"', b'"source":"a","source"'),
    ],
)
def test_other_forms_are_left(value: bytes) -> None:
    assert value != WIRE
    assert not agrees(value)


def test_no_value_no_key_and_another_key_are_left() -> None:
    symbols, _, _ = PARSER.parse([b"QQQ", None, b"TQQQ", b"XXXX", b"QQQ"], [None, WIRE, WIRE, WIRE, WIRE])
    assert symbols.tolist() == [LEFT, LEFT, LEFT, LEFT, 0]
    assert [len(column) for column in PARSER.parse([], [])] == [0, 2, 5]


@pytest.mark.parametrize("text", ["0", "1", "8999999999999999999", "899999999999999999"])
def test_times_are_read_up_to_the_year_2255(text: str) -> None:
    assert agrees(with_text("end_ns", text))


@pytest.mark.parametrize(
    "text", ["0.0", "0.1", "9007199254740.991", "0.000000000000000", "1.50", "450359.9627370495"]
)
def test_decimals_are_read_to_the_last_bit(text: str) -> None:
    assert agrees(with_text("high", text))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_as_it_is_written(number: float) -> None:
    agrees(bar_bytes(GOOD | {"close": number}))


@given(st.integers(0, 10**17), st.integers(0, 18))
def test_any_digits_with_a_point(digits: int, places: int) -> None:
    text = f"{digits:0{places + 1}d}"
    agrees(with_text("close", f"{text[: len(text) - places]}.{text[len(text) - places :]}"))


@given(st.floats(0.01, 1e6), st.integers(0, 6))
def test_prices_of_six_places_are_read(number: float, places: int) -> None:
    assert agrees(bar_bytes(GOOD | {"open": round(number, places)})) or "e" in repr(round(number, places))


PIECES = st.sampled_from(
    [
        b'"',
        b"{",
        b"}",
        b",",
        b":",
        b".",
        b"0",
        b"9",
        b"-",
        b"e",
        b" ",
        b"\\",
        b"\x00",
        b"\xff",
        b"QQQ",
        b"null",
        b"NaN",
    ]
)


@given(
    st.lists(
        st.tuples(st.integers(0, len(WIRE)), st.integers(0, 4), PIECES | st.binary(max_size=3)), max_size=3
    )
)
def test_damaged_records_are_left_or_read_as_they_are_decoded(damage: list[tuple[int, int, bytes]]) -> None:
    value = WIRE
    for at, length, piece in damage:
        value = value[:at] + piece + value[at + length :]
    agrees(value)


@given(st.binary(max_size=300))
def test_any_bytes_are_left(value: bytes) -> None:
    assert not agrees(value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"QQQ", b"TQQQ", b"X", None]), st.sampled_from([WIRE, WIRE[:-1], b"", None])
        )
    )
)
def test_records_do_not_depend_on_those_beside_them(
    messages: list[tuple[bytes | None, bytes | None]],
) -> None:
    keys, values = [key for key, _ in messages], [value for _, value in messages]
    symbols, times, prices = PARSER.parse(keys, values)
    alone = [PARSER.parse([key], [value]) for key, value in messages]
    assert symbols.tolist() == [int(one[0][0]) for one in alone]
    read = np.flatnonzero(symbols != LEFT)
    assert all(
        (times[:, k] == alone[k][1][:, 0]).all() and (prices[:, k] == alone[k][2][:, 0]).all() for k in read
    )
