"""Records as bytes on the wire, and as fixed-width rows.

In and out: one record of `schemas.records` and its JSON bytes, or n records and n rows of `dtype_of(model)`.
No state.

The wire form is one JSON object in UTF-8, at most `MAX_BYTES` long: `"type"` (the model's name in lower snake
case) and `"version"` (its major), then the fields. Reading is closed: whatever is not exactly a record of an
expected type is `Refused`. Bytes are judged first, then keys and numbers anywhere in them, then `type` and
`version`, then the fields in their order and unknown fields last; the first fault found is told:

* MALFORMED: no value, an empty one, not UTF-8, a byte order mark, a lone surrogate, not JSON, cut off,
  something after the record, nested deeper than `MAX_DEPTH`, not an object
* OVERSIZE: more than `MAX_BYTES`
* DUPLICATE_KEY: a key twice in one object, at any depth
* NOT_FINITE: NaN, infinity, a number beyond float64
* UNKNOWN_ENUM: an unknown name of an enumeration; a `type` that is not expected here, as `type` is one too
* WRONG_VERSION: another `version`
* MISSING_FIELD: absent or null
* WRONG_TYPE: another JSON type, a whole number beyond 64 bits, money that is no plain decimal, a text or a
  number that its field cannot hold
* TIME_OUT_OF_RANGE: before 1970
* UNKNOWN_FIELD: not a field of the record

Always true: `decode` returns for every input; `decode(type(r), encode(r)) == r`; one amount of money has one
text; `from_rows` undoes `to_rows`.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from schemas.codes import DeadLetter
from schemas.records import MICRO, Names, Record, dtype_of, fields_of, order_id_texts

MAX_BYTES = 64 * 1024
"""Longest wire form of a record."""

MAX_DEPTH = 8
"""Deepest nesting of objects and arrays, the record itself included."""

MAX_DETAIL = 200
"""Longest `Refused.detail`, in characters."""

R = TypeVar("R", bound=Record)
Path = tuple[str | int, ...]

_BEYOND_64_BITS = 1 << 64
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)  # a string is one token, closed or not
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why bytes are no record. `detail` names the field and says what is wrong, in at most `MAX_DETAIL`
    characters.
    """

    reason: DeadLetter
    detail: str


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Stands for a JSON object in which `key` occurs more than once."""

    key: str


@cache
def type_tag(model: type[Record]) -> str:
    """The model's name on the wire, such as "market_slice"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()


def encode(record: Record) -> bytes:
    """Wire form. Raises `ValueError` for a record longer than `MAX_BYTES`, which no reader would take."""
    model = type(record)
    fields = {"type": type_tag(model), "version": model.VERSION, **record.model_dump(mode="json")}
    data = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"a {type_tag(model)} of {len(data)} bytes is longer than {MAX_BYTES}")
    return data


def decode(model: type[R] | tuple[type[R], ...], data: bytes | None) -> R | Refused:
    """The record in `data`, of `model` or one of several; never raises. Reasons: see the module's table."""
    fields = _parsed(data)
    if isinstance(fields, Refused):
        return fields
    chosen = _tagged(model if isinstance(model, tuple) else (model,), fields)
    if isinstance(chosen, Refused):
        return chosen
    try:
        return chosen.model_validate({k: v for k, v in fields.items() if k not in ("type", "version")})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _judged(type_tag(chosen), first["type"], first["loc"], first["input"], first["msg"])


def _parsed(data: bytes | None) -> dict[str, Any] | Refused:
    """The JSON object in `data`, its numbers finite, its texts valid, its keys distinct."""
    if not data:
        return _refused(DeadLetter.MALFORMED, (), "no value" if data is None else "an empty value")
    if len(data) > MAX_BYTES:
        return _refused(DeadLetter.OVERSIZE, (), f"{len(data)} bytes; at most {MAX_BYTES} are allowed")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _refused(DeadLetter.MALFORMED, (), f"not UTF-8 at byte {error.start}: {error.reason}")
    if text.startswith("\ufeff"):
        return _refused(DeadLetter.MALFORMED, (), "starts with a byte order mark")
    if _is_deep(text):
        return _refused(DeadLetter.MALFORMED, (), f"nested deeper than {MAX_DEPTH}")
    try:
        value = _JSON.decode(text)
    except json.JSONDecodeError as error:
        return _refused(DeadLetter.MALFORMED, (), f"not JSON at character {error.pos}: {error.msg}")
    fault = _fault(value, ())
    if fault is not None:
        return fault
    if not isinstance(value, dict):
        return _refused(DeadLetter.MALFORMED, (), f"{_shown(value)} is not an object")
    return value


def _is_deep(text: str) -> bool:
    """Whether brackets outside strings nest deeper than `MAX_DEPTH`; the parser itself would recurse."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _BRACKETS.finditer(text):
        if token[0] in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in ("}", "]"):
            depth -= 1
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            return _Repeated(key)
        fields[key] = value
    return fields


def _integer(digits: str) -> int:
    """Not `int` alone: Python refuses to convert thousands of digits, in an error of its own."""
    return int(digits) if len(digits) <= 20 else _BEYOND_64_BITS


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)


def _fault(value: Any, path: Path) -> Refused | None:
    """The first fault that makes a value wrong in any field. Recurses `MAX_DEPTH` deep at most."""
    match value:
        case _Repeated(key):
            return _refused(DeadLetter.DUPLICATE_KEY, (*path, key), "stands twice")
        case dict() | list():
            steps: Iterable[tuple[str | int, Any]]
            steps = value.items() if isinstance(value, dict) else enumerate(value)
            for step, inner in steps:
                if isinstance(step, str) and _SURROGATE.search(step):
                    return _refused(DeadLetter.MALFORMED, (*path, step), "a lone surrogate in a key")
                fault = _fault(inner, (*path, step))
                if fault is not None:
                    return fault
        case str() if _SURROGATE.search(value):
            return _refused(DeadLetter.MALFORMED, path, "a lone surrogate in a text")
        case float() if not math.isfinite(value):
            return _refused(DeadLetter.NOT_FINITE, path, "is not finite")
        case int() if not -(1 << 63) <= value < 1 << 63:
            return _refused(DeadLetter.WRONG_TYPE, path, "a whole number beyond 64 bits")
    return None


def _tagged(models: tuple[type[R], ...], fields: dict[str, Any]) -> type[R] | Refused:
    """The model that `type` and `version` name."""
    for key, kind, wanted in (("type", str, "a text"), ("version", int, "a whole number")):
        value = fields.get(key)
        if value is None:
            return _refused(DeadLetter.MISSING_FIELD, (key,), "is null" if key in fields else "is missing")
        if type(value) is not kind:
            return _refused(DeadLetter.WRONG_TYPE, (key,), f"{_shown(value)} is not {wanted}")
    known = {type_tag(model): model for model in models}
    chosen = known.get(fields["type"])
    if chosen is None:
        problem = f"{_shown(fields['type'])} is not expected here; expected {', '.join(known)}"
        return _refused(DeadLetter.UNKNOWN_ENUM, ("type",), problem)
    if fields["version"] != chosen.VERSION:
        problem = f"{_shown(fields['version'])} is not known; this program reads {chosen.VERSION}"
        return _refused(DeadLetter.WRONG_VERSION, ("version",), problem)
    return chosen


def _judged(tag: str, error: str, path: Path, value: Any, message: str) -> Refused:
    """The reason for a field that its model refused with `error`."""
    match error:
        case "missing":
            return _refused(DeadLetter.MISSING_FIELD, path, "is missing")
        case "extra_forbidden":
            return _refused(DeadLetter.UNKNOWN_FIELD, path, f"is not a field of {tag}")
        case _ if value is None:
            return _refused(DeadLetter.MISSING_FIELD, path, "is null")
        case "unknown_enum":
            return _refused(DeadLetter.UNKNOWN_ENUM, path, f"{_shown(value)} is not known")
        case "greater_than_equal" if str(path[-1]).endswith("_ns"):
            return _refused(DeadLetter.TIME_OUT_OF_RANGE, path, f"{_shown(value)} is before 1970")
    problem = message.removeprefix("Value error, ")
    return _refused(DeadLetter.WRONG_TYPE, path, f"{_shown(value)}: {problem[0].lower()}{problem[1:]}")


def _refused(reason: DeadLetter, path: Path, problem: str) -> Refused:
    steps = [s if isinstance(s, str) and s.isidentifier() and len(s) <= 40 else _shown(s) for s in path]
    return Refused(reason, f"{'.'.join(steps) or 'record'}: {problem}"[:MAX_DETAIL])


def _shown(value: Any) -> str:
    """A JSON value for people, at most 42 characters."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return ascii(value[:40])[:42]
    return str(value)


def to_rows(model: type[Record], records: Sequence[Record], names: Names) -> NDArray[Any]:
    """Fixed-width rows (n,) of `dtype_of(model)`: money in millionths, names as indices, -1 for none.

    Raises `ValueError` for a name that is not in `names`, and for a client order id that its own fields do
    not give: a row could not give it back.
    """
    rows = np.zeros(len(records), dtype_of(model))
    for field, kind, _ in fields_of(model):
        values = [getattr(record, field) for record in records]
        match kind.name:
            case "order_id":
                continue
            case "symbol":
                rows[field] = _indices(field, values, names.instruments)
            case "strategy":
                rows[field] = _indices(field, values, names.strategies)
            case "money":
                rows[field] = [millionths_of(value) for value in values]
            case _:
                rows[field] = values
    for record, derived in zip(records, _order_ids(model, rows, names), strict=True):
        given = getattr(record, "client_order_id", "")
        if given != derived:
            raise ValueError(f"client_order_id {given!r} should be {derived!r}")
    return rows


def from_rows(model: type[R], rows: NDArray[Any], names: Names) -> list[R]:
    """The records of fixed-width rows (n,), client order ids derived from the other fields.

    Raises `ValueError` for an index without a name, a code without a member and any value the record cannot
    hold.
    """
    columns: dict[str, list[Any]] = {}
    for field, kind, enumeration in fields_of(model):
        match kind.name:
            case "order_id":
                columns[field] = _order_ids(model, rows, names)
            case "symbol":
                columns[field] = _named(field, rows[field].tolist(), names.instruments)
            case "strategy":
                columns[field] = _named(field, rows[field].tolist(), names.strategies)
            case "enum":
                assert enumeration is not None
                columns[field] = [enumeration(code) for code in rows[field].tolist()]
            case "money":
                columns[field] = [decimal_of(value) for value in rows[field].tolist()]
            case _:
                columns[field] = rows[field].tolist()
    return [
        model(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)
    ]


def _order_ids(model: type[Record], rows: NDArray[Any], names: Names) -> list[str]:
    """Derived client order ids, empty where the model has none."""
    if all(kind.name != "order_id" for _, kind, _ in fields_of(model)):
        return [""] * len(rows)
    return order_id_texts(rows, names)


def _indices(field: str, values: Sequence[str], names: Sequence[str]) -> list[int]:
    index = {"": -1, **{name: k for k, name in enumerate(names)}}
    unknown = [value for value in values if value not in index]
    if unknown:
        raise ValueError(f"{field} {unknown[0]!r} is not one of {', '.join(names)}")
    return [index[value] for value in values]


def _named(field: str, indices: Sequence[int], names: Sequence[str]) -> list[str]:
    outside = [index for index in indices if not -1 <= index < len(names)]
    if outside:
        raise ValueError(f"{field} index {outside[0]} has no name; there are {len(names)}")
    return [names[index] if index >= 0 else "" for index in indices]


def millionths_of(value: Decimal) -> int:
    """Exact whatever the decimal context's precision; the record has checked that six places are enough."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * MICRO // denominator


def decimal_of(millionths: int) -> Decimal:
    """Six places, exact whatever the precision of the decimal context."""
    return Decimal((int(millionths < 0), tuple(int(d) for d in str(abs(millionths))), -6))
