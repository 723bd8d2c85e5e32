"""Where TA-Lib has the indicator: equal to its batch functions at every bar."""

import numpy as np
import polars as pl
import pytest
import talib
from numpy.typing import NDArray

import operators.indicators  # noqa: F401
from operators.registry import INDICATORS

Array = NDArray[np.float64]
BARS = 1200


def closes_of(kind: str, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, BARS)))
    if kind == "jumps":
        for at, factor in ((200, 1000.0), (320, 0.001), (500, 0.01), (501, 100.0), (900, 30.0)):
            close[at:] *= factor
    if kind == "flat":
        for at, length in ((100, 13), (300, 60), (600, 250)):
            close[at : at + length] = close[at]
    return close


def values_of(name: str, close: Array, **parameters: float) -> Array:
    indicator = INDICATORS[name]
    n = len(close)
    prices = np.array([close, close, close, close, np.ones(n)])
    out = np.empty((len(indicator.outputs), n))
    given = np.array([float(parameters[p.name]) for p in indicator.parameters])
    zeros = np.zeros(n, np.int64)
    indicator.kernel(prices, zeros, np.arange(n), given, np.zeros(indicator.state_size(parameters)), out)
    return out


def variance_tolerance(kind: str, close: Array, oracle_sd: Array) -> Array:
    """What two right answers may differ by, (n,) in squared currency.

    TA-Lib takes the variance as a difference of two running sums that it never sums anew; what is left over
    from large prices stays in it. On a plain walk that is far below 1e-9, elsewhere it is allowed for.
    """
    tolerance = 1e-9 * oracle_sd**2
    if kind != "walk":
        largest = np.maximum.accumulate(close**2)
        tolerance = tolerance + np.arange(1, len(close) + 1) * np.finfo(float).eps * largest
    return tolerance


def assert_close_in_variance(ours: Array, oracle: Array, tolerance: Array) -> None:
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(oracle))
    ready = ~np.isnan(ours)
    assert (np.abs(ours**2 - oracle**2) <= tolerance)[ready].all()


KINDS = pytest.mark.parametrize("kind", ["walk", "jumps", "flat"])
LENGTHS = pytest.mark.parametrize("n", [2, 5, 14, 20, 200])
SEED = 11


@KINDS
@LENGTHS
def test_sma(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)
    np.testing.assert_allclose(values_of("sma", close, n=n)[0], talib.SMA(close, n), rtol=1e-9)


@KINDS
@LENGTHS
def test_ema_seeded_by_the_simple_mean(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)
    np.testing.assert_allclose(values_of("ema", close, n=n, seed=1)[0], talib.EMA(close, n), rtol=1e-9)


@KINDS
@LENGTHS
def test_ema_seeded_by_the_first_value(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)  # TA-Lib has no such seed, polars has no other
    oracle = pl.Series(close).ewm_mean(span=n, adjust=False, min_samples=n).to_numpy()
    np.testing.assert_allclose(values_of("ema", close, n=n, seed=0)[0], oracle, rtol=1e-9)


@KINDS
@LENGTHS
def test_rsi(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)
    np.testing.assert_allclose(values_of("rsi", close, n=n)[0], talib.RSI(close, n), rtol=1e-9)


def test_rsi_of_a_price_that_never_moved() -> None:
    close = np.full(60, 12.34)
    np.testing.assert_array_equal(values_of("rsi", close, n=14)[0], talib.RSI(close, 14))


@KINDS
@LENGTHS
def test_stddev(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)
    oracle = talib.STDDEV(close, n)
    assert_close_in_variance(
        values_of("stddev", close, n=n)[0], oracle, variance_tolerance(kind, close, oracle)
    )


@KINDS
@LENGTHS
def test_bollinger(kind: str, n: int) -> None:
    close = closes_of(kind, SEED)
    upper, middle, lower, sd = values_of("bollinger", close, n=n, k=2.0)
    oracle = talib.BBANDS(close, n, 2.0, 2.0)
    tolerance = variance_tolerance(kind, close, (oracle[0] - oracle[1]) / 2.0)
    np.testing.assert_allclose(middle, oracle[1], rtol=1e-9)
    if kind == "walk":
        np.testing.assert_allclose(upper, oracle[0], rtol=1e-9)
        np.testing.assert_allclose(lower, oracle[2], rtol=1e-9)
    rounding = (
        1e-9 * middle * sd + (1e-12 * middle) ** 2
    )  # a band carries the rounding of the price, not of the sd
    assert_close_in_variance(upper - middle, oracle[0] - oracle[1], 4.0 * (tolerance + rounding))
    assert_close_in_variance(middle - lower, oracle[1] - oracle[2], 4.0 * (tolerance + rounding))
