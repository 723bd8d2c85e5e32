"""The market stage without Bytewax: the four machines in a row, as the graph has them."""

from collections.abc import Iterable
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from connectors.calendars import load_sessions
from connectors.config_file import DEPLOY, load_config
from connectors.synthetic import Family, generate
from operators.market import Indicators, Quality, SignalFilter, Strategies, journal_slices
from operators.market_plan import market_plan
from operators.quality import QualityLimits
from schemas.batches import BarBatch, DeadLetters, MarketBatch, SliceBatch
from schemas.codes import DeadLetter, Verdict
from schemas.config import Config, ConfigError, parse_config

FIRST, LAST = date(2024, 11, 25), date(2024, 12, 31)
SESSIONS = load_sessions("XNYS", FIRST, LAST)
LIMITS = QualityLimits(60_000_000_000, 0.2, 60, 1e6, 1e12)


@pytest.fixture(scope="module")
def config() -> Config:
    """Every strategy on one symbol."""
    base = load_config(DEPLOY / "us-families.toml").model_dump()
    return parse_config(base)


@pytest.fixture(scope="module")
def bars() -> BarBatch:
    """Four sessions of one symbol, one of them a half day, with dirt."""
    family = Family("QQQ", (("QQQ", 1.0),))
    frame = pl.concat(generate(SESSIONS, [family], FIRST, 4, 3, dirty=True))
    frame = frame.filter(pl.col("symbol") == "QQQ")
    return BarBatch(
        "QQQ",
        frame["start_ns"].to_physical().to_numpy(),
        frame["end_ns"].to_physical().to_numpy(),
        np.ascontiguousarray(frame.select("open", "high", "low", "close", "volume").to_numpy().T),
        np.zeros(frame.height, np.uint8),
        -1,
    )


def part(bars: BarBatch, first: int, last: int, final: bool) -> BarBatch:
    at = slice(first, last)
    prices = np.ascontiguousarray(bars.prices[:, at])
    return BarBatch(bars.symbol, bars.start_ns[at], bars.end_ns[at], prices, bars.reason[at], -1, final)


def machines(config: Config) -> list[Any]:
    plan = market_plan(config)
    return [Quality(LIMITS, SESSIONS, plan), Indicators(plan), Strategies(plan), SignalFilter(plan)]


def through(stage: list[Any], batch: BarBatch) -> tuple[list[SliceBatch], list[DeadLetters]]:
    quality, *rest = stage
    slices, dead = [], []
    for item in quality.step(batch):
        if isinstance(item, DeadLetters):
            dead.append(item)
            continue
        items: list[MarketBatch] = [item]
        for machine in rest:
            items = [output for each in items for output in machine.step(each)]
        slices += [journal_slices(each, 0) for each in items]
    return slices, dead


def run(config: Config, bars: BarBatch, cuts: Iterable[int], restore: bool) -> tuple[bytes, list[int]]:
    """Bytes of all slices and the reasons of all dead letters; at each cut all machines may be restored."""
    stage = machines(config)
    edges = [0, *cuts, len(bars)]
    rows: list[bytes] = []
    reasons: list[int] = []
    for first, last in pairwise(edges):
        if restore:
            fresh = machines(config)
            for old, new in zip(stage, fresh, strict=True):
                new.load(old.dump())
            stage = fresh
        slices, dead = through(stage, part(bars, first, last, last == len(bars)))
        rows += [
            b"".join(
                event.tobytes() + value.tobytes() + verdict.tobytes()
                for event, value, verdict in zip(s.events, s.values, s.verdicts, strict=True)
            )
            for s in slices
        ]
        reasons += [int(reason) for letters in dead for reason in letters.reason]
    return b"".join(rows), reasons


@pytest.mark.parametrize("restore", [False, True], ids=["kept", "restored"])
@pytest.mark.parametrize("seed", range(3))
def test_cutting_and_restoring_changes_no_bit(
    config: Config, bars: BarBatch, seed: int, restore: bool
) -> None:
    whole = run(config, bars, [], False)
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, len(bars)), 40, replace=False).tolist())
    assert run(config, bars, cuts, restore) == whole


def test_good_bars_and_dead_letters_add_up(config: Config, bars: BarBatch) -> None:
    slices, dead = through(machines(config), bars)
    assert sum(len(s.events) for s in slices) + sum(map(len, dead)) == len(bars)
    assert {DeadLetter(r) for letters in dead for r in letters.reason} >= {
        DeadLetter.DUPLICATE,
        DeadLetter.CORRECTION,
        DeadLetter.PRICE_JUMP,
    }


def test_the_end_is_passed_on_once_to_each_side(config: Config, bars: BarBatch) -> None:
    slices, dead = through(machines(config), part(bars, 0, 100, True))
    assert [s.final for s in slices] == [True]
    assert [letters.final for letters in dead].count(True) == 1


def test_every_strategy_says_something_and_warms_up_first(config: Config, bars: BarBatch) -> None:
    slices, _ = through(machines(config), bars)
    verdicts = np.concatenate([s.verdicts for s in slices])
    assert verdicts.shape[1] == len(config.strategies)
    assert verdicts[0, 0] == Verdict.PENDING
    quiet = [strategy.name == "quiet" for strategy in config.strategies]
    assert (verdicts == Verdict.PASSED).any(axis=0).tolist() == [not says_nothing for says_nothing in quiet]


def test_a_symbol_that_no_strategy_reads_has_marks_and_no_signals(config: Config, bars: BarBatch) -> None:
    stage = machines(config)
    bars = BarBatch("TQQQ", bars.start_ns, bars.end_ns, bars.prices, bars.reason, -1)
    slices, _ = through(stage, bars)
    assert len(slices[0].events) > 1000
    assert (slices[0].verdicts == Verdict.ABSENT).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "magic"}, "strategies.sigor.kind: 'magic' is no strategy; known:"),
        ({"kind": "ema_cross", "parameters": {"fast": 5}}, "strategies.sigor.parameters.slow: missing"),
        (
            {"kind": "ema_cross", "parameters": {"fast": 30, "slow": 10, "short": 0}},
            "fast: 30 is not below slow",
        ),
    ],
)
def test_a_strategy_that_cannot_run_is_told(config: Config, change: dict[str, Any], told: str) -> None:
    base = config.model_dump()
    base["strategies"] = ({**base["strategies"][0], **change},)
    with pytest.raises(ConfigError, match=told):
        market_plan(parse_config(base))
