"""What every registered strategy promises, on features computed by the registered indicators."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import operators.strategies  # noqa: F401
from operators.registry import INDICATORS, STRATEGIES, Strategy, refuse_parameters

Array = NDArray[np.float64]
BARS = 300
SESSION = 110

VARIANTS: dict[str, tuple[dict[str, float], ...]] = {
    "sigor": ({},),
    "toggle": ({},),
    "alternate": ({},),
    "dice": ({"seed": 1}, {"seed": 1_000_000_000}),
    "constant": ({"weight": 0.25}, {"weight": -1}),
    "ema_cross": ({"fast": 3, "slow": 10, "short": 0}, {"fast": 5, "slow": 30, "short": 1}),
}
CASES = [
    pytest.param(name, parameters, id=f"{name}-{'-'.join(f'{v:g}' for v in parameters.values())}")
    for name, variants in VARIANTS.items()
    for parameters in variants
]


def market(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.002, BARS)))
    close[150:200] = close[150]
    first = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(first, close) + rng.uniform(0, 0.05, BARS)
    low = np.minimum(first, close) - rng.uniform(0, 0.05, BARS)
    volume = np.rint(rng.lognormal(6, 1, BARS))
    volume[160:190] = 0.0
    return np.array([first, high, low, close, volume])


def run(
    strategy: Strategy, parameters: dict[str, float], prices: Array, cuts: list[int]
) -> tuple[Array, bytes]:
    """Signals and last states, the bars cut at `cuts` and every state dumped and loaded at each."""
    features = strategy.features(parameters)
    own = np.array([float(parameters[p.name]) for p in strategy.parameters])
    state = np.zeros(strategy.state_size(parameters))
    states = [np.zeros(INDICATORS[f.indicator].state_size(dict(f.parameters))) for f in features]
    bar = np.arange(prices.shape[1])
    signals = []
    for low, high in zip([0, *cuts], [*cuts, prices.shape[1]], strict=True):
        part = np.ascontiguousarray(prices[:, low:high])
        session, minute = bar[low:high] // SESSION, bar[low:high] % SESSION
        rows = np.empty((len(features), high - low))
        for k, feature in enumerate(features):
            indicator = INDICATORS[feature.indicator]
            given = dict(feature.parameters)
            values = np.empty((len(indicator.outputs), high - low))
            ordered = np.array([float(given[p.name]) for p in indicator.parameters])
            indicator.kernel(part, session, minute, ordered, states[k], values)
            rows[k] = values[indicator.outputs.index(feature.output)]
        out = np.full(high - low, 123.0)
        strategy.kernel(part, session, minute, rows, own, state, out)
        signals.append(out)
        state = np.frombuffer(bytearray(state.tobytes()))
        states = [np.frombuffer(bytearray(s.tobytes())) for s in states]
    return np.concatenate(signals), b"".join(s.tobytes() for s in (state, *states))


def test_every_registered_strategy_is_under_contract() -> None:
    assert set(VARIANTS) == set(STRATEGIES)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_parameters_and_features_are_allowed(name: str, parameters: dict[str, float]) -> None:
    strategy = STRATEGIES[name]
    assert refuse_parameters(strategy.parameters, parameters) is None
    assert strategy.check(parameters) is None
    for feature in strategy.features(parameters):
        indicator = INDICATORS[feature.indicator]
        assert refuse_parameters(indicator.parameters, dict(feature.parameters)) is None
        assert feature.output in indicator.outputs


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_warm_up_is_the_place_of_the_first_signal_and_all_later_bars_have_one(
    name: str, parameters: dict[str, float]
) -> None:
    strategy = STRATEGIES[name]
    signals, _ = run(strategy, parameters, market(1), [])
    warm_up = strategy.warm_up(parameters)
    assert np.isnan(signals[: warm_up - 1]).all()
    assert np.isfinite(signals[warm_up - 1 :]).all()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_signals_are_in_range(name: str, parameters: dict[str, float]) -> None:
    strategy = STRATEGIES[name]
    assert strategy.emits in ("probability", "weight")
    low = 0.0 if strategy.emits == "probability" else -1.0
    signals, _ = run(strategy, parameters, market(4), [])
    ready = signals[strategy.warm_up(parameters) - 1 :]
    assert ((ready >= low) & (ready <= 1.0)).all()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_one_bar_a_call_gives_the_same_bits(name: str, parameters: dict[str, float]) -> None:
    strategy = STRATEGIES[name]
    prices = market(2)
    whole, last = run(strategy, parameters, prices, [])
    single, last_single = run(strategy, parameters, prices, list(range(1, BARS)))
    assert whole.tobytes() == single.tobytes()
    assert last == last_single


@pytest.mark.parametrize(("name", "parameters"), CASES)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, BARS), max_size=12).map(sorted))
def test_cutting_anywhere_gives_the_same_bits(
    name: str, parameters: dict[str, float], seed: int, cuts: list[int]
) -> None:
    strategy = STRATEGIES[name]
    prices = market(seed)
    whole, last = run(strategy, parameters, prices, [])
    cut, last_cut = run(strategy, parameters, prices, cuts)
    assert whole.tobytes() == cut.tobytes()
    assert last == last_cut
