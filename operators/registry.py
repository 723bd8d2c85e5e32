"""Indicators and strategies by name. Both are described by data; the compiled part is one function each.

Every kernel carries its state in one float64 vector from call to call, so where a caller cuts the bars never
changes a bit of the result, and a snapshot is the bytes of that vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Parameters = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number from the configuration. Allowed: `low <= value <= high`, whole where `whole`."""

    name: str
    low: float
    high: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Indicator:
    """One indicator.

    `kernel(prices, session, minute, parameters, state, out)`: prices (5, n) float64; session, minute (n,)
    int64; parameters (p,) float64 in declared order; state (m,) float64, zeros at first, changed in place;
    out (len(outputs), n) float64, filled: NaN while the indicator is pending.
    """

    name: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    warm_up: Callable[[Parameters], int]  # bars until the first number, which stands at index warm_up - 1
    state_size: Callable[[Parameters], int]
    kernel: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Feature:
    """One output of one indicator variant: `Feature("ema", {"n": 10})`."""

    indicator: str
    parameters: tuple[tuple[str, float], ...]
    output: str

    @classmethod
    def of(cls, indicator: str, output: str = "value", **parameters: float) -> "Feature":
        return cls(indicator, tuple(sorted(parameters.items())), output)


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy.

    `kernel(prices, session, minute, features, parameters, state, out)`: features (k, n) float64, rows in the
    order of `features(parameters)`; out (n,) float64, filled: a probability in [0, 1] or a weight in [-1, 1]
    as `emits` says, NaN while pending. A kernel may also be a plain Python function; it is then slower and
    nothing else differs.
    """

    name: str
    emits: str  # "probability" or "weight"
    parameters: tuple[Parameter, ...]
    features: Callable[[Parameters], tuple[Feature, ...]]
    warm_up: Callable[[Parameters], int]
    state_size: Callable[[Parameters], int]
    kernel: Callable[..., None]
    check: Callable[[Parameters], str | None] = field(
        default=lambda _: None
    )  # what is wrong between parameters


INDICATORS: dict[str, Indicator] = {}
STRATEGIES: dict[str, Strategy] = {}


def _register(table: dict[str, Any], item: Any) -> Any:
    if item.name in table:
        raise ValueError(f"{item.name!r} is registered twice")
    table[item.name] = item
    return item


def register_indicator(item: Indicator) -> Indicator:
    """Add an indicator; its name must be new."""
    registered: Indicator = _register(INDICATORS, item)
    return registered


def register_strategy(item: Strategy) -> Strategy:
    """Add a strategy; its name must be new."""
    registered: Strategy = _register(STRATEGIES, item)
    return registered


def refuse_parameters(declared: tuple[Parameter, ...], given: Parameters) -> str | None:
    """What is wrong with `given`, as a sentence, or None."""
    names = [p.name for p in declared]
    for name in given:
        if name not in names:
            return f"{name}: unknown parameter; known: {', '.join(names) or 'none'}"
    for p in declared:
        if p.name not in given:
            return f"{p.name}: missing; a number from {p.low:g} to {p.high:g}"
        value = given[p.name]
        if not p.low <= value <= p.high or (p.whole and value != int(value)):
            kind = "a whole number" if p.whole else "a number"
            return f"{p.name}: {value!r} is not allowed; {kind} from {p.low:g} to {p.high:g}"
    return None
