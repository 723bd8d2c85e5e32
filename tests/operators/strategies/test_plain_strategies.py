"""The strategies whose every signal can be written down."""

import numpy as np
import pytest
from numpy.typing import NDArray

import operators.strategies  # noqa: F401
from operators.registry import STRATEGIES

Array = NDArray[np.float64]
NAN = float("nan")


def signals_of(name: str, features: Array, bars: int, **parameters: float) -> list[float]:
    strategy = STRATEGIES[name]
    given = np.array([float(parameters[p.name]) for p in strategy.parameters])
    zeros = np.zeros(bars, np.int64)
    out = np.full(bars, 123.0)
    state = np.zeros(strategy.state_size(parameters))
    strategy.kernel(np.ones((5, bars)), zeros, zeros, features, given, state, out)
    return [float(v) for v in out]


def test_alternate_flips_on_every_bar() -> None:
    assert signals_of("alternate", np.empty((0, 5)), 5) == [1, 0, 1, 0, 1]


def test_dice_throw_each_weight_as_often_and_by_their_seed() -> None:
    one, two = (signals_of("dice", np.empty((0, 9000)), 9000, seed=seed) for seed in (1, 2))
    for weight in (-1, 0, 1):
        assert 2800 < one.count(weight) < 3200
    assert one != two
    assert one == signals_of("dice", np.empty((0, 9000)), 9000, seed=1)


def test_toggle_flips_on_three_of_four_bars() -> None:
    assert signals_of("toggle", np.empty((0, 12)), 12) == [1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.3, 1.0])
def test_constant_never_changes(weight: float) -> None:
    assert signals_of("constant", np.empty((0, 5)), 5, weight=weight) == [weight] * 5


@pytest.mark.parametrize(
    ("fast", "slow", "long_flat", "long_short"),
    [
        (2.0, 1.0, 1.0, 1.0),
        (1.0, 2.0, 0.0, -1.0),
        (1.0, 1.0, 0.0, 0.0),
        (1.0, NAN, NAN, NAN),
        (NAN, 1.0, NAN, NAN),
        (NAN, NAN, NAN, NAN),
    ],
)
def test_ema_cross(fast: float, slow: float, long_flat: float, long_short: float) -> None:
    features = np.array([[fast], [slow]])
    np.testing.assert_array_equal(signals_of("ema_cross", features, 1, fast=2, slow=3, short=0), [long_flat])
    np.testing.assert_array_equal(signals_of("ema_cross", features, 1, fast=2, slow=3, short=1), [long_short])


@pytest.mark.parametrize(("fast", "slow", "allowed"), [(2, 3, True), (3, 3, False), (4, 3, False)])
def test_ema_cross_wants_the_fast_average_to_be_faster(fast: int, slow: int, allowed: bool) -> None:
    said = STRATEGIES["ema_cross"].check({"fast": fast, "slow": slow, "short": 0})
    assert (said is None) == allowed
