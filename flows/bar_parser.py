"""Bars on the wire as columns, many at once.

In: keys and values of messages. Out: columns, and which records are left to `decode`. Only the form in which
bars are written is read here: the fields of `Bar` in their order, no spaces, an instrument's name, plain
decimal numbers. Everything else, right or wrong, is for `decode` to judge.

Always true: a record that is not left to `decode` has exactly the fields that `decode` would give it, bit for
bit.
"""

import json
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel, routine
from schemas.batches import Float64s, Int64s
from schemas.codecs import type_tag
from schemas.records import Bar

# All kernels of bars stand in this file: the cache of compiled kernels notices a change in the file of a
# function, and those of `operators` in any of theirs.

Bytes = NDArray[np.uint8]

LEFT = -1  # no symbol: the record is left to `decode`
MOST_SYMBOL = 32  # characters of a symbol that `Bar` takes
MOST_SOURCE = 64
TIMES = ("start_ns", "end_ns")
NUMBERS = ("open", "high", "low", "close", "volume")
POWERS = np.array([float(f"1e{k}") for k in range(19)])  # exact, as all up to 1e22 are
EXACT = 1 << 53  # whole numbers below it are float64

QUOTE, BACKSLASH, DOT, ZERO, NINE, FIRST_PRINTED, LAST_PRINTED = (ord(c) for c in '"\\.09 ~')
SOURCE_PART = 1 + len(TIMES) + len(NUMBERS)
_HEAD = json.dumps({"type": type_tag(Bar), "version": Bar.VERSION}, separators=(",", ":"))[:-1]
_PARTS = [
    f'{_HEAD},"symbol":',
    *(f',"{name}":' for name in (*TIMES, *NUMBERS)),
    ',"source":"',
    '"}',
]


@kernel
def after_text(data: Bytes, at: int, end: int, texts: Bytes, starts: Int64s, which: int) -> int:
    """The place behind a text that must stand at `at`, else -1. Passes -1 on."""
    first = int(starts[which])
    length = int(starts[which + 1]) - first
    if at < 0 or at + length > end:
        return -1
    for k in range(length):
        if data[at + k] != texts[first + k]:
            return -1
    return at + length


@kernel
def after_integer(data: Bytes, at: int, end: int, out: Int64s, k: int) -> int:
    """The same for a whole number from 0 on, which goes into `out[k]`. Those near 64 bits are left."""
    begin = at
    value = np.int64(0)
    while 0 <= at < end and at - begin < 19 and ZERO <= data[at] <= NINE:
        value = value * 10 + np.int64(data[at] - np.uint8(ZERO))
        at += 1
        if at - begin == 18 and data[begin] == NINE:
            return -1
    if at == begin or (data[begin] == ZERO and at - begin > 1):
        return -1
    out[k] = value
    return at


@kernel
def after_decimal(data: Bytes, at: int, end: int, out: Float64s, k: int) -> int:
    """The same for a number with a point, no sign and no exponent.

    Its digits are a whole number and their places a power of ten. Where float64 has both, one division rounds
    once, and so gives the float64 that is nearest. Where it has not, the number is left.
    """
    begin = at
    point = -1
    value = np.int64(0)
    while 0 <= at < end and at - begin < 19:
        if data[at] == DOT and point < 0:
            point = at
        elif ZERO <= data[at] <= NINE:
            value = value * 10 + np.int64(data[at] - np.uint8(ZERO))
        else:
            break
        at += 1
    if point <= begin or at == point + 1 or (data[begin] == ZERO and point > begin + 1) or value >= EXACT:
        return -1
    out[k] = np.float64(value) / POWERS[at - point - 1]
    return at


@kernel
def after_source(data: Bytes, at: int, end: int) -> int:
    """The place of the quote that ends a source of printed ASCII, else -1."""
    if at < 0:
        return -1
    begin = at
    while at < end and at - begin <= MOST_SOURCE:
        if data[at] == QUOTE:
            return at
        if not FIRST_PRINTED <= data[at] <= LAST_PRINTED or data[at] == BACKSLASH:
            return -1
        at += 1
    return -1


@kernel
def parse_bar(
    data: Bytes,
    at: int,
    end: int,
    symbol: int,
    names: Bytes,
    name_starts: Int64s,
    parts: Bytes,
    part_starts: Int64s,
    times: Int64s,
    prices: Float64s,
    k: int,
) -> bool:
    """Whether bytes `at` to `end` are a bar of `symbol`; its fields go into column `k`."""
    at = after_text(data, at, end, parts, part_starts, 0)
    at = after_text(data, at, end, names, name_starts, symbol)
    for row in range(len(times)):
        at = after_text(data, at, end, parts, part_starts, 1 + row)
        at = after_integer(data, at, end, times[row], k)
    for row in range(len(prices)):
        at = after_text(data, at, end, parts, part_starts, 1 + len(times) + row)
        at = after_decimal(data, at, end, prices[row], k)
    at = after_text(data, at, end, parts, part_starts, SOURCE_PART)
    at = after_source(data, at, end)
    return after_text(data, at, end, parts, part_starts, SOURCE_PART + 1) == end


@routine
def parse_bars(
    data: Bytes,
    ends: Int64s,
    symbols: Int64s,
    names: Bytes,
    name_starts: Int64s,
    parts: Bytes,
    part_starts: Int64s,
    times: Int64s,
    prices: Float64s,
) -> None:
    """Parse records of which number k ends before `ends[k]` of `data` and should be of symbol `symbols[k]`.

    Fills `times` (2, n) and `prices` (5, n); `symbols` (n,) becomes `LEFT` where a record is left.
    """
    at = 0
    for k in range(len(symbols)):
        end = int(ends[k])
        if symbols[k] >= 0 and not parse_bar(
            data, at, end, int(symbols[k]), names, name_starts, parts, part_starts, times, prices, k
        ):
            symbols[k] = LEFT
        at = end


class BarParser:
    """Parses bars of given symbols; a key says which symbol a record should have."""

    def __init__(self, symbols: Sequence[str]):
        self.index = {symbol.encode(): k for k, symbol in enumerate(symbols) if len(symbol) <= MOST_SYMBOL}
        self.names = _joined([json.dumps(symbol, ensure_ascii=False) for symbol in symbols])
        self.parts = _joined(_PARTS)

    def parse(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None]
    ) -> tuple[Int64s, Int64s, Float64s]:
        """Symbols (n,), `LEFT` where the other columns mean nothing; times (2, n), ns UTC; prices (5, n)."""
        n, find = len(values), self.index.get
        records = [value or b"" for value in values]
        symbols = np.array([find(key, LEFT) for key in keys], np.int64)  # type: ignore[arg-type]
        ends = np.array(list(accumulate(map(len, records))), np.int64)
        times, prices = np.zeros((len(TIMES), n), np.int64), np.zeros((len(NUMBERS), n))
        data = np.frombuffer(b"".join(records), np.uint8)
        parse_bars(data, ends, symbols, *self.names, *self.parts, times, prices)
        return symbols, times, prices


def _joined(texts: Sequence[str]) -> tuple[Bytes, Int64s]:
    """Texts as bytes, and where each begins; the last number is their end."""
    encoded = [text.encode() for text in texts]
    starts = np.array([0, *accumulate(map(len, encoded))], np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), starts
