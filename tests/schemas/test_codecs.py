"""Every fault of a record on the wire has its reason, arbitrary bytes never raise, and the forms of a record
agree.
"""

import json
import tracemalloc
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codes
from schemas.codecs import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DETAIL,
    Refused,
    decode,
    encode,
    from_rows,
    to_rows,
    type_tag,
)
from schemas.codes import DeadLetter
from schemas.records import (
    MAX_INT,
    Alert,
    Bar,
    Decision,
    Equity,
    Execution,
    MarketSlice,
    Names,
    Order,
    Record,
    Report,
    Signal,
    Tick,
    dtype_of,
    fields_of,
    to_arrow,
)

NAMES = Names("demo", ("QQQ", "SQQQ"), ("sigor", "plain"))
STORED: list[type[Record]] = [Order, Report, Execution, Decision, Alert, Equity, Tick]
ALL: list[type[Record]] = [Bar, MarketSlice, *STORED]
TIME = 1_751_549_400_000_000_000

BAR: dict[str, Any] = {
    "type": "bar",
    "version": 1,
    "symbol": "QQQ",
    "start_ns": TIME,
    "end_ns": TIME + 60_000_000_000,
    "open": 100.25,
    "high": 101,
    "low": 100.0,
    "close": 100.5,
    "volume": 1200.0,
    "source": "feed",
}
SLICE: dict[str, Any] = {
    "type": "market_slice",
    "version": 1,
    "instrument": "QQQ",
    "time_ns": TIME,
    "open": "100.25",
    "high": "101",
    "low": "100",
    "close": "100.5",
    "volume": 1200,
    "signals": {"sigor": {"value": -250000, "verdict": "passed"}},
}
EXECUTION: dict[str, Any] = {
    "type": "execution",
    "version": 1,
    "number": 3,
    "execution_id": 7,
    "reference_id": 0,
    "time_ns": TIME,
    "known_ns": TIME,
    "kind": "fill",
    "client_order_id": f"demo-QQQ-{TIME}-entry-0",
    "instrument": "QQQ",
    "order_ns": TIME,
    "intent": "entry",
    "attempt": 0,
    "side": "buy",
    "quantity": 10,
    "price": "100.26",
    "reference_price": "100.25",
    "fee": "0.05",
    "cumulative": 10,
    "leaves": 0,
    "late": 0,
    "position": 10,
    "cash": "-1002.65",
}
VALID: dict[type[Record], dict[str, Any]] = {Bar: BAR, MarketSlice: SLICE, Execution: EXECUTION}
ABSENT = object()


def wire(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def changed(base: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {k: v for k, v in {**base, key: value}.items() if v is not ABSENT}


def raw(key: str, text: str, base: dict[str, Any] = BAR) -> bytes:
    """A record with one value replaced by JSON text."""
    return wire(changed(base, key, "@@")).replace(b'"@@"', text.encode())


def reason(model: type[Record] | tuple[type[Record], ...], data: bytes | None) -> tuple[DeadLetter, str]:
    found = decode(model, data)
    assert isinstance(found, Refused), found
    assert 0 < len(found.detail) <= MAX_DETAIL
    return found.reason, found.detail


# --- what is read -------------------------------------------------------------------------------------------


def test_wire_form_is_compact_json_that_begins_with_type_and_version() -> None:
    record = decode(MarketSlice, wire(SLICE))
    assert isinstance(record, MarketSlice)
    assert encode(record) == (
        b'{"type":"market_slice","version":1,"instrument":"QQQ","time_ns":1751549400000000000,'
        b'"open":"100.250000","high":"101.000000","low":"100.000000","close":"100.500000","volume":1200,'
        b'"signals":{"sigor":{"value":-250000,"verdict":"passed"}}}'
    )


@pytest.mark.parametrize("model", VALID)
def test_encoded_record_is_read_back_equal(model: type[Record]) -> None:
    record = decode(model, wire(VALID[model]))
    assert isinstance(record, model)
    assert decode(model, encode(record)) == record


def test_whole_numbers_are_read_as_prices() -> None:
    bar = decode(Bar, wire(BAR))
    assert isinstance(bar, Bar)
    assert bar.high == 101.0
    assert isinstance(bar.high, float)


def test_keys_may_come_in_any_order_and_with_white_space() -> None:
    data = json.dumps(dict(reversed(BAR.items())), indent=2).encode() + b"\n"
    assert decode(Bar, data) == decode(Bar, wire(BAR))


def test_text_outside_ascii_survives_escaped_or_not() -> None:
    bar = decode(Bar, wire({**BAR, "source": "börse 𝄞"}))
    assert isinstance(bar, Bar)
    assert "börse 𝄞".encode() in encode(bar)
    assert decode(Bar, json.dumps({**BAR, "source": "börse 𝄞"}).encode()) == bar


def test_brackets_and_quotes_inside_texts_are_no_nesting() -> None:
    bar = decode(Bar, wire({**BAR, "source": '[[[["{{{{\\[[[['}))
    assert isinstance(bar, Bar)


def test_one_of_several_types_is_chosen_by_its_tag() -> None:
    assert isinstance(decode((Tick, MarketSlice), wire(SLICE)), MarketSlice)
    assert decode((Tick, MarketSlice), b'{"type":"tick","version":1,"time_ns":5}') == Tick(time_ns=5)


@pytest.mark.parametrize("model", ALL)
def test_no_field_of_a_record_hides_the_tag(model: type[Record]) -> None:
    assert not {"type", "version"} & set(model.model_fields)


def test_tags_are_distinct_and_lower_snake_case() -> None:
    expected = [
        *("bar", "market_slice", "order", "report", "execution", "decision", "alert", "equity", "tick"),
    ]
    assert [type_tag(m) for m in ALL] == expected


@pytest.mark.parametrize("text", ["0", "-0", "0.0", "-0.000000", "000"])
def test_one_amount_of_money_has_one_text(text: str) -> None:
    record = decode(MarketSlice, wire({**SLICE, "open": text}))
    assert isinstance(record, MarketSlice)
    assert b'"open":"0.000000"' in encode(record)


def test_record_too_long_for_any_reader_is_not_written() -> None:
    one = Signal(value=0, verdict=codes.Verdict.NEUTRAL)
    record = decode(MarketSlice, wire(SLICE))
    assert isinstance(record, MarketSlice)
    large = record.model_copy(update={"signals": {f"strategy {k}": one for k in range(3000)}})
    with pytest.raises(ValueError, match="longer than 65536"):
        encode(large)


# --- what is refused ----------------------------------------------------------------------------------------

BYTES: list[tuple[str, bytes | None, DeadLetter, str]] = [
    ("tombstone", None, DeadLetter.MALFORMED, "record: no value"),
    ("empty", b"", DeadLetter.MALFORMED, "record: an empty value"),
    ("white space", b" \n", DeadLetter.MALFORMED, "not JSON"),
    ("oversize", wire({**BAR, "source": "x" * MAX_BYTES}), DeadLetter.OVERSIZE, "at most 65536"),
    ("oversize and malformed", b"\xff" * (MAX_BYTES + 1), DeadLetter.OVERSIZE, "65537 bytes"),
    ("not UTF-8", wire(BAR).replace(b"feed", b"\xe9"), DeadLetter.MALFORMED, "not UTF-8 at byte"),
    ("UTF-16", wire(BAR).decode().encode("utf-16"), DeadLetter.MALFORMED, "not UTF-8"),
    ("overlong", wire(BAR).replace(b"feed", b"\xc0\x80"), DeadLetter.MALFORMED, "not UTF-8"),
    ("byte order mark", b"\xef\xbb\xbf" + wire(BAR), DeadLetter.MALFORMED, "byte order mark"),
    ("lone surrogate", wire(BAR).replace(b"feed", b"\xed\xa0\x80"), DeadLetter.MALFORMED, "not UTF-8"),
    ("escaped lone surrogate", raw("source", r'"\ud800"'), DeadLetter.MALFORMED, "source: a lone surrogate"),
    ("surrogates in the wrong order", raw("source", r'"\udc00\ud800"'), DeadLetter.MALFORMED, "surrogate"),
    ("surrogate in a key", wire({**BAR, "#": 1}).replace(b"#", rb"\udfff"), DeadLetter.MALFORMED, "in a key"),
    ("truncated", wire(BAR)[:-1], DeadLetter.MALFORMED, "not JSON at character"),
    ("cut in a text", wire(BAR)[:40], DeadLetter.MALFORMED, "not JSON at character"),
    ("trailing garbage", wire(BAR) + b"x", DeadLetter.MALFORMED, "not JSON at character"),
    ("two records", wire(BAR) * 2, DeadLetter.MALFORMED, "not JSON at character"),
    ("trailing zero byte", wire(BAR) + b"\0", DeadLetter.MALFORMED, "not JSON at character"),
    ("single quotes", str(BAR).encode(), DeadLetter.MALFORMED, "not JSON at character"),
    ("trailing comma", wire(BAR)[:-1] + b",}", DeadLetter.MALFORMED, "not JSON at character"),
    ("comment", b"/**/" + wire(BAR), DeadLetter.MALFORMED, "not JSON at character"),
    ("control character in a text", wire(BAR).replace(b"feed", b"\n"), DeadLetter.MALFORMED, "not JSON"),
    ("leading zero", raw("volume", "01"), DeadLetter.MALFORMED, "not JSON"),
    ("hexadecimal", raw("volume", "0x1"), DeadLetter.MALFORMED, "not JSON"),
    ("null", b"null", DeadLetter.MALFORMED, "null is not an object"),
    ("array", b"[]", DeadLetter.MALFORMED, "an array is not an object"),
    ("text", b'"bar"', DeadLetter.MALFORMED, "'bar' is not an object"),
    ("number", b"1", DeadLetter.MALFORMED, "1 is not an object"),
    ("deep arrays", b"[" * 60_000, DeadLetter.MALFORMED, "nested deeper than 8"),
    ("deep objects", b'{"a":' * 12_000, DeadLetter.MALFORMED, "nested deeper than 8"),
    ("deep in a field", raw("source", "[" * 8 + "]" * 8), DeadLetter.MALFORMED, "nested deeper than 8"),
    ("deep after a quote", raw("source", r'"\"","x":' + "[" * 8 + "]" * 8), DeadLetter.MALFORMED, "deeper"),
    ("deepest allowed", raw("source", "[" * 7 + "]" * 7), DeadLetter.WRONG_TYPE, "source: an array"),
    ("NaN", raw("open", "NaN"), DeadLetter.NOT_FINITE, "open: is not finite"),
    ("Infinity", raw("open", "Infinity"), DeadLetter.NOT_FINITE, "open: is not finite"),
    ("minus Infinity", raw("open", "-Infinity"), DeadLetter.NOT_FINITE, "open: is not finite"),
    ("1e999", raw("volume", "1e999"), DeadLetter.NOT_FINITE, "volume: is not finite"),
    ("-1e999", raw("volume", "-1e999"), DeadLetter.NOT_FINITE, "volume: is not finite"),
    ("many digits", raw("volume", "9" * 5000 + ".0"), DeadLetter.NOT_FINITE, "volume: is not finite"),
    ("NaN in an integer", raw("start_ns", "NaN"), DeadLetter.NOT_FINITE, "start_ns: is not finite"),
    ("NaN in an unknown field", raw("what", "NaN"), DeadLetter.NOT_FINITE, "what: is not finite"),
    ("key twice", wire(BAR)[:-1] + b',"open":1}', DeadLetter.DUPLICATE_KEY, "open: stands twice"),
    ("same value twice", wire(BAR)[:-1] + b',"version":1}', DeadLetter.DUPLICATE_KEY, "version: stands"),
    ("key twice, escaped", wire(BAR)[:-1] + rb',"\u006fpen":1}', DeadLetter.DUPLICATE_KEY, "open: stands"),
    ("type twice", wire(BAR)[:-1] + b',"type":"bar"}', DeadLetter.DUPLICATE_KEY, "type: stands twice"),
    ("65 bits", raw("volume", str(2**63)), DeadLetter.WRONG_TYPE, "volume: a whole number beyond 64 bits"),
    ("beyond -64 bits", raw("volume", str(-(2**63) - 1)), DeadLetter.WRONG_TYPE, "beyond 64 bits"),
    ("thousands of digits", raw("start_ns", "1" * 50_000), DeadLetter.WRONG_TYPE, "start_ns: a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected", "detail"), [b[1:] for b in BYTES], ids=[b[0] for b in BYTES])
def test_bytes_that_are_no_record_are_refused(data: bytes | None, expected: DeadLetter, detail: str) -> None:
    found, text = reason(Bar, data)
    assert found == expected
    assert detail in text


NO_MONEY = ["", "abc", "NaN", "sNaN", "-Infinity", "1e3", "1e999", "1e-99999999999999999999", "1_000", "1,5"]
NO_MONEY += [" 1", "1\n", "+1", ".5", "1.", "0x1", "\u0661", "1.0000001"]

FIELDS: list[tuple[type[Record], str, Any, DeadLetter, str]] = [
    (Bar, "open", ABSENT, DeadLetter.MISSING_FIELD, "open: is missing"),
    (Bar, "open", None, DeadLetter.MISSING_FIELD, "open: is null"),
    (Bar, "source", None, DeadLetter.MISSING_FIELD, "source: is null"),
    (Bar, "symbol", 7, DeadLetter.WRONG_TYPE, "symbol: 7: "),
    (Bar, "symbol", "", DeadLetter.WRONG_TYPE, "symbol: ''"),
    (Bar, "symbol", "x" * 33, DeadLetter.WRONG_TYPE, "symbol: 'xxx"),
    (Bar, "open", "100", DeadLetter.WRONG_TYPE, "open: '100'"),
    (Bar, "open", True, DeadLetter.WRONG_TYPE, "open: true"),
    (Bar, "open", [1.0], DeadLetter.WRONG_TYPE, "open: an array"),
    (Bar, "open", {}, DeadLetter.WRONG_TYPE, "open: an object"),
    (Bar, "start_ns", False, DeadLetter.WRONG_TYPE, "start_ns: false"),
    (Bar, "start_ns", str(TIME), DeadLetter.WRONG_TYPE, "start_ns: '1751"),
    (Bar, "start_ns", 1.0, DeadLetter.WRONG_TYPE, "start_ns: 1.0"),
    (Bar, "start_ns", -1, DeadLetter.TIME_OUT_OF_RANGE, "start_ns: -1 is before 1970"),
    (Bar, "colour", 1, DeadLetter.UNKNOWN_FIELD, "colour: is not a field of bar"),
    (Bar, "colour", None, DeadLetter.UNKNOWN_FIELD, "colour: is not a field of bar"),
    (Bar, "VERSION", 1, DeadLetter.UNKNOWN_FIELD, "VERSION: is not a field of bar"),
    (Bar, "__class__", 1, DeadLetter.UNKNOWN_FIELD, "__class__: is not a field of bar"),
    (Bar, "", 1, DeadLetter.UNKNOWN_FIELD, "'': is not a field of bar"),
    (Bar, "a\n" * 300, 1, DeadLetter.UNKNOWN_FIELD, "is not a field of bar"),
    (Bar, "type", ABSENT, DeadLetter.MISSING_FIELD, "type: is missing"),
    (Bar, "type", None, DeadLetter.MISSING_FIELD, "type: is null"),
    (Bar, "type", 1, DeadLetter.WRONG_TYPE, "type: 1 is not a text"),
    (Bar, "type", "Bar", DeadLetter.UNKNOWN_ENUM, "type: 'Bar' is not expected here; expected bar"),
    (Bar, "type", "tick", DeadLetter.UNKNOWN_ENUM, "type: 'tick' is not expected here"),
    (Bar, "version", ABSENT, DeadLetter.MISSING_FIELD, "version: is missing"),
    (Bar, "version", None, DeadLetter.MISSING_FIELD, "version: is null"),
    (Bar, "version", True, DeadLetter.WRONG_TYPE, "version: true is not a whole number"),
    (Bar, "version", 1.0, DeadLetter.WRONG_TYPE, "version: 1.0 is not a whole number"),
    (Bar, "version", "1", DeadLetter.WRONG_TYPE, "version: '1' is not a whole number"),
    (Bar, "version", 2, DeadLetter.WRONG_VERSION, "version: 2 is not known; this program reads 1"),
    (Bar, "version", 0, DeadLetter.WRONG_VERSION, "version: 0 is not known"),
    (MarketSlice, "open", 100.25, DeadLetter.WRONG_TYPE, "open: 100.25: money is a decimal string"),
    (MarketSlice, "open", 100, DeadLetter.WRONG_TYPE, "open: 100: money"),
    (MarketSlice, "open", True, DeadLetter.WRONG_TYPE, "open: true: money"),
    (MarketSlice, "open", None, DeadLetter.MISSING_FIELD, "open: is null"),
    *((MarketSlice, "open", text, DeadLetter.WRONG_TYPE, f"open: {text!a}: money is a decimal string")
      for text in NO_MONEY),
    (MarketSlice, "open", "1" * 60_000, DeadLetter.WRONG_TYPE, "money is a decimal string"),
    (MarketSlice, "open", "1000000000000", DeadLetter.WRONG_TYPE, "open: '1000000000000': "),
    (MarketSlice, "signals", [], DeadLetter.WRONG_TYPE, "signals: an array"),
    (MarketSlice, "signals", None, DeadLetter.MISSING_FIELD, "signals: is null"),
    (MarketSlice, "signals", {"s": None}, DeadLetter.MISSING_FIELD, "signals.s: is null"),
    (MarketSlice, "signals", {"s": 1}, DeadLetter.WRONG_TYPE, "signals.s: 1"),
    (MarketSlice, "signals", {"s": {"value": 1}}, DeadLetter.MISSING_FIELD, "s.verdict: is missing"),
    (MarketSlice, "signals", {"s": {"value": 1, "verdict": "fine"}}, DeadLetter.UNKNOWN_ENUM,
     "signals.s.verdict: 'fine' is not known"),
    (MarketSlice, "signals", {"s": {"value": 1, "verdict": 3}}, DeadLetter.WRONG_TYPE, "s.verdict: 3"),
    (MarketSlice, "signals", {"s": {"value": 1_000_001, "verdict": "passed"}}, DeadLetter.WRONG_TYPE,
     "signals.s.value: 1000001"),
    (MarketSlice, "signals", {"s": {"value": 1, "verdict": "passed", "x": 1}}, DeadLetter.UNKNOWN_FIELD,
     "signals.s.x: is not a field"),
    (MarketSlice, "signals", {"n" * 5000: 1}, DeadLetter.WRONG_TYPE, "signals.'nnn"),
    (Execution, "kind", "filled", DeadLetter.UNKNOWN_ENUM, "kind: 'filled' is not known"),
    (Execution, "kind", "FILL", DeadLetter.UNKNOWN_ENUM, "kind: 'FILL' is not known"),
    (Execution, "side", 0, DeadLetter.WRONG_TYPE, "side: 0: a name is needed, one of buy, sell"),
    (Execution, "side", True, DeadLetter.WRONG_TYPE, "side: true"),
    (Execution, "side", None, DeadLetter.MISSING_FIELD, "side: is null"),
    (Execution, "side", ABSENT, DeadLetter.MISSING_FIELD, "side: is missing"),
    (Execution, "quantity", 1.5, DeadLetter.WRONG_TYPE, "quantity: 1.5"),
    (Execution, "quantity", -(2**63), DeadLetter.WRONG_TYPE, "quantity: -9223372036854775808"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "key", "value", "expected", "detail"), FIELDS)
def test_wrong_field_is_refused_by_name(
    model: type[Record], key: str, value: Any, expected: DeadLetter, detail: str
) -> None:
    found, text = reason(model, wire(changed(VALID[model], key, value)))
    assert found == expected
    assert detail in text


def test_every_field_of_every_record_is_needed_unless_it_has_a_default() -> None:
    for model, base in VALID.items():
        for key, field in model.model_fields.items():
            found = decode(model, wire(changed(base, key, ABSENT)))
            if field.is_required():
                assert found == Refused(DeadLetter.MISSING_FIELD, f"{key}: is missing")
            else:
                assert isinstance(found, model)


def test_detail_holds_little_of_the_input_and_no_line_breaks() -> None:
    _, text = reason(Bar, wire({**BAR, "symbol": "secret\n" * 5000}))
    assert text.count("secret") < 10
    assert "\n" not in text


def test_every_key_twice_is_refused_in_time_and_space_of_the_input() -> None:
    keys = ",".join(f'"{k}":0' for k in range(6000))
    tracemalloc.start()
    try:
        assert reason(Bar, f'{{{keys},"5999":0}}'.encode())[0] == DeadLetter.DUPLICATE_KEY
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


# --- arbitrary input ----------------------------------------------------------------------------------------

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
MODELS = st.sampled_from(ALL)


def check(model: type[Record], data: bytes) -> None:
    found = decode(model, data)
    if isinstance(found, Refused):
        assert found.reason != DeadLetter.NONE
        assert 0 < len(found.detail) <= MAX_DETAIL
        found.detail.encode()
    else:
        again = encode(found)
        assert encode(decode(model, again)) == again  # type: ignore[arg-type]


@given(MODELS, st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(model: type[Record], data: bytes) -> None:
    check(model, data)


@given(MODELS, st.text(alphabet='{}[]":,\\u0d8e1-.NaN\ufeff ', max_size=300))
def test_arbitrary_text_that_resembles_json_never_raises(model: type[Record], text: str) -> None:
    check(model, text.encode())


@given(MODELS, JSONS)
def test_arbitrary_json_never_raises(model: type[Record], value: Any) -> None:
    check(model, json.dumps(value).encode())


@given(st.sampled_from(list(VALID)), st.data())
def test_record_with_arbitrary_values_in_its_fields_never_raises(
    model: type[Record], data: st.DataObject
) -> None:
    base = VALID[model]
    keys = data.draw(st.lists(st.sampled_from([*base, "extra"]), min_size=1, max_size=3, unique=True))
    check(model, json.dumps({**base, **{key: data.draw(JSONS) for key in keys}}).encode())


@settings(max_examples=300)
@given(st.sampled_from(list(VALID)), st.data())
def test_record_with_changed_bytes_never_raises(model: type[Record], data: st.DataObject) -> None:
    mutated = bytearray(wire(VALID[model]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        match data.draw(st.sampled_from(["cut", "insert", "replace", "repeat"])):
            case "cut":
                del mutated[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                mutated[at:at] = data.draw(st.binary(min_size=1, max_size=5))
            case "replace":
                mutated[at : at + 1] = data.draw(
                    st.sampled_from([b'"', b"{", b"[", b"\\", b"\xff", b"e9", b"-"])
                )
            case _:
                mutated[at:at] = mutated[max(0, at - 30) : at]
    check(model, bytes(mutated))


@given(st.integers(1, 40), st.integers(0, 40))
def test_nesting_is_refused_exactly_above_the_limit(depth: int, closed: int) -> None:
    found, text = reason(Bar, b"[" * depth + b"]" * min(depth, closed))
    assert found == DeadLetter.MALFORMED
    assert ("nested" in text) == (depth > MAX_DEPTH)


# --- fixed-width rows ---------------------------------------------------------------------------------------


def values_of(model: type[Record], name: str) -> st.SearchStrategy[int]:
    """Everything that a field of a row can hold and its record allows."""
    kind, enumeration = next((k, e) for n, k, e in fields_of(model) if n == name)
    match kind.name:
        case "time":
            return st.integers(0, MAX_INT)
        case "money":
            return st.integers(1 - 10**18, 10**18 - 1)
        case "symbol" | "strategy":
            return st.integers(-1, 1)
        case "enum":
            assert enumeration is not None
            return st.sampled_from([int(member) for member in enumeration])
    return st.integers(-MAX_INT, MAX_INT)


@st.composite
def tables(draw: st.DrawFn) -> tuple[type[Record], np.ndarray[Any, Any]]:
    model = draw(st.sampled_from(STORED))
    dtype = dtype_of(model)
    n = draw(st.integers(0, 4))
    rows = np.zeros(n, dtype)
    for name in dtype.names or ():
        rows[name] = draw(st.lists(values_of(model, name), min_size=n, max_size=n))
    return model, rows


@given(tables())
def test_rows_records_and_bytes_convert_without_loss(
    table: tuple[type[Record], np.ndarray[Any, Any]],
) -> None:
    model, rows = table
    records = from_rows(model, rows, NAMES)
    again = to_rows(model, records, NAMES)
    assert again.dtype == rows.dtype
    assert again.tobytes() == rows.tobytes()
    assert [decode(model, encode(record)) for record in records] == records


@given(tables())
def test_arrow_says_what_the_records_say(table: tuple[type[Record], np.ndarray[Any, Any]]) -> None:
    model, rows = table
    arrow = to_arrow(model, rows, NAMES)
    for k, name in enumerate(arrow.column_names):
        if pa.types.is_timestamp(arrow.schema.field(name).type):  # Python's datetime has no nanoseconds
            arrow = arrow.set_column(k, name, arrow.column(name).cast(pa.int64()))
    records = [
        {
            name: getattr(record, name).name.lower() if kind.name == "enum" else getattr(record, name)
            for name, kind, _ in fields_of(model)
        }
        for record in from_rows(model, rows, NAMES)
    ]
    assert arrow.to_pylist() == records


def test_rows_of_an_execution_by_hand() -> None:
    record = decode(Execution, wire(EXECUTION))
    assert isinstance(record, Execution)
    row = to_rows(Execution, [record], NAMES)[0]
    assert row["instrument"] == 0
    assert row["kind"] == codes.ExecutionKind.FILL
    assert row["price"] == 100_260_000
    assert row["cash"] == -1_002_650_000
    assert row["order_ns"] == TIME
    assert from_rows(Execution, to_rows(Execution, [record], NAMES), NAMES) == [record]


def test_money_is_exact_whatever_the_decimal_context() -> None:
    rows = np.zeros(1, dtype_of(Equity))
    rows["cash"] = 123_456_789_012_345_678
    with localcontext() as context:
        context.prec = 3
        records = from_rows(Equity, rows, NAMES)
        assert to_rows(Equity, records, NAMES)["cash"][0] == 123_456_789_012_345_678
        assert b'"cash":"123456789012.345678"' in encode(records[0])
    assert records[0].cash == Decimal("123456789012.345678")


def decision_rows(**values: int) -> np.ndarray[Any, Any]:
    rows = np.zeros(1, dtype_of(Decision))
    for name, value in values.items():
        rows[name] = value
    return rows


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("instrument", 2, "instrument index 2 has no name"),
        ("instrument", -2, "instrument index -2 has no name"),
        ("strategy", 2, "strategy index 2 has no name"),
        ("stage", 99, "99 is not a valid Stage"),
        ("stage", -1, "-1 is not a valid Stage"),
        ("time_ns", -1, "time_ns"),
        ("reference_price", 10**18, "reference_price"),
        ("target", -MAX_INT - 1, "target"),
    ],
)
def test_row_that_is_no_record_raises(field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_rows(Decision, decision_rows(**{field: value}), NAMES)


def test_name_without_an_index_raises() -> None:
    record = decode(Execution, wire({**EXECUTION, "instrument": "SPY"}))
    assert isinstance(record, Execution)
    with pytest.raises(ValueError, match="instrument 'SPY' is not one of QQQ, SQQQ"):
        to_rows(Execution, [record], NAMES)


def test_order_id_that_its_fields_do_not_give_raises() -> None:
    record = decode(Execution, wire({**EXECUTION, "attempt": 1}))
    assert isinstance(record, Execution)
    with pytest.raises(ValueError, match=r"client_order_id 'demo-.*-0' should be 'demo-.*-1'"):
        to_rows(Execution, [record], NAMES)
