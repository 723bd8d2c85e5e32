"""What every registered indicator promises, over several variants of each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import operators.indicators  # noqa: F401
from operators.registry import INDICATORS, Indicator, refuse_parameters

Array = NDArray[np.float64]
BARS = 400
SESSION = 90

VARIANTS: dict[str, tuple[dict[str, float], ...]] = {
    "sma": ({"n": 1}, {"n": 7}, {"n": 50}),
    "ema": ({"n": 1, "seed": 0}, {"n": 9, "seed": 0}, {"n": 9, "seed": 1}),
    "stddev": ({"n": 2}, {"n": 20}),
    "rsi": ({"n": 2}, {"n": 14}),
    "rsi_simple": ({"n": 2}, {"n": 14}),
    "bollinger": ({"n": 2, "k": 0}, {"n": 20, "k": 2}),
    "log_return": ({"n": 1}, {"n": 10}),
    "vwap_rolling": ({"n": 1}, {"n": 20}),
    "vwap_deviation": ({"n": 1}, {"n": 20}),
    "volume_z": ({"n": 2}, {"n": 20}),
    "order_flow_z": ({"n": 2}, {"n": 20}),
    "opening_range": ({"m": 1}, {"m": 30}),
}
CASES = [
    pytest.param(name, parameters, id=f"{name}-{'-'.join(f'{v:g}' for v in parameters.values())}")
    for name, variants in VARIANTS.items()
    for parameters in variants
]


def market(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    close = np.round(50.0 * np.exp(np.cumsum(rng.normal(0, 0.002, BARS))), 2)
    close[150:200] = close[150]
    close[260:] *= 40.0
    first = np.concatenate([close[:1], close[:-1]])
    volume = np.rint(rng.lognormal(6, 2, BARS))
    volume[170:210] = 0.0
    high = np.maximum(first, close) + np.round(rng.uniform(0, 0.05, BARS), 2)
    low = np.minimum(first, close) - np.round(rng.uniform(0, 0.05, BARS), 2)
    return np.array([first, high, low, close, volume])


def run(
    indicator: Indicator, parameters: dict[str, float], prices: Array, cuts: list[int]
) -> tuple[Array, Array]:
    """Outputs and last state, the bars cut at `cuts` and the state dumped and loaded at each."""
    given = np.array([float(parameters[p.name]) for p in indicator.parameters])
    bar = np.arange(prices.shape[1])
    state = np.zeros(indicator.state_size(parameters))
    rows = []
    for low, high in zip([0, *cuts], [*cuts, prices.shape[1]], strict=True):
        part = np.ascontiguousarray(prices[:, low:high])
        out = np.full((len(indicator.outputs), high - low), 123.0)
        indicator.kernel(part, bar[low:high] // SESSION, bar[low:high] % SESSION, given, state, out)
        state = np.frombuffer(bytearray(state.tobytes()))
        rows.append(out)
    return np.concatenate(rows, axis=1), state


def test_every_registered_indicator_is_under_contract() -> None:
    assert set(VARIANTS) == set(INDICATORS)


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_parameters_are_allowed(name: str, parameters: dict[str, float]) -> None:
    assert refuse_parameters(INDICATORS[name].parameters, parameters) is None


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_warm_up_is_the_place_of_the_first_number_and_all_later_bars_have_one(
    name: str, parameters: dict[str, float]
) -> None:
    indicator = INDICATORS[name]
    out, _ = run(indicator, parameters, market(1)[:, :SESSION], [])
    ready = np.isfinite(out)
    for row in ready:
        assert int(np.argmax(row)) + 1 == indicator.warm_up(parameters)
        assert row[indicator.warm_up(parameters) - 1 :].all()
    assert np.isnan(out[~ready]).all()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_one_bar_a_call_gives_the_same_bits(name: str, parameters: dict[str, float]) -> None:
    indicator = INDICATORS[name]
    prices = market(2)
    whole, last = run(indicator, parameters, prices, [])
    single, last_single = run(indicator, parameters, prices, list(range(1, BARS)))
    assert whole.tobytes() == single.tobytes()
    assert last.tobytes() == last_single.tobytes()


@pytest.mark.parametrize(("name", "parameters"), CASES)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, BARS), max_size=12).map(sorted))
def test_cutting_anywhere_gives_the_same_bits(
    name: str, parameters: dict[str, float], seed: int, cuts: list[int]
) -> None:
    indicator = INDICATORS[name]
    prices = market(seed)
    whole, last = run(indicator, parameters, prices, [])
    cut, last_cut = run(indicator, parameters, prices, cuts)
    assert whole.tobytes() == cut.tobytes()
    assert last.tobytes() == last_cut.tobytes()


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_state_stays_in_its_vector_and_prices_are_not_changed(
    name: str, parameters: dict[str, float]
) -> None:
    indicator = INDICATORS[name]
    prices = market(3)
    size = indicator.state_size(parameters)
    guarded = np.full(size + 2, 77.0)
    guarded[1:-1] = 0.0
    given = np.array([float(parameters[p.name]) for p in indicator.parameters])
    bar = np.arange(BARS)
    out = np.empty((len(indicator.outputs), BARS))
    before = prices.tobytes()
    indicator.kernel(prices, bar // SESSION, bar % SESSION, given, guarded[1:-1], out)
    assert guarded[0] == guarded[-1] == 77.0
    assert prices.tobytes() == before
    assert not np.isinf(out).any()
