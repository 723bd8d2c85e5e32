"""The signal filter: every rule in a table, and arbitrary signals beside a naive model."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from operators.registry import refuse_parameters
from operators.signal_filter import PARAMETERS, filter_signals, state_size
from schemas.codes import Verdict

NAN, INF = math.nan, math.inf
PENDING, NEUTRAL, PASSED = Verdict.PENDING, Verdict.NEUTRAL, Verdict.PASSED
NOISE, COOLDOWN, INVALID = Verdict.REFUSED_NOISE, Verdict.REFUSED_COOLDOWN, Verdict.INVALID
M = 1_000_000

OPEN = {"cooldown": 0.0, "noise_factor": 0.0, "noise_window": 10.0, "min_score": 0.0}


def judge(
    signals: list[float], *, probability: bool = False, cuts: list[int] | None = None, **changed: float
) -> tuple[list[int], list[Verdict]]:
    """Passed scores and verdicts, the signals cut at `cuts` and the state dumped and loaded at each."""
    parameters = {**OPEN, **changed}
    assert refuse_parameters(PARAMETERS, parameters) is None
    values = np.array([parameters[p.name] for p in PARAMETERS])
    state = np.zeros(state_size(parameters))
    borders = [0, *(cuts or []), len(signals)]
    passed: list[int] = []
    verdicts: list[Verdict] = []
    for low, high in itertools.pairwise(borders):
        part: NDArray[np.float64] = np.array(signals[low:high], np.float64)
        scores = np.full(high - low, 99, np.int64)
        codes = np.full(high - low, 99, np.uint8)
        filter_signals(part, probability, values, state, scores, codes)
        state = np.frombuffer(bytearray(state.tobytes()))
        passed += scores.tolist()
        verdicts += [Verdict(int(code)) for code in codes]
    return passed, verdicts


@pytest.mark.parametrize(
    ("probability", "signal", "score"),
    [
        (True, 0.0, -M),
        (True, 1.0, M),
        (True, 0.75, M // 2),
        (True, 0.5 + 1e-6, 2),
        (True, 0.05, -900_000),
        (False, -1.0, -M),
        (False, 1.0, M),
        (False, 0.25, M // 4),
        (False, 2.5e-6, 2),  # halves go to the even neighbour
        (False, 3.5e-6, 4),
        (False, -2.5e-6, -2),
    ],
)
def test_a_signal_becomes_a_signed_score_in_millionths(probability: bool, signal: float, score: int) -> None:
    assert judge([signal], probability=probability) == ([score], [PASSED])


@pytest.mark.parametrize(
    ("probability", "signal"), [(True, 0.5), (True, 0.5 + 1e-7), (False, 0.0), (False, -0.0), (False, 4e-7)]
)
def test_a_signal_that_rounds_to_nothing_is_neutral(probability: bool, signal: float) -> None:
    assert judge([signal], probability=probability) == ([0], [NEUTRAL])


@pytest.mark.parametrize(
    ("probability", "signals", "verdicts"),
    [
        (False, [NAN, NAN, 1.0], [PENDING, PENDING, PASSED]),
        (False, [NAN, 1.0, NAN, 1.0], [PENDING, PASSED, INVALID, INVALID]),
        (False, [0.0, NAN, NAN, 0.5], [NEUTRAL, INVALID, INVALID, INVALID]),
        (False, [NAN, INF, NAN, 0.5], [PENDING, INVALID, INVALID, INVALID]),
        (False, [-INF, 0.5], [INVALID, INVALID]),
        (False, [1.0000001, 0.5], [INVALID, INVALID]),
        (False, [-1.0000001, 0.5], [INVALID, INVALID]),
        (True, [-1e-9, 0.9], [INVALID, INVALID]),
        (True, [-0.5, 0.9], [INVALID, INVALID]),
        (True, [1.0000001, 0.9], [INVALID, INVALID]),
    ],
)
def test_what_is_not_a_signal(probability: bool, signals: list[float], verdicts: list[Verdict]) -> None:
    passed, said = judge(signals, probability=probability)
    assert said == verdicts
    assert all(score == 0 for score, verdict in zip(passed, said, strict=True) if verdict != PASSED)


def test_the_open_filter_passes_everything_but_neutral() -> None:
    signals = [1.0, -1.0, 0.0, 0.000001, -0.2, 0.2, 0.0, 0.0, 1.0]
    passed, verdicts = judge(signals)
    assert passed == [round(s * M) for s in signals]
    assert verdicts == [NEUTRAL if s == 0.0 else PASSED for s in signals]


# name, changed parameters, signals, verdicts; what did not pass is 0, what passed is the signal itself
RULES: list[tuple[str, dict[str, float], list[float], list[Verdict]]] = [
    ("an entry at the minimum is refused", {"min_score": 0.5}, [0.5, -0.5, 0.500001], [NOISE, NOISE, PASSED]),
    ("no entry exceeds a minimum of one", {"min_score": 1.0}, [1.0, -1.0], [NOISE, NOISE]),
    (
        "a held side passes however weak, stronger or weaker",
        {"min_score": 0.5},
        [0.6, 0.1, 0.000001, 0.3, 0.9, 0.6],
        [PASSED] * 6,
    ),
    (
        "a weak flip ends the old side and does not open the new one",
        {"min_score": 0.5},
        [0.6, -0.1, 0.1, 0.6, -0.6],
        [PASSED, NOISE, NOISE, PASSED, PASSED],
    ),
    (
        "towards nothing passes",
        {"min_score": 0.5, "cooldown": 9},
        [0.6, 0.0, 0.0],
        [PASSED, NEUTRAL, NEUTRAL],
    ),
    (
        "an entry waits for the cool-down from the bar that left",
        {"cooldown": 3},
        [1.0, 0.0, 1.0, 1.0, 1.0, 1.0],
        [PASSED, NEUTRAL, COOLDOWN, COOLDOWN, PASSED, PASSED],
    ),
    (
        "a cool-down of one bar lets the next bar enter",
        {"cooldown": 1},
        [1.0, 0.0, 1.0, -1.0, 1.0],
        [PASSED, NEUTRAL, PASSED, PASSED, PASSED],
    ),
    (
        "a flip needs no cool-down from the side it leaves and starts one",
        {"cooldown": 2},
        [1.0, -1.0, 1.0, -1.0, 1.0],
        [PASSED, PASSED, COOLDOWN, COOLDOWN, PASSED],
    ),
    (
        "a flip within the cool-down leaves the side and starts the cool-down anew",
        {"cooldown": 2},
        [1.0, -1.0, 1.0, 1.0, 1.0],
        [PASSED, PASSED, COOLDOWN, COOLDOWN, PASSED],
    ),
    (
        "noise is said before cool-down",
        {"cooldown": 5, "min_score": 0.5},
        [1.0, 0.0, 0.4, 0.6],
        [PASSED, NEUTRAL, NOISE, COOLDOWN],
    ),
    (
        "a side refused for noise starts the cool-down",
        {"cooldown": 2, "min_score": 0.5},
        [1.0, -0.1, -1.0, -1.0],
        [PASSED, NOISE, COOLDOWN, PASSED],
    ),
    (
        "the first two bars know no noise",
        {"noise_factor": 10},
        [0.0, 0.000001],
        [NEUTRAL, PASSED],
    ),
    (
        "from the third bar on the change before it is the noise",
        {"noise_factor": 1},
        [0.2, -0.1, 0.3, 0.300001, -0.4],
        # changes before the bar: none, none, 0.3, {0.3, 0.4}, {0.000001, 0.3, 0.4}
        [PASSED, PASSED, NOISE, NOISE, PASSED],
    ),
    (
        "steps of a quarter of the bars or fewer are no noise",
        {"noise_factor": 10},
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.1],
        [NEUTRAL] * 5 + [PASSED],
    ),
]


@pytest.mark.parametrize(
    ("changed", "signals", "verdicts"), [pytest.param(*rule[1:], id=rule[0]) for rule in RULES]
)
def test_rule(changed: dict[str, float], signals: list[float], verdicts: list[Verdict]) -> None:
    passed, said = judge(signals, **changed)
    assert said == verdicts
    assert passed == [round(s * M) if v == PASSED else 0 for s, v in zip(signals, verdicts, strict=True)]


def test_noise_leaves_the_window_again() -> None:
    loud = [0.4, -0.4] * 8
    quiet = [0.0] * 12
    _, during = judge([*loud, 0.0, 0.5], noise_factor=1.0)
    _, after = judge([*loud, *quiet, 0.5], noise_factor=1.0)
    assert during[-1] == NOISE
    assert after[-1] == PASSED


def test_a_window_of_the_largest_size() -> None:
    signals = np.random.default_rng(5).uniform(-1, 1, 1300).tolist()
    parameters = {**OPEN, "noise_factor": 1.3, "noise_window": 500.0, "cooldown": 2.0}
    assert judge(signals, **parameters) == Model(False, parameters).judge(signals)


@dataclass
class Model:
    """The rules in plain Python: keeps all that ever happened and looks back."""

    probability: bool
    parameters: dict[str, float]
    scores: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    off: bool = False

    def judge(self, signals: list[float]) -> tuple[list[int], list[Verdict]]:
        verdicts = [self.step(signal) for signal in signals]
        return self.passed, verdicts

    def step(self, signal: float) -> Verdict:
        verdict, score = self.verdict(signal)
        self.passed.append(score if verdict == PASSED else 0)
        return verdict

    def verdict(self, signal: float) -> tuple[Verdict, int]:
        if math.isnan(signal) and not self.scores and not self.off:
            return PENDING, 0
        in_range = 0.0 <= signal <= 1.0 if self.probability else abs(signal) <= 1.0
        if self.off or not in_range:
            self.off = True
            return INVALID, 0
        score = round((2 * signal - 1) * 1e6 if self.probability else signal * 1e6)
        changes = np.abs(np.diff(self.scores))[-int(self.parameters["noise_window"]) :]
        self.scores.append(score)
        noise = float(np.percentile(changes, 25)) if len(changes) else 0.0
        floor = max(self.parameters["min_score"] * 1e6, self.parameters["noise_factor"] * noise)
        if score == 0:
            return NEUTRAL, 0
        held = self.passed[-1] if self.passed else 0
        if np.sign(held) == np.sign(score):
            return PASSED, score
        if abs(score) <= floor:
            return NOISE, 0
        sides = np.sign([0, *self.passed])
        left = [t for t in range(1, len(sides)) if sides[t - 1] != 0 and sides[t] != sides[t - 1]]
        if left and len(sides) - left[-1] < self.parameters["cooldown"]:
            return COOLDOWN, 0
        return PASSED, score


def signal_streams(low: float) -> st.SearchStrategy[list[float]]:
    usual = st.one_of(
        st.sampled_from([low, 0.0, 0.25, 0.5, 0.75, 1.0]),
        st.floats(low, 1.0, allow_nan=False),
        st.integers(-3, 3).map(lambda k: 0.5 + k * 1e-6),
    )
    broken = st.sampled_from([NAN, INF, -INF, 1.5, -1.5])
    warming = st.lists(st.just(NAN), max_size=3)
    return st.builds(
        lambda a, b, c, d: [*a, *b, *c, *d],
        warming,
        st.lists(usual, max_size=60),
        st.lists(broken, max_size=1),
        st.lists(usual, max_size=4),
    )


CONFIGURATIONS = st.fixed_dictionaries(
    {
        "cooldown": st.one_of(st.just(0.0), st.integers(0, 12).map(float)),
        "noise_factor": st.sampled_from([0.0, 0.5, 1.0, 3.7]),
        "noise_window": st.integers(10, 25).map(float),
        "min_score": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    }
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[bool, list[float], dict[str, float]]:
    probability = draw(st.booleans())
    return probability, draw(signal_streams(0.0 if probability else -1.0)), draw(CONFIGURATIONS)


@settings(deadline=None, max_examples=400)
@given(situation=situations())
def test_arbitrary_signals_equal_the_naive_model(
    situation: tuple[bool, list[float], dict[str, float]],
) -> None:
    probability, signals, parameters = situation
    assert judge(signals, probability=probability, **parameters) == Model(probability, parameters).judge(
        signals
    )


@settings(deadline=None, max_examples=200)
@given(situation=situations())
def test_nothing_passes_that_the_strategy_did_not_say(
    situation: tuple[bool, list[float], dict[str, float]],
) -> None:
    probability, signals, parameters = situation
    passed, verdicts = judge(signals, probability=probability, **parameters)
    for signal, score, verdict in zip(signals, passed, verdicts, strict=True):
        assert -M <= score <= M
        assert (score != 0) == (verdict == PASSED)
        if score != 0:
            assert score * (signal - 0.5 if probability else signal) > 0
    if INVALID in verdicts:
        assert set(verdicts[verdicts.index(INVALID) :]) == {INVALID}


@settings(deadline=None, max_examples=100)
@given(situation=situations(), data=st.data())
def test_cutting_anywhere_changes_nothing(
    situation: tuple[bool, list[float], dict[str, float]], data: st.DataObject
) -> None:
    probability, signals, parameters = situation
    cuts = data.draw(st.lists(st.integers(0, len(signals)), max_size=8).map(sorted))
    whole = judge(signals, probability=probability, **parameters)
    assert judge(signals, probability=probability, cuts=cuts, **parameters) == whole
    single = list(range(1, len(signals)))
    assert judge(signals, probability=probability, cuts=single, **parameters) == whole


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cooldown", 0.5),
        ("cooldown", -1),
        ("cooldown", 10_001),
        ("noise_factor", 10.1),
        ("noise_window", 9),
        ("noise_window", 501),
        ("min_score", 1.1),
        ("min_score", NAN),
    ],
)
def test_parameters_out_of_bounds_are_refused(name: str, value: float) -> None:
    said = refuse_parameters(PARAMETERS, {**OPEN, name: value})
    assert said is not None
    assert name in said
