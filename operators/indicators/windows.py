"""Bounded windows in a float64 vector: the shared parts of indicators, strategies and the signal filter.

Comes in: a window (a view of a state vector, zeros at first) and a number. Goes out: the window, changed in
place. State: a ring of n values needs `ring_size(n)` floats, the moments of n values `moments_size(n)`, an
ordered window of n values `ordered_size(n)`. The length of the view says n, so a window is handed on as one
argument.

Always true: what a window holds depends on the numbers pushed and on nothing else; numbers are finite.
"""

import math

from operators.compiled import kernel
from schemas.batches import Float64s

LONGEST = 5000
"""Largest number of bars in a window that a configuration may ask for."""

# Every window begins with how many values it holds and where the next one goes.
FILLED, SLOT = range(2)
RING_HEAD = 2
MEAN, SQUARES, PEAK, RUN = range(2, 6)
MOMENTS_HEAD = 6

SHRINK = 1e-3
"""Squares below this share of their peak are summed anew, or the rounding of the peak would drown them."""


def ring_size(n: int) -> int:
    """Floats of state for the last n values."""
    return RING_HEAD + n


def moments_size(n: int) -> int:
    """Floats of state for mean and standard deviation of the last n values."""
    return MOMENTS_HEAD + n


def ordered_size(n: int) -> int:
    """Floats of state for the last n values in order of size."""
    return RING_HEAD + 2 * n


@kernel
def push_ring(window: Float64s, x: float) -> float:
    """Store x; return the value of n pushes ago, NaN while there is none."""
    n = len(window) - RING_HEAD
    slot = int(window[SLOT])
    oldest = math.nan
    if window[FILLED] == n:
        oldest = window[RING_HEAD + slot]
    else:
        window[FILLED] += 1.0
    window[RING_HEAD + slot] = x
    window[SLOT] = slot + 1 if slot + 1 < n else 0
    return oldest


@kernel
def _sum_anew(window: Float64s) -> None:
    """Mean and sum of squares from the stored values alone, in two passes; the second corrects the first."""
    filled = int(window[FILLED])
    total = 0.0
    for i in range(filled):
        total += window[MOMENTS_HEAD + i]
    mean = total / filled
    residual = 0.0
    squares = 0.0
    for i in range(filled):
        distance = window[MOMENTS_HEAD + i] - mean
        residual += distance
        squares += distance * distance
    window[MEAN] = mean + residual / filled
    window[SQUARES] = max(squares - residual * residual / filled, 0.0)
    window[PEAK] = window[SQUARES]


@kernel
def push_moments(window: Float64s, x: float) -> None:
    """Slide the mean and the sum of squared distances from it on by one value.

    Welford's recurrence (Technometrics 4, 1962), which adds x and takes away the value of n pushes ago in one
    step. Its rounding does not add up: each time the ring wraps, and when the squares have shrunk far below
    their peak, both are summed anew. A window of equal values has exactly that mean and squares of exactly 0.
    """
    n = len(window) - MOMENTS_HEAD
    filled = int(window[FILLED])
    slot = int(window[SLOT])
    previous = window[MOMENTS_HEAD + (slot if slot > 0 else n) - 1]
    oldest = window[MOMENTS_HEAD + slot]
    before = window[MEAN]
    window[MOMENTS_HEAD + slot] = x
    run = 1.0
    if filled > 0 and x == previous:
        run = min(window[RUN] + 1.0, float(n))
    window[RUN] = run
    if filled < n:
        window[FILLED] = filled + 1
        mean = before + (x - before) / (filled + 1)
        squares = window[SQUARES] + (x - before) * (x - mean)
    else:
        mean = before + (x - oldest) / n
        squares = window[SQUARES] + (x - oldest) * ((x - mean) + (oldest - before))
    slot = slot + 1 if slot + 1 < n else 0
    window[SLOT] = slot
    window[MEAN] = mean
    window[SQUARES] = squares
    if run == n:
        window[MEAN] = x
        window[SQUARES] = 0.0
        window[PEAK] = 0.0
    elif slot == 0 or squares < window[PEAK] * SHRINK:
        _sum_anew(window)
    elif squares > window[PEAK]:
        window[PEAK] = squares


@kernel
def is_full(window: Float64s, head: int) -> bool:
    """Whether a window whose values begin at `head` holds as many as it can."""
    return bool(window[FILLED] == len(window) - head)


@kernel
def deviation(window: Float64s) -> float:
    """Population standard deviation of the values in a moments window that is not empty."""
    return math.sqrt(window[SQUARES] / window[FILLED])


@kernel
def z_score(window: Float64s, x: float) -> float:
    """Distance of x from the mean in standard deviations; 0 where all values are equal."""
    sd = deviation(window)
    if sd == 0.0:
        return 0.0
    return float((x - window[MEAN]) / sd)


@kernel
def push_ordered(window: Float64s, x: float) -> None:
    """Store x in the ring and in its place among the ordered values; the value of n pushes ago leaves both.

    Layout after the head: n values in order of arrival, then n in order of size.
    """
    n = (len(window) - RING_HEAD) // 2
    first = RING_HEAD + n
    filled = int(window[FILLED])
    slot = int(window[SLOT])
    gap = first + filled  # the place that is free once the oldest value has left
    if filled == n:
        oldest = window[RING_HEAD + slot]
        low = first
        high = first + n
        while low < high:
            middle = (low + high) // 2
            if window[middle] < oldest:
                low = middle + 1
            else:
                high = middle
        gap = low
    else:
        window[FILLED] = filled + 1
    while gap > first and window[gap - 1] > x:
        window[gap] = window[gap - 1]
        gap -= 1
    last = first + int(window[FILLED]) - 1
    while gap < last and window[gap + 1] < x:
        window[gap] = window[gap + 1]
        gap += 1
    window[gap] = x
    window[RING_HEAD + slot] = x
    window[SLOT] = slot + 1 if slot + 1 < n else 0


@kernel
def quantile(window: Float64s, share: float) -> float:
    """The value below which `share` (0 to 1) of an ordered window lies; 0 where it is empty.

    Between neighbours in proportion: definition 7 of Hyndman and Fan (The American Statistician 50, 1996),
    numpy's default.
    """
    filled = int(window[FILLED])
    if filled == 0:
        return 0.0
    first = RING_HEAD + (len(window) - RING_HEAD) // 2
    position = share * (filled - 1)
    below = int(position)
    if below + 1 >= filled:
        return float(window[first + filled - 1])
    low = window[first + below]
    return float(low + (window[first + below + 1] - low) * (position - below))
