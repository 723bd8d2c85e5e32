"""Sigor beside a naive model that recomputes every window of every bar with numpy and carries no state."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from operators.registry import INDICATORS, STRATEGIES
from operators.strategies.sigor import fuse

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


def market(seed: int, bars: int, cents: bool = False) -> Array:
    rng = np.random.default_rng(seed)
    speed = np.where(np.arange(bars) % 150 < 60, 0.0002, 0.0015)  # quiet stretches, so that squeezes happen
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 1, bars) * speed))
    if cents:
        close = np.round(close, 2)
    first = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(first, close) * (1 + np.abs(rng.normal(0, 3e-4, bars)))
    low = np.minimum(first, close) * (1 - np.abs(rng.normal(0, 3e-4, bars)))
    return np.array([first, high, low, close, np.rint(rng.lognormal(8, 1, bars))])


def signals_of(prices: Array, session: Ints, minute: Ints) -> Array:
    strategy = STRATEGIES["sigor"]
    n = prices.shape[1]
    rows = []
    for feature in strategy.features({}):
        indicator = INDICATORS[feature.indicator]
        given = dict(feature.parameters)
        values = np.empty((len(indicator.outputs), n))
        ordered = np.array([float(given[p.name]) for p in indicator.parameters])
        indicator.kernel(prices, session, minute, ordered, np.zeros(indicator.state_size(given)), values)
        rows.append(values[indicator.outputs.index(feature.output)])
    out = np.empty(n)
    state = np.zeros(strategy.state_size({}))
    strategy.kernel(prices, session, minute, np.array(rows), np.empty(0), state, out)
    return out


class Model:
    """The definition, read literally: each detector looks at the past bars and at nothing it remembered."""

    def __init__(self, prices: Array, session: Ints, minute: Ints) -> None:
        _, self.high, self.low, self.close, self.volume = prices
        self.session, self.minute = session, minute
        n = len(self.close)
        self.sds = [self.band(t)[1] if t >= 19 else math.nan for t in range(n)]
        self.squeezed = [
            t >= 19 and self.sds[t] <= np.percentile(self.sds[max(19, t - 59) : t + 1], 25) for t in range(n)
        ]

    def band(self, t: int) -> tuple[float, float]:
        window = self.close[t - 19 : t + 1]
        return float(np.mean(window)), 0.0 if np.ptp(window) == 0.0 else float(np.std(window))

    def logistic_vote(self, p: float) -> int:
        return 1 if p > 0.55 else -1 if p < 0.45 else 0

    def rsi_reversion(self, t: int) -> int:
        change = np.diff(self.close[t - 14 : t + 1])
        gain, loss = change[change > 0].sum(), -change[change < 0].sum()
        rsi = 50.0 if gain + loss == 0 else 100.0 * gain / (gain + loss)
        return self.logistic_vote(1 / (1 + math.exp(math.log(2) * (rsi - 50) / 10)))

    def beyond_band(self, t: int) -> int:
        mean, sd = self.band(t)
        return 1 if self.close[t] > mean + 2 * sd else -1 if self.close[t] < mean - 2 * sd else 0

    def squeeze_breakout(self, t: int) -> int:
        begin = t
        while self.squeezed[begin - 1]:
            begin -= 1
        if t - begin < 3 or any(self.beyond_band(u) for u in range(begin + 3, t)):
            return 0
        return self.beyond_band(t)

    def momentum(self, t: int) -> int:
        window = self.volume[t - 19 : t + 1]
        z = 0.0 if np.ptp(window) == 0 else (window[-1] - window.mean()) / window.std()
        change = math.log(self.close[t]) - math.log(self.close[t - 10])
        return int(np.sign(change)) if z >= 0 else 0

    def order_flow(self, t: int) -> int:
        flow = np.log(self.close[t - 19 : t + 1] / self.close[t - 20 : t]) * self.volume[t - 19 : t + 1]
        z = 0.0 if np.ptp(flow) == 0 else (flow[-1] - flow.mean()) / flow.std()
        return self.logistic_vote(1 / (1 + math.exp(-z)))

    def opening_range(self, t: int) -> int:
        opening = np.flatnonzero((self.session == self.session[t]) & (self.minute < 30))
        if self.minute[t] < 30 or (self.session[t] == self.session[0] and self.minute[0] > 0):
            return 0
        if self.close[t] > self.high[opening].max():
            return 1
        return -1 if self.close[t] < self.low[opening].min() else 0

    def distance(self, t: int) -> float:
        window = slice(t - 19, t + 1)
        typical = (self.high[window] + self.low[window] + self.close[window]) / 3
        return float(self.close[t] - (typical * self.volume[window]).sum() / self.volume[window].sum())

    def vwap_reversion(self, t: int) -> int:
        distances = np.array([self.distance(u) for u in range(t - 19, t + 1)])
        z = distances[-1] / math.sqrt(np.mean(distances**2))
        return 1 if z <= -1 else -1 if z >= 1 else 0

    def votes(self, t: int) -> list[int]:
        detectors = (
            self.rsi_reversion,
            self.squeeze_breakout,
            self.momentum,
            self.order_flow,
            self.opening_range,
            self.vwap_reversion,
        )
        return [detector(t) for detector in detectors]

    def signal(self, t: int) -> float:
        if t < 60:
            return math.nan
        votes = self.votes(t)
        ups, downs = votes.count(1), votes.count(-1)
        if ups == downs:
            return 0.5
        r = max(ups, downs) / (ups + downs)
        away = 0.5 * r + (0.1 if r > 0.8 else 0.0)
        return min(0.95, max(0.05, 0.5 + away if ups > downs else 0.5 - away))


@pytest.mark.parametrize("seed", [0, 1, 10, 42, 117, 123])  # some differ if a squeeze looks at 59 or 61 bars
@pytest.mark.parametrize("cents", [False, True])
@pytest.mark.parametrize("begin", [0, 17])
def test_sigor_equals_the_naive_model_on_three_sessions(seed: int, cents: bool, begin: int) -> None:
    bar = np.arange(begin, begin + 3 * 170)
    session, minute = bar // 170, bar % 170
    prices = market(seed, len(bar), cents)
    model = Model(prices, session, minute)
    expected = [model.signal(t) for t in range(len(bar))]
    np.testing.assert_allclose(signals_of(prices, session, minute), expected, rtol=1e-15)


def test_every_detector_of_the_model_votes_both_ways() -> None:
    """Agreement on detectors that stay silent would prove nothing."""
    bar = np.arange(3 * 170)
    cast: set[tuple[int, int]] = set()
    for seed in range(6):
        model = Model(market(seed, len(bar)), bar // 170, bar % 170)
        for t in range(60, len(bar)):
            cast |= set(enumerate(model.votes(t)))
    assert cast == {(detector, vote) for detector in range(6) for vote in (-1, 0, 1)}


@pytest.mark.parametrize(
    ("ups", "downs", "probability"),
    [
        (0, 0, 0.5),
        (3, 3, 0.5),
        (1, 0, 0.95),
        (0, 6, 0.05),
        (5, 1, 0.95),  # 0.5 + 0.4167 + 0.1
        (1, 5, 0.05),
        (4, 1, 0.9),  # a share of exactly 0.8 is not above it
        (1, 4, 0.1),
        (3, 1, 0.875),
        (2, 1, 0.5 + 1 / 3),
        (2, 3, 0.2),
    ],
)
def test_votes_fuse_to_a_probability(ups: int, downs: int, probability: float) -> None:
    assert fuse(ups, downs) == pytest.approx(probability, rel=1e-15)


def test_a_flat_market_is_neutral() -> None:
    prices = market(1, 200)
    prices[:4] = 0.1 + 0.2
    bar = np.arange(200)
    assert (signals_of(prices, bar // 390, bar % 390)[60:] == 0.5).all()


def test_a_random_walk_moves_it_beyond_neutral_on_most_bars() -> None:
    bar = np.arange(3900)
    rng = np.random.default_rng(3)
    prices = market(3, len(bar))
    prices[3] = 100.0 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(bar))))
    prices[1] = prices[3] * 1.0004
    prices[2] = prices[3] * 0.9996
    signals = signals_of(prices, bar // 390, bar % 390)[60:]
    assert 0.70 < np.mean(signals != 0.5) < 0.86


def test_a_feature_that_is_pending_after_the_warm_up_silences_the_signal() -> None:
    strategy = STRATEGIES["sigor"]
    n = 80
    features = np.ones((len(strategy.features({})), n))
    features[4, 70] = math.nan
    features[9:, :] = math.nan  # the opening range may be pending
    zeros = np.zeros(n, np.int64)
    out = np.empty(n)
    state = np.zeros(strategy.state_size({}))
    strategy.kernel(np.ones((5, n)), zeros, zeros, features, np.empty(0), state, out)
    assert np.flatnonzero(np.isnan(out)).tolist() == [*range(60), 70]
