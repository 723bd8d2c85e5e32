"""What the market stage has to compute for each symbol, worked out once from the configuration."""

from dataclasses import dataclass

import numpy as np

import operators.indicators
import operators.strategies  # noqa: F401 - both register what they hold
from operators import signal_filter
from operators.registry import (
    INDICATORS,
    STRATEGIES,
    Feature,
    Indicator,
    Parameters,
    Strategy,
    refuse_parameters,
)
from schemas.batches import Float64s
from schemas.config import Config, ConfigError
from schemas.config import Strategy as StrategyConfig


@dataclass(frozen=True, slots=True)
class IndicatorTask:
    """One indicator variant; its outputs are the rows `first` to `last` of the features."""

    indicator: Indicator
    parameters: Float64s
    state_size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class StrategyTask:
    """One strategy on one symbol: `index` is its place in the configuration, `rows` the features it reads."""

    index: int
    strategy: Strategy
    parameters: Float64s
    state_size: int
    rows: tuple[int, ...]
    filter_parameters: Float64s
    filter_state_size: int


@dataclass(frozen=True, slots=True)
class SymbolPlan:
    indicators: tuple[IndicatorTask, ...]
    strategies: tuple[StrategyTask, ...]
    features: int  # rows


@dataclass(frozen=True, slots=True)
class MarketPlan:
    symbols: dict[str, SymbolPlan]
    strategies: int  # in the configuration; rows of signals


def market_plan(config: Config) -> MarketPlan:
    """The plan of a configuration. Raises `ConfigError` for an unknown strategy or a parameter that is not
    allowed.
    """
    checked = [(s, settings, _checked(settings)) for s, settings in enumerate(config.strategies)]
    return MarketPlan(
        {
            symbol: _symbol_plan([row for row in checked if symbol in row[1].signals])
            for symbol in config.instruments
        },
        len(config.strategies),
    )


def _checked(settings: StrategyConfig) -> Strategy:
    where = f"strategies.{settings.name}"
    strategy = STRATEGIES.get(settings.kind)
    if strategy is None:
        raise ConfigError(
            f"{where}.kind: {settings.kind!r} is no strategy; known: {', '.join(sorted(STRATEGIES))}"
        )
    parameters = _floats(settings.parameters)
    wrong = refuse_parameters(strategy.parameters, parameters) or strategy.check(parameters)
    if wrong:
        raise ConfigError(f"{where}.parameters.{wrong}")
    return strategy


def _symbol_plan(wanted: list[tuple[int, StrategyConfig, Strategy]]) -> SymbolPlan:
    rows: dict[Feature, int] = {}
    tasks: list[IndicatorTask] = []
    strategies: list[StrategyTask] = []
    height = 0
    for s, settings, strategy in wanted:
        parameters = _floats(settings.parameters)
        needed = strategy.features(parameters)
        for feature in needed:
            if feature in rows:
                continue
            indicator = INDICATORS[feature.indicator]
            variant = dict(feature.parameters)
            tasks.append(
                IndicatorTask(
                    indicator,
                    np.array([variant[p.name] for p in indicator.parameters], np.float64),
                    indicator.state_size(variant),
                    height,
                    height + len(indicator.outputs),
                )
            )
            for output in indicator.outputs:
                rows[Feature(feature.indicator, feature.parameters, output)] = height
                height += 1
        filter_parameters = _floats(settings.filter.model_dump())
        strategies.append(
            StrategyTask(
                s,
                strategy,
                np.array([parameters[p.name] for p in strategy.parameters], np.float64),
                strategy.state_size(parameters),
                tuple(rows[feature] for feature in needed),
                np.array([filter_parameters[p.name] for p in signal_filter.PARAMETERS], np.float64),
                signal_filter.state_size(filter_parameters),
            )
        )
    return SymbolPlan(tuple(tasks), tuple(strategies), height)


def _floats(values: object) -> Parameters:
    assert isinstance(values, dict)
    return {name: float(value) for name, value in values.items()}
