"""Lets a strategy's signal through, or says why not.

Comes in: signals of one strategy on one symbol, one a bar. Goes out: for each the score that passed, signed
millionths, and a verdict. Key: strategy and symbol. State: five numbers and the last `noise_window` absolute
changes of the score, in order of arrival and of size: `state_size(parameters)` floats.

Score: round((2p − 1) · 10^6) of a probability p, round(w · 10^6) of a weight w, halves to even.

Whether a signal is a number:

| signal | never a number before | a number before | switched off |
|---|---|---|---|
| NaN | PENDING | switched off, INVALID | INVALID |
| infinite or out of range | switched off, INVALID | switched off, INVALID | INVALID |
| in range | see below | see below | INVALID |

A strategy that is switched off stays so: what it says next is no better founded. What an in-range signal
becomes depends on its side and on the side that passed on the bar before (none before the first bar):

| side of the score | passed: none | passed: the same | passed: the opposite |
|---|---|---|---|
| none | NEUTRAL | NEUTRAL | NEUTRAL |
| up or down | entry | PASSED with the new score | entry |

| entry | verdict |
|---|---|
| absolute score <= floor | REFUSED_NOISE |
| above it, a side was left fewer than `cooldown` bars ago | REFUSED_COOLDOWN |
| above it otherwise | PASSED |

Only PASSED has a score other than 0, so a refused flip ends the old side. A side is left on the bar where a
non-zero passed score becomes 0 or changes its sign; the flip itself needs no cool-down from the side it
leaves, only from one left before. With a cool-down of c, a side left at bar t is followed by an entry at bar
t + c at the earliest.

Floor: the larger of `min_score` (a share of the full score) and `noise_factor` times the 25th percentile of
the absolute changes of the score from bar to bar, over the last `noise_window` changes, or as many as there
are, up to the bar before: a bar is judged by the noise that was there, not by its own step. So on the first
two in-range bars, before which there is no change, the floor is `min_score` alone.

Always true: a passed score is 0 or the bar's own score.
"""

import math

import numpy as np

from operators.compiled import kernel
from operators.indicators.windows import ordered_size, push_ordered, quantile
from operators.registry import Parameter, Parameters
from schemas.batches import Codes, Float64s, Int64s
from schemas.codes import Verdict

PARAMETERS = (
    Parameter("cooldown", 0, 10_000),  # bars
    Parameter("noise_factor", 0, 10, whole=False),
    Parameter("noise_window", 10, 500),  # bars
    Parameter("min_score", 0, 1, whole=False),
)
_COOLDOWN, _NOISE_FACTOR, _NOISE_WINDOW, _MIN_SCORE = range(4)

_OFF, _READY, _SCORE, _PASSED, _WAIT = range(5)
_HEAD = 5

_NOISE_SHARE = 0.25
_MILLION = 1e6


def state_size(parameters: Parameters) -> int:
    """Floats of state for one strategy on one symbol."""
    return _HEAD + ordered_size(int(parameters["noise_window"]))


@kernel
def _judge_entry(score: float, parameters: Float64s, state: Float64s) -> int:
    """The verdict on a score that opens a side."""
    floor = parameters[_MIN_SCORE] * _MILLION
    if parameters[_NOISE_FACTOR] > 0.0:
        floor = max(floor, parameters[_NOISE_FACTOR] * quantile(state[_HEAD:], _NOISE_SHARE))
    if abs(score) <= floor:
        return Verdict.REFUSED_NOISE
    if state[_WAIT] > 0.0:
        return Verdict.REFUSED_COOLDOWN
    return Verdict.PASSED


@kernel
def _judge(score: float, parameters: Float64s, state: Float64s) -> int:
    """The verdict on a score in range, by the table of the module."""
    if score == 0.0:
        return Verdict.NEUTRAL
    if score * state[_PASSED] > 0.0:
        return Verdict.PASSED
    return _judge_entry(score, parameters, state)


@kernel
def filter_signals(
    signals: Float64s,
    is_probability: bool,
    parameters: Float64s,
    state: Float64s,
    passed: Int64s,
    verdict: Codes,
) -> None:
    """Judge n signals of one strategy on one symbol.

    signals (n,): probabilities in [0, 1] or weights in [-1, 1], NaN while pending. parameters (4,) in the
    order of `PARAMETERS`. state (state_size,), zeros at first, changed in place. passed (n,) signed
    millionths and verdict (n,) `Verdict` codes are filled.
    """
    changes = state[_HEAD:]
    low = 0.0 if is_probability else -1.0
    for i in range(len(signals)):
        signal = signals[i]
        passed[i] = 0
        if state[_OFF] == 0.0 and math.isnan(signal) and state[_READY] == 0.0:
            verdict[i] = Verdict.PENDING
            continue
        if state[_OFF] == 1.0 or not low <= signal <= 1.0:
            state[_OFF] = 1.0
            verdict[i] = Verdict.INVALID
            continue
        score = np.rint((2.0 * signal - 1.0 if is_probability else signal) * _MILLION)
        if state[_WAIT] > 0.0:
            state[_WAIT] -= 1.0
        judged = _judge(score, parameters, state)
        if state[_READY] == 1.0 and parameters[_NOISE_FACTOR] > 0.0:
            push_ordered(changes, abs(score - state[_SCORE]))
        state[_READY] = 1.0
        state[_SCORE] = score
        now = score if judged == Verdict.PASSED else 0.0
        if state[_PASSED] != 0.0 and now * state[_PASSED] <= 0.0:
            state[_WAIT] = parameters[_COOLDOWN]
        state[_PASSED] = now
        passed[i] = int(now)
        verdict[i] = judged
