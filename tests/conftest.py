"""Shared by all tests: a small configuration, small synthetic recordings, and the real market data."""

import os
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from connectors.calendars import load_sessions
from connectors.recording import BAR_SCHEMA, PRICE_COLUMNS, TIME, create_recording, write_bars
from connectors.synthetic import Family, write_synthetic

ROOT = Path(__file__).resolve().parent.parent
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))

STRATEGIES: dict[str, dict[str, int]] = {
    "sigor": {},
    "ema_cross": {"fast": 10, "slow": 30, "short": 1},
    "toggle": {},
    "constant": {"weight": 1},
}

BASE: dict[str, Any] = {
    "instruments": ["QQQ", "TQQQ", "PSQ", "SQQQ"],
    "account": {"id": "test", "currency": "USD", "cash": 100_000},
    "calendar": {"exchange": "XNYS", "first": date(2020, 1, 1), "last": date(2027, 12, 31)},
    "bars": {
        "interval_seconds": 60,
        "jump_limit": Decimal("0.2"),
        "max_gap_bars": 60,
        "max_price": 1_000_000,
        "max_volume": 10**12,
        "other_symbols": "refuse",
    },
    "families": [
        {
            "name": "QQQ",
            "hysteresis": Decimal("0.05"),
            "bull": [
                {"probability": Decimal("0.60"), "instrument": "QQQ", "weight": 1},
                {"probability": Decimal("0.75"), "instrument": "TQQQ", "weight": 1},
            ],
            "bear": [
                {"probability": Decimal("0.60"), "instrument": "PSQ", "weight": 1},
                {"probability": Decimal("0.75"), "instrument": "SQQQ", "weight": 1},
            ],
        }
    ],
    "allocation": {"min_weight_change": Decimal("0.1")},
    "gates": {
        "session": {
            "entries_stop_minutes": 15,
            "cancel_entries_minutes": 10,
            "exits_begin_minutes": 5,
            "flat_by_seconds": 60,
        },
        "freshness": {"max_age_seconds": 90},
        "conflict": {"two_of_one_side": "refuse"},
        "frequency": {
            "openings_per_window": 5,
            "window_minutes": 10,
            "openings_per_day": 60,
            "release": "next_session",
        },
        "size": {
            "max_position_value": 100_000,
            "max_position_share": 1,
            "max_positions": 10,
            "max_volume_share": Decimal("0.05"),
            "min_order_value": 100,
        },
        "cash": {"buffer_share": Decimal("0.05"), "collar": Decimal("0.02")},
    },
    "orders": {"entry_lifetime_bars": 3},
    "venue": {
        "half_spread": Decimal("0.00005"),
        "slippage": Decimal("0.00005"),
        "commission_per_unit": Decimal("0.005"),
        "commission_share": 0,
        "participation": Decimal("0.1"),
    },
}


def _configuration(strategy: str = "sigor", **changes: Any) -> dict[str, Any]:
    """One strategy that reads QQQ and trades its family.

    `gates__cash__collar=...` changes a key inside a section, None removes it.
    """
    data = deepcopy(BASE)
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
    for path, value in changes.items():
        *sections, key = path.split("__")
        section: Any = data
        for name in sections:
            section = section[int(name) if isinstance(section, list) else name]
        if value is None:
            del section[key]
        else:
            section[key] = value
    return data


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
