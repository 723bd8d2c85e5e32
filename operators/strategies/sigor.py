"""Six detectors vote on the next move: the stress test of everything behind it, beyond neutral on most bars.

Comes in: 1-minute bars and the features below. Goes out: the probability of a rise, 0.05 to 0.95, 0.5 when
the votes tie or none is cast, NaN for the first 60 bars. State: bars seen (up to the warm-up), the squeeze in
progress, and the last 60 standard deviations, in order of arrival and of size.

| detector | votes up | votes down | no vote |
|---|---|---|---|
| RSI reversion | p > 0.55, p = 1/(1 + exp(ln 2 · (RSI − 50)/10)) | p < 0.45 | otherwise |
| squeeze breakout | close above the upper band after a squeeze of 3 bars | below the lower | otherwise |
| momentum | 10-bar return > 0 at volume z >= 0 | return < 0 at volume z >= 0 | volume z < 0 |
| order flow | p > 0.55, p = 1/(1 + exp(−z)) | p < 0.45 | otherwise |
| opening range | close above its high | below its low | inside, or range pending |
| VWAP reversion | z <= −1, z = (close − vwap)/rms | z >= 1 | otherwise, or rms = 0 |

A squeeze is a run of bars whose standard deviation is at or below the 25th percentile of the last 60 (of as
many as there are, until there are 60; a bar's own among them). It arms after 3 bars, and the first close
beyond a band votes: while the squeeze lasts or on the bar that ends it. One squeeze votes once.

Every feature but the opening range is ready before the warm-up ends; one that is pending later makes the
signal NaN.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import ordered_size, push_ordered, quantile
from operators.registry import Feature, Strategy, register_strategy
from schemas.batches import CLOSE, Float64s, Int64s

WARM_UP = 61
_SQUEEZE_WINDOW = 60
_SQUEEZE_SHARE = 0.25
_SQUEEZE_BARS = 3

_FEATURES = (
    Feature.of("rsi_simple", n=14),
    Feature.of("bollinger", "upper", n=20, k=2),
    Feature.of("bollinger", "lower", n=20, k=2),
    Feature.of("bollinger", "sd", n=20, k=2),
    Feature.of("log_return", n=10),
    Feature.of("volume_z", n=20),
    Feature.of("order_flow_z", n=20),
    Feature.of("vwap_deviation", "vwap", n=20),
    Feature.of("vwap_deviation", "rms", n=20),
    Feature.of("opening_range", "high", m=30),
    Feature.of("opening_range", "low", m=30),
)
_RSI, _UPPER, _LOWER, _SD, _RETURN, _VOLUME_Z, _FLOW_Z, _VWAP, _RMS, _RANGE_HIGH, _RANGE_LOW = range(11)
_ALWAYS_READY = 9  # the features before this one have no pending bars after the warm-up

_BARS, _SQUEEZED, _VOTED = range(3)
_HEAD = 3


@kernel
def _beyond(probability: float) -> int:
    """The vote of a probability that is not close to a half."""
    if probability > 0.55:
        return 1
    if probability < 0.45:
        return -1
    return 0


@kernel
def _rsi_reversion(rsi: float) -> int:
    """Against the recent direction: every 10 points of RSI from 50 double the odds."""
    return _beyond(1.0 / (1.0 + math.exp(math.log(2.0) * (rsi - 50.0) / 10.0)))


@kernel
def _squeeze_breakout(close: float, upper: float, lower: float, sd: float, state: Float64s) -> int:
    """With a close beyond a band out of narrow bands. Needs every bar that has bands, also in the warm-up."""
    vote = 0
    if state[_SQUEEZED] >= _SQUEEZE_BARS and state[_VOTED] == 0.0:
        if close > upper:
            vote = 1
        elif close < lower:
            vote = -1
        if vote != 0:
            state[_VOTED] = 1.0
    sds = state[_HEAD:]
    push_ordered(sds, sd)
    if sd <= quantile(sds, _SQUEEZE_SHARE):
        state[_SQUEEZED] = min(state[_SQUEEZED] + 1.0, float(_SQUEEZE_BARS))
    else:
        state[_SQUEEZED] = 0.0
        state[_VOTED] = 0.0
    return vote


@kernel
def _momentum(log_return: float, volume_z: float) -> int:
    """With the recent direction, where at least usual volume stands behind it."""
    if volume_z >= 0.0:
        if log_return > 0.0:
            return 1
        if log_return < 0.0:
            return -1
    return 0


@kernel
def _order_flow(z: float) -> int:
    """With an unusual product of return and volume."""
    return _beyond(1.0 / (1.0 + math.exp(-z)))


@kernel
def _opening_range(close: float, high: float, low: float) -> int:
    """With a close outside the session's opening range. A pending range, NaN, fails both comparisons."""
    if close > high:
        return 1
    if close < low:
        return -1
    return 0


@kernel
def _vwap_reversion(close: float, vwap: float, rms: float) -> int:
    """Against a distance from the VWAP that is large by its own standard."""
    if rms > 0.0:
        z = (close - vwap) / rms
        if z <= -1.0:
            return 1
        if z >= 1.0:
            return -1
    return 0


@kernel
def fuse(ups: int, downs: int) -> float:
    """Probability of a rise: 0.5 ± half the winner's share of the votes cast, and 0.1 more above 0.8."""
    if ups == downs:
        return 0.5
    share = max(ups, downs) / (ups + downs)
    strength = 0.5 * share
    if share > 0.8:
        strength += 0.1
    probability = 0.5 + strength if ups > downs else 0.5 - strength
    return min(max(probability, 0.05), 0.95)


@kernel
def _sigor(
    prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    features: Float64s,
    _parameters: Float64s,
    state: Float64s,
    out: Float64s,
) -> None:
    """One vote of each detector, fused."""
    for i in range(len(out)):
        close = prices[CLOSE, i]
        squeeze = 0
        if not math.isnan(features[_SD, i]):
            squeeze = _squeeze_breakout(
                close, features[_UPPER, i], features[_LOWER, i], features[_SD, i], state
            )
        state[_BARS] = min(state[_BARS] + 1.0, float(WARM_UP))
        ready = state[_BARS] == WARM_UP
        for row in range(_ALWAYS_READY):
            if math.isnan(features[row, i]):
                ready = False
        if not ready:
            out[i] = math.nan
            continue
        ups = 0
        downs = 0
        for vote in (
            _rsi_reversion(features[_RSI, i]),
            squeeze,
            _momentum(features[_RETURN, i], features[_VOLUME_Z, i]),
            _order_flow(features[_FLOW_Z, i]),
            _opening_range(close, features[_RANGE_HIGH, i], features[_RANGE_LOW, i]),
            _vwap_reversion(close, features[_VWAP, i], features[_RMS, i]),
        ):
            if vote > 0:
                ups += 1
            elif vote < 0:
                downs += 1
        out[i] = fuse(ups, downs)


SIGOR = register_strategy(
    Strategy(
        name="sigor",
        emits="probability",
        parameters=(),
        features=lambda _: _FEATURES,
        warm_up=lambda _: WARM_UP,
        state_size=lambda _: _HEAD + ordered_size(_SQUEEZE_WINDOW),
        kernel=_sigor,
    )
)
