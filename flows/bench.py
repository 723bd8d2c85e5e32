"""The benchmark: bars a second and peak memory of whole replays, on synthetic bars.

Each workload runs in a process of its own: kernels are compiled or loaded, then one run gives the memory and
`REPEATS` more the time. The
figures are of the median run, from the first read of the recording to the closed results, and the peak
resident memory of the process. Beside it, in the same process and on the same recording, runs the least a
back-test can do: read the bars and take the EMA cross as vectors, without gates, orders, money or records.
The ratio of the two travels from machine to machine; bars a second do not.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from connectors.calendars import load_sessions
from connectors.recording import BarRecording
from connectors.synthetic import independent_symbols, write_synthetic
from flows.replay import prepare
from flows.run import run
from schemas.config import Config, parse_config

REPEATS = 5
FIRST = date(2021, 1, 4)
SEED = 7


@dataclass(frozen=True, slots=True)
class Workload:
    symbols: int
    days: int
    strategy: str
    parameters: dict[str, int]
    about: str


EMA = ("ema_cross", {"fast": 10, "slow": 30, "short": 0})
WORKLOADS = {
    "a": Workload(1, 252, *EMA, "1 symbol, 252 days, EMA 10/30"),
    "b": Workload(20, 60, *EMA, "20 symbols, 60 days, EMA 10/30"),
    "c": Workload(100, 20, *EMA, "100 symbols, 20 days, EMA 10/30"),
    "churn": Workload(1, 252, "toggle", {}, "1 symbol, 252 days, target toggles on 3 of 4 bars"),
    "a_4_years": Workload(1, 1008, *EMA, "as a, four times the days: memory must not follow"),
}


def configuration(work: Workload) -> Config:
    """Every gate on. The frequency limits are as high as the configuration allows, since one workload is
    all churn.
    """
    symbols = [f"SYM{k:03d}" for k in range(1, work.symbols + 1)]
    return parse_config(
        {
            "instruments": symbols,
            "account": {"id": "bench", "currency": "USD", "cash": 10_000_000},
            "calendar": {"exchange": "XNYS", "first": date(2021, 1, 1), "last": date(2025, 12, 31)},
            "bars": {
                "interval_seconds": 60,
                "jump_limit": Decimal("0.2"),
                "max_gap_bars": 60,
                "max_price": 1_000_000,
                "max_volume": 10**12,
                "other_symbols": "refuse",
            },
            "strategies": [
                {
                    "name": work.strategy,
                    "kind": work.strategy,
                    "parameters": work.parameters,
                    "signals": symbols,
                    "capital_share": 1,
                    "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 100, "min_score": 0},
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
                    "openings_per_window": 16,
                    "window_minutes": 10,
                    "openings_per_day": 1000,
                    "release": "next_session",
                },
                "size": {
                    "max_position_value": 10_000_000,
                    "max_position_share": 1,
                    "max_positions": 100,
                    "max_volume_share": Decimal("0.05"),
                    "min_order_value": 100,
                },
                "cash": {"buffer_share": Decimal("0.05"), "collar": Decimal("0.02")},
            },
            "orders": {"entry_lifetime_bars": 3},
            "venue": {
                "half_spread": Decimal("0.00005"),
                "slippage": Decimal("0.00005"),
                "commission_per_unit": 0,
                "commission_share": 0,
                "participation": Decimal("0.1"),
            },
        }
    )


def recording_of(work: Workload, folder: Path) -> Path:
    """The workload's recording, made on first use."""
    path = folder / f"{work.symbols}x{work.days}"
    if not path.is_dir():
        config = configuration(work)
        sessions = load_sessions(config.calendar.exchange, config.calendar.first, config.calendar.last)
        write_synthetic(path, sessions, independent_symbols(work.symbols), FIRST, work.days, SEED)
    return path


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Run one workload in this process."""
    work = WORKLOADS[name]
    recording = recording_of(work, folder)
    config = configuration(work)
    seconds, floor = [], []
    summary: dict[str, Any] = {}
    peak = 0.0
    with tempfile.TemporaryDirectory() as out:
        for k in range(REPEATS + 1):
            ready = prepare(recording, config, Path(out) / str(k), durable=False)
            summary = run(ready, Console(stderr=True), quiet=True) or {}
            if k == 0:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            else:
                seconds.append(summary["seconds"])
    for _ in range(REPEATS):
        start = time.perf_counter()
        vectorised_floor(recording, config)
        floor.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "about": work.about,
        "bars": summary["bars"],
        "orders": summary["orders"],
        "fills_per_480_bars": summary["fills_per_480_bars"],
        "principles_held": sum(row["held"] for row in summary["principles"].values()),
        "seconds": round(median, 4),
        "fastest": round(min(seconds), 4),
        "bars_per_second": round(summary["bars"] / median),
        "peak_rss_mb": round(peak),
        "floor_bars_per_second": round(summary["bars"] / statistics.median(floor)),
        "ratio_to_floor": round(statistics.median(floor) / median, 3),
    }


def vectorised_floor(recording: Path, config: Config) -> float:
    """Read the bars and take an EMA cross as vectors, a window at a time: no gates, orders, money or
    records.
    """
    bars = BarRecording(recording, config.instruments)
    total = 0.0
    for window in bars.windows(1 << 18):
        for rows in bars.read(window).symbols:
            close = pl.Series(rows.prices[3])
            held = (close.ewm_mean(span=10, adjust=False) > close.ewm_mean(span=30, adjust=False)).cast(
                pl.Float64
            )
            total += float((held.shift(1) * close.pct_change()).sum() or 0.0)
    return total


def bench(folder: Path, console: Console) -> tuple[Table, dict[str, Any]]:
    """Run every workload; the table and the figures."""
    results = {}
    for name, work in WORKLOADS.items():
        with console.status(f"{name}: {work.about}"):
            recording_of(work, folder)
            done = subprocess.run(
                [sys.executable, "-m", "flows.bench", name, str(folder)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        results[name] = json.loads(done.stdout.splitlines()[-1])
    table = Table(title="Replay, median of 5 runs", title_justify="left")
    table.add_column("workload")
    for column in ("bars", "orders", "bars/s", "peak MB", "vectorised floor, bars/s", "ratio", "principles"):
        table.add_column(column, justify="right")
    for name, row in results.items():
        table.add_row(
            f"{name}: {row['about']}",
            f"{row['bars']:,}",
            f"{row['orders']:,}",
            f"{row['bars_per_second']:,}",
            f"{row['peak_rss_mb']:,}",
            f"{row['floor_bars_per_second']:,}",
            f"{row['ratio_to_floor']:.2f}",
            f"{row['principles_held']} of 5",
        )
    return table, {"workloads": results}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
