"""Shared by all tests: a small configuration, small synthetic recordings, and the real market data."""

import os
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from base_config import base_with

from connectors.calendars import load_sessions
from connectors.recording import BAR_SCHEMA, PRICE_COLUMNS, TIME, create_recording, write_bars
from connectors.synthetic import Family, write_synthetic

pytest_plugins = ["kafka_broker"]

ROOT = Path(__file__).resolve().parent.parent
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))

STRATEGIES: dict[str, dict[str, int]] = {
    "sigor": {},
    "ema_cross": {"fast": 10, "slow": 30, "short": 1},
    "toggle": {},
    "constant": {"weight": 1},
}


def _configuration(strategy: str = "sigor", **changes: Any) -> dict[str, Any]:
    """One strategy that reads QQQ and trades its family.

    `gates__cash__collar=...` changes a key inside a section, None removes it.
    """
    data = base_with()
    data["strategies"] = [
        {
            "name": strategy,
            "kind": strategy,
            "parameters": dict(STRATEGIES[strategy]),
            "signals": ["QQQ"],
            "family": "QQQ",
            "capital_share": 1,
            "filter": {
                "cooldown": 5,
                "noise_factor": Decimal("0.5"),
                "noise_window": 100,
                "min_score": Decimal("0.1"),
            },
        }
    ]
    return base_with(data, **changes)


@pytest.fixture(scope="session")
def configuration() -> Callable[..., dict[str, Any]]:
    """Builds the data of a configuration; see `_configuration`."""
    return _configuration


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of real bars."""
    folder = Path(os.environ.get("SLUICE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "bars_1m").is_dir():
        pytest.skip(f"no market data at {folder}; set SLUICE_TEST_DATA")
    return folder


def _record(folder: Path, files: dict[str, Path], first: date, last: date) -> Path:
    """A recording of real one-minute bars, all symbols of a minute together as a feed delivers them."""
    frames = [
        pl.read_parquet(path)
        .filter(pl.col("ts").dt.date().is_between(first, last))
        .select(
            symbol=pl.lit(symbol),
            start_ns=pl.col("ts").cast(TIME),
            end_ns=(pl.col("ts") + pl.duration(minutes=1)).cast(TIME),
            **{name: pl.col(name).cast(pl.Float64) for name in PRICE_COLUMNS},
            source=pl.lit("market data"),
        )
        for symbol, path in files.items()
    ]
    create_recording(folder, 60_000_000_000, f"market data, {first} to {last}")
    write_bars(folder, pl.concat(frames).sort("start_ns", maintain_order=True).select(list(BAR_SCHEMA)))
    return folder


@pytest.fixture(scope="session")
def real_family(market_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole QQQ family, 25 sessions. PSQ is derived, the others are real."""
    real = market_data / "bars_1m"
    files = {symbol: real / f"{symbol}.parquet" for symbol in ("QQQ", "TQQQ", "SQQQ")}
    files["PSQ"] = market_data / "bars_1m_derived" / "PSQ.parquet"
    folder = tmp_path_factory.mktemp("real") / "family"
    return _record(folder, files, date(2025, 8, 8), date(2025, 9, 12))


@pytest.fixture(scope="session")
def real_pair(market_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TQQQ and SQQQ from April to October 2025, the early close of 3 July among them."""
    files = {symbol: market_data / "bars_1m" / f"{symbol}.parquet" for symbol in ("TQQQ", "SQQQ")}
    folder = tmp_path_factory.mktemp("real") / "pair"
    return _record(folder, files, date(2025, 4, 1), date(2025, 10, 31))


@pytest.fixture(scope="session")
def dirty_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sessions around a holiday and a half day, 2024-11-29, with every kind of synthetic dirt."""
    recording = tmp_path_factory.mktemp("dirty") / "recording"
    sessions = load_sessions("XNYS", date(2024, 11, 1), date(2024, 12, 31))
    write_synthetic(recording, sessions, [FAMILY], date(2024, 11, 26), 5, seed=11, dirty=True)
    return recording


@pytest.fixture(scope="session")
def clean_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sessions without dirt, a half day among them."""
    recording = tmp_path_factory.mktemp("clean") / "recording"
    sessions = load_sessions("XNYS", date(2024, 11, 1), date(2024, 12, 31))
    write_synthetic(recording, sessions, [FAMILY], date(2024, 11, 26), 4, seed=12)
    return recording
