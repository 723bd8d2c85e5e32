"""Where TA-Lib has no oracle, or a rounding of its own: each bar anew from a plain numpy window."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import operators.indicators  # noqa: F401
from operators.registry import INDICATORS

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
BARS = 900
SESSION = 130


def market(kind: str, seed: int = 5) -> Array:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.002, BARS)))
    volume = np.rint(rng.lognormal(8, 1, BARS))
    if kind == "jumps":
        for at, factor in ((200, 1000.0), (320, 0.001), (500, 0.01), (501, 100.0)):
            close[at:] *= factor
        volume[[250, 400]] = 1e13
    if kind == "flat":
        for at, length in ((100, 13), (300, 60), (600, 150)):
            close[at : at + length] = close[at]
        volume[320:400] = 0.0
        volume[620:680] = 777.0
    first = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(first, close) * (1 + np.abs(rng.normal(0, 3e-4, BARS)))
    low = np.minimum(first, close) * (1 - np.abs(rng.normal(0, 3e-4, BARS)))
    return np.array([first, high, low, close, volume])


def clock(offset: int = 0) -> tuple[Ints, Ints]:
    bar = np.arange(offset, offset + BARS)
    return bar // SESSION, bar % SESSION


def values_of(name: str, prices: Array, *, offset: int = 0, **parameters: float) -> Array:
    indicator = INDICATORS[name]
    out = np.empty((len(indicator.outputs), prices.shape[1]))
    given = np.array([float(parameters[p.name]) for p in indicator.parameters])
    session, minute = clock(offset)
    indicator.kernel(prices, session, minute, given, np.zeros(indicator.state_size(parameters)), out)
    return out


def rolling(values: Array, n: int, of: Callable[[Array], float]) -> Array:
    """`of` over every window of n values; NaN where the window is not full or holds a NaN."""
    out = np.full(len(values), math.nan)
    for i in range(n - 1, len(values)):
        window = values[i + 1 - n : i + 1]
        if not np.isnan(window).any():
            out[i] = of(window)
    return out


def sd_of(window: Array) -> float:
    if np.ptp(window) == 0.0:
        return 0.0
    mean = math.fsum(window) / len(window)
    return math.sqrt(math.fsum((window - mean) ** 2) / len(window))


def z_of(window: Array) -> float:
    sd = sd_of(window)
    return 0.0 if sd == 0.0 else (window[-1] - math.fsum(window) / len(window)) / sd


KINDS = pytest.mark.parametrize("kind", ["walk", "jumps", "flat"])
LENGTHS = pytest.mark.parametrize("n", [2, 5, 20, 61])


@KINDS
@LENGTHS
def test_stddev_and_bollinger(kind: str, n: int) -> None:
    prices = market(kind)
    sd = rolling(prices[3], n, sd_of)
    mean = rolling(prices[3], n, lambda w: math.fsum(w) / n)
    np.testing.assert_allclose(values_of("stddev", prices, n=n)[0], sd, rtol=1e-9)
    upper, middle, lower, band_sd = values_of("bollinger", prices, n=n, k=2.5)
    np.testing.assert_allclose(band_sd, sd, rtol=1e-9)
    np.testing.assert_allclose(middle, mean, rtol=1e-12)
    np.testing.assert_allclose(upper, mean + 2.5 * sd, rtol=1e-9)
    np.testing.assert_allclose(lower, mean - 2.5 * sd, rtol=1e-9, atol=1e-9 * prices[3].max())


@KINDS
@LENGTHS
def test_rsi_simple(kind: str, n: int) -> None:
    prices = market(kind)
    change = np.concatenate([[math.nan], np.diff(prices[3])])

    def index(window: Array) -> float:
        gain = math.fsum(window[window > 0])
        loss = -math.fsum(window[window < 0])
        return 50.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)

    np.testing.assert_allclose(
        values_of("rsi_simple", prices, n=n)[0], rolling(change, n, index), rtol=1e-9, atol=1e-12
    )


@KINDS
@LENGTHS
def test_log_return(kind: str, n: int) -> None:
    prices = market(kind)
    expected = np.full(BARS, math.nan)
    expected[n:] = np.log(prices[3, n:]) - np.log(prices[3, :-n])
    np.testing.assert_allclose(values_of("log_return", prices, n=n)[0], expected, rtol=1e-9, atol=1e-14)


@KINDS
@LENGTHS
def test_volume_z(kind: str, n: int) -> None:
    prices = market(kind)
    np.testing.assert_allclose(
        values_of("volume_z", prices, n=n)[0], rolling(prices[4], n, z_of), rtol=1e-9, atol=1e-9
    )


@KINDS
@LENGTHS
def test_order_flow_z(kind: str, n: int) -> None:
    prices = market(kind)
    flow = np.full(BARS, math.nan)
    flow[1:] = np.log(prices[3, 1:] / prices[3, :-1]) * prices[4, 1:]
    np.testing.assert_allclose(
        values_of("order_flow_z", prices, n=n)[0], rolling(flow, n, z_of), rtol=1e-9, atol=1e-9
    )


def vwap_of(prices: Array, n: int) -> Array:
    _, high, low, close, volume = prices
    typical = (high + low + close) / 3.0
    out = np.full(BARS, math.nan)
    for i in range(n - 1, BARS):
        window = slice(i + 1 - n, i + 1)
        total = math.fsum(volume[window])
        out[i] = math.fsum(typical[window] * volume[window]) / total if total > 0.0 else close[i]
    return out


@KINDS
@LENGTHS
def test_vwap_and_its_deviation(kind: str, n: int) -> None:
    prices = market(kind)
    vwap = vwap_of(prices, n)
    distance = prices[3] - vwap
    np.testing.assert_allclose(values_of("vwap_rolling", prices, n=n)[0], vwap, rtol=1e-9)
    ours_vwap, ours_rms = values_of("vwap_deviation", prices, n=n)
    rms = rolling(distance, n, lambda w: math.sqrt(math.fsum(w * w) / n))
    pending = np.arange(BARS) < 2 * n - 2
    np.testing.assert_allclose(ours_vwap, np.where(pending, math.nan, vwap), rtol=1e-9)
    np.testing.assert_allclose(ours_rms, rms, rtol=1e-9, atol=1e-12 * prices[3].max())


def test_a_market_without_trades_has_its_close_as_vwap_and_no_deviation() -> None:
    prices = market("walk")
    prices[4] = 0.0
    np.testing.assert_array_equal(values_of("vwap_rolling", prices, n=20)[0, 19:], prices[3, 19:])
    assert (values_of("vwap_deviation", prices, n=20)[1, 38:] == 0.0).all()


def test_a_flat_market_has_no_deviation_left_by_rounding() -> None:
    prices = market("walk")
    prices[:4] = 0.1 + 0.2
    assert (values_of("vwap_deviation", prices, n=20)[1, 38:] == 0.0).all()
    assert (values_of("stddev", prices, n=20)[0, 19:] == 0.0).all()
    assert (values_of("rsi_simple", prices, n=14)[0, 14:] == 50.0).all()
    assert (values_of("order_flow_z", prices, n=20)[0, 20:] == 0.0).all()


def range_of(prices: Array, session: Ints, minute: Ints, m: int, first_whole_session: int) -> Array:
    out = np.full((2, BARS), math.nan)
    for i in range(BARS):
        opening = (session == session[i]) & (minute < m)
        if minute[i] >= m and session[i] >= first_whole_session and opening.any():
            out[0, i] = prices[1, opening].max()
            out[1, i] = prices[2, opening].min()
    return out


@KINDS
@pytest.mark.parametrize("m", [1, 5, 30, 130])
@pytest.mark.parametrize(("offset", "first_whole_session"), [(0, 0), (1, 1), (50, 1), (130, 1)])
def test_opening_range(kind: str, m: int, offset: int, first_whole_session: int) -> None:
    prices = market(kind)
    session, minute = clock(offset)
    np.testing.assert_array_equal(
        values_of("opening_range", prices, offset=offset, m=m),
        range_of(prices, session, minute, m, first_whole_session),
    )


def opening_range(bars: list[tuple[int, int, float, float]], m: int) -> list[tuple[float, float]]:
    """Rows (session, minute, high, low) in, (high, low) of the range out."""
    session, minute = (np.array([bar[k] for bar in bars], np.int64) for k in (0, 1))
    high, low = (np.array([bar[k] for bar in bars]) for k in (2, 3))
    out = np.empty((2, len(bars)))
    prices = np.array([low, high, low, low, low])
    INDICATORS["opening_range"].kernel(prices, session, minute, np.array([float(m)]), np.zeros(5), out)
    return [(float(a), float(b)) for a, b in out.T]


def test_opening_range_of_a_session_whose_first_minutes_had_no_trade() -> None:
    ranges = opening_range(
        [(3, 0, 11.0, 9.0), (3, 2, 12.0, 8.0), (4, 1, 21.0, 19.0), (4, 2, 30.0, 1.0), (5, 2, 7.0, 6.0)], m=2
    )
    assert ranges[1] == (11.0, 9.0)
    assert ranges[3] == (21.0, 19.0)
    assert all(
        math.isnan(v) for k in (0, 2, 4) for v in ranges[k]
    )  # incomplete, incomplete, no bar in the range


def test_opening_range_of_the_first_session_without_its_first_minute_is_pending_throughout() -> None:
    ranges = opening_range([(0, 1, 11.0, 9.0), (0, 2, 12.0, 8.0), (0, 3, 12.0, 8.0)], m=2)
    assert all(math.isnan(v) for pair in ranges for v in pair)
