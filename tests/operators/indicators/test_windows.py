"""The shared windows against exact sums and numpy's quantile, on numbers chosen to hurt."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.indicators import windows

VALUES = st.builds(
    lambda digits, exponent: digits * 10.0**exponent,
    st.integers(-999, 999),
    st.integers(-3, 9),
)
STREAMS = st.lists(st.one_of(VALUES, st.just(100.0)), min_size=1, max_size=120)


def exact_moments(values: list[float]) -> tuple[float, float]:
    if len(set(values)) == 1:
        return values[0], 0.0
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


@settings(deadline=None, max_examples=200)
@given(stream=STREAMS, n=st.integers(1, 25))
def test_moments_equal_exact_sums_after_every_value(stream: list[float], n: int) -> None:
    window = np.zeros(windows.moments_size(n))
    for i, value in enumerate(stream):
        windows.push_moments(window, value)
        held = stream[max(0, i + 1 - n) : i + 1]
        mean, sd = exact_moments(held)
        size = max(abs(v) for v in held)
        assert window[windows.MEAN] == pytest.approx(mean, rel=1e-9, abs=1e-11 * size)
        assert windows.deviation(window) == pytest.approx(sd, rel=1e-9, abs=1e-13 * size)
        assert windows.is_full(window, windows.MOMENTS_HEAD) == (i + 1 >= n)


@pytest.mark.parametrize("before", [[], [1e12, -1e12, 3.3], [0.1 * k for k in range(50)]])
def test_equal_values_have_that_mean_and_no_deviation(before: list[float]) -> None:
    window = np.zeros(windows.moments_size(14))
    for value in before + [0.1] * 14:
        windows.push_moments(window, value)
    assert window[windows.MEAN] == 0.1
    assert windows.deviation(window) == 0.0
    assert windows.z_score(window, 0.1) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_equal_values_have_no_deviation_after_noise_in_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    before = 762.2 + np.spacing(762.2) * rng.integers(-3, 4, int(rng.integers(0, 3 * n)))
    window = np.zeros(windows.moments_size(n))
    for value in [*before, *[762.2] * n]:
        windows.push_moments(window, value)
    assert window[windows.MEAN] == 762.2
    assert windows.deviation(window) == 0.0


def test_moments_do_not_drift_over_a_long_recording() -> None:
    stream = 1e4 + np.cumsum(np.random.default_rng(7).normal(0, 0.01, 30_000))
    window = np.zeros(windows.moments_size(500))
    for i, value in enumerate(stream):
        windows.push_moments(window, value)
        if i % 997 == 996 and i >= 500:
            mean, sd = exact_moments(stream[i - 499 : i + 1].tolist())
            assert window[windows.MEAN] == pytest.approx(mean, rel=1e-14)
            assert windows.deviation(window) == pytest.approx(sd, rel=1e-9)


def test_a_spike_leaves_nothing_behind() -> None:
    quiet = np.random.default_rng(8).normal(10.0, 0.01, 40)
    stream = [*quiet[:15], 1e10, *quiet[15:]]
    window = np.zeros(windows.moments_size(10))
    for i, value in enumerate(stream):
        windows.push_moments(window, value)
        if i >= 25:
            mean, sd = exact_moments([float(v) for v in stream[i - 9 : i + 1]])
            assert window[windows.MEAN] == pytest.approx(mean, rel=1e-13)
            assert windows.deviation(window) == pytest.approx(sd, rel=1e-9)


@settings(deadline=None, max_examples=200)
@given(stream=STREAMS, n=st.integers(1, 25), share=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]))
def test_ordered_window_equals_numpy_after_every_value(stream: list[float], n: int, share: float) -> None:
    window = np.zeros(windows.ordered_size(n))
    assert windows.quantile(window, share) == 0.0
    for i, value in enumerate(stream):
        windows.push_ordered(window, value)
        held = stream[max(0, i + 1 - n) : i + 1]
        first = windows.RING_HEAD + n
        assert window[first : first + len(held)].tolist() == sorted(held)
        size = max(abs(v) for v in held)
        assert windows.quantile(window, share) == pytest.approx(
            np.quantile(held, share), rel=1e-12, abs=1e-12 * size
        )


def test_ring_returns_the_value_of_n_pushes_ago() -> None:
    window = np.zeros(windows.ring_size(3))
    returned = [windows.push_ring(window, float(k)) for k in range(1, 9)]
    assert all(math.isnan(v) for v in returned[:3])
    assert returned[3:] == [1.0, 2.0, 3.0, 4.0, 5.0]
