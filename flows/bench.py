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
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from connectors.calendars import load_sessions
from connectors.config_file import DEPLOY, load_config
from connectors.recording import BarRecording
from connectors.synthetic import independent_symbols, write_synthetic
from flows.replay import prepare
from flows.run import run
from schemas.config import Config, parse_config

REPEATS = 9
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
    "a_4_years": Workload(1, 1008, *EMA, "1 symbol, 1,008 days, EMA 10/30"),
}


def configuration(work: Workload) -> Config:
    """`deploy/bench.toml` with the symbols and the strategy of the workload."""
    base = load_config(DEPLOY / "bench.toml").model_dump()
    symbols = tuple(f"SYM{k:03d}" for k in range(1, work.symbols + 1))
    (strategy,) = base["strategies"]
    mine = {"name": work.strategy, "kind": work.strategy, "parameters": work.parameters, "signals": symbols}
    return parse_config({**base, "instruments": symbols, "strategies": ({**strategy, **mine},)})


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
    table = Table(title="Replay, median of 9 runs", title_justify="left")
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
