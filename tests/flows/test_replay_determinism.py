from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_fixtures import Result, assert_same, replay

Configuration = Callable[..., dict[str, Any]]
ALL = 1 << 30

CUTS = [  # workers, bars a batch, rows a window
    (2, 0, 1000),
    (4, 0, 1),
    (1, 1, ALL),
    (1, 7, 1000),
    (1, 100, 1),
    (2, 7, ALL),
    (4, 7, 1),
    (4, 100, 1000),
]
REAL_CUTS = [(2, 0, 1), (4, 0, 1000), (1, 7, 1000), (2, 100, 1), (4, 100, ALL)]


@pytest.fixture(scope="module", params=["sigor", "ema_cross"])
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def of_dirty(
    strategy: str,
    dirty_recording: Path,
    configuration: Configuration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    """One worker, one window, one batch."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = replay(dirty_recording, configuration(strategy), out, window_rows=ALL)
    assert result.summary["fills"] > 50
    return result


@pytest.fixture(scope="module")
def of_real(
    strategy: str, real_family: Path, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    out = tmp_path_factory.mktemp("whole") / "out"
    result = replay(real_family, configuration(strategy), out, window_rows=ALL)
    assert result.summary["fills"] > 500
    return result


@pytest.mark.parametrize(("workers", "batch_bars", "window_rows"), CUTS)
def test_workers_batches_and_windows_change_no_byte(
    workers: int,
    batch_bars: int,
    window_rows: int,
    strategy: str,
    of_dirty: Result,
    dirty_recording: Path,
    configuration: Configuration,
    tmp_path: Path,
) -> None:
    result = replay(
        dirty_recording,
        configuration(strategy),
        tmp_path / "out",
        workers=workers,
        batch_bars=batch_bars,
        window_rows=window_rows,
    )
    assert_same(of_dirty, result)
    assert result.summary["dead_letters"] == of_dirty.summary["dead_letters"]
    assert result.table("dead_letters").equals(of_dirty.table("dead_letters"), null_equal=True)


@pytest.mark.market_data
@pytest.mark.parametrize(("workers", "batch_bars", "window_rows"), REAL_CUTS)
def test_workers_batches_and_windows_change_no_byte_of_real_bars(
    workers: int,
    batch_bars: int,
    window_rows: int,
    strategy: str,
    of_real: Result,
    real_family: Path,
    configuration: Configuration,
    tmp_path: Path,
) -> None:
    result = replay(
        real_family,
        configuration(strategy),
        tmp_path / "out",
        workers=workers,
        batch_bars=batch_bars,
        window_rows=window_rows,
    )
    assert_same(of_real, result)


@pytest.mark.market_data
def test_real_bars_one_at_a_time_change_no_byte(
    real_family: Path, configuration: Configuration, tmp_path: Path
) -> None:
    whole = replay(real_family, configuration(), tmp_path / "whole", window_rows=ALL)
    single = replay(real_family, configuration(), tmp_path / "single", batch_bars=1, window_rows=1000)
    assert_same(whole, single)


def test_the_same_run_twice_gives_the_same_bytes(
    dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    assert_same(*(replay(dirty_recording, configuration(), tmp_path / name) for name in ("one", "two")))


def test_another_configuration_gives_another_digest(
    of_dirty: Result, strategy: str, dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    poorer = configuration(strategy, account__cash=50_000)
    assert replay(dirty_recording, poorer, tmp_path / "out").summary["digest"] != of_dirty.summary["digest"]
