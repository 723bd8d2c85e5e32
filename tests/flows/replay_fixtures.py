"""Runs replays for tests, in this process or in one of their own, and compares what they leave."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from flows.replay import WINDOW_ROWS, prepare
from flows.run import run
from schemas.config import parse_config

MINUTE = 60_000_000_000
TABLES = ("orders", "executions", "decisions", "equity", "alerts")
ROOT = Path(__file__).resolve().parents[2]
SLUICE = Path(sys.executable).with_name("sluice")
DEADLINE = 120.0
"""Seconds after which a process that should have ended is killed and the test fails."""

UNLIMITED = {"gates__frequency__openings_per_window": 16, "gates__frequency__window_minutes": 1} | {
    "gates__frequency__openings_per_day": 100_000
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay left: its summary and the folder of its tables."""

    summary: dict[str, Any]
    out: Path

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.out / f"{name}.parquet")

    def table_bytes(self) -> dict[str, bytes]:
        return {name: (self.out / f"{name}.parquet").read_bytes() for name in TABLES}

    @property
    def held(self) -> list[str]:
        return [key for key, row in self.summary["principles"].items() if row["held"]]


def replay(
    recording: Path,
    configuration: Mapping[str, Any],
    out: Path,
    *,
    workers: int = 1,
    batch_bars: int = 0,
    window_rows: int = WINDOW_ROWS,
) -> Result:
    """A whole replay in this process."""
    ready = prepare(
        recording, parse_config(configuration), out, window_rows=window_rows, batch_bars=batch_bars
    )
    summary = run(ready, Console(quiet=True), workers=workers, quiet=True)
    assert summary is not None
    return Result(summary, out)


def assert_same(one: Result, other: Result) -> None:
    """The same digest and, table by table, the same bytes."""
    digests = (one.summary["digest"], other.summary["digest"])
    assert digests[0] == digests[1], f"{digests} of {one.out} and {other.out}"
    ones, others = one.table_bytes(), other.table_bytes()
    different = [name for name in TABLES if ones[name] != others[name]]
    assert not different, f"{different} differ between {one.out} and {other.out}"


def toml(data: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in data.items())


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case str() | bool():
            return json.dumps(value)
        case dt.date():
            return value.isoformat()
        case int() | Decimal():
            return str(value)
    raise TypeError(f"{value!r} has no TOML form here")


def write_toml(path: Path, data: Mapping[str, Any]) -> Path:
    path.write_text(toml(data), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str


def start(command: Sequence[str | Path]) -> "subprocess.Popen[str]":
    """A process of its own, wide enough that messages are not broken over lines."""
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "400"},
    )


def finish(process: "subprocess.Popen[str]", seconds: float = DEADLINE) -> Ended:
    """Wait for the end of a process; one that hangs is killed and fails the test."""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"{process.args!r} did not end in {seconds} s: {stdout} {stderr}") from None
    return Ended(process.returncode, stdout, stderr)


def sluice(*words: str | Path) -> Ended:
    """A whole `sluice` command."""
    return finish(start([SLUICE, *words]))


def last_json(ended: Ended) -> dict[str, Any]:
    """The JSON object on the last line of stdout."""
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures
