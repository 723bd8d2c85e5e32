"""Every strategy of the configuration over every leveraged family that has bars in a folder, in one table.

The folder holds `bars_1m/SYMBOL.parquet`, times being bar starts. What is found decides: a tier whose
instrument has no bars is left out, and strategies read the first bull instrument that has some. Where that
one covers much less time than the rest of its family, a second row reads the next. `bars_1m_derived/`, where
it exists, completes a family and is marked.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from connectors.bar_import import import_bars
from connectors.recording import RecordingError
from flows.graph import Setup
from flows.replay import prepare
from flows.run import run
from operators.quality import SymbolJudge
from schemas.config import Config, Family, Tier, parse_config

BARS = "bars_1m"
DERIVED = "bars_1m_derived"
FULL_COVER = 0.9


@dataclass(frozen=True, slots=True)
class Found:
    """A family as far as it has bars: the tiers left, what the strategies read, files by symbol, and the
    days.
    """

    family: Family
    signal: str
    files: dict[str, Path]
    derived: tuple[str, ...]
    first: date
    last: date


def replay_families(data: Path, config: Config, console: Console) -> tuple[Table, list[dict[str, Any]]]:
    """The table and its rows. Raises `RecordingError` where the folder has no family of the configuration."""
    if not (data / BARS).is_dir():
        raise RecordingError(f"{data} has no folder {BARS}; it must hold {BARS}/SYMBOL.parquet")
    families = [found for family in config.families for found in _found(family, data)]
    if not families:
        wanted = ", ".join(sorted({t.instrument for f in config.families for t in f.bull}))
        raise RecordingError(f"{data / BARS} has bars of no bull instrument of a family; looked for {wanted}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for k, found in enumerate(families):
            recording = Path(scratch) / f"recording-{k}"
            with console.status(f"{found.family.name}: importing {len(found.files)} symbols"):
                _record(found, recording, config)
            for strategy in range(len(config.strategies)):
                alone = configuration_for(config, found, strategy)
                label = f"{alone.strategies[0].name} on {found.family.name}, reading {found.signal}"
                with console.status(label):
                    out = Path(scratch) / "out"
                    ready = prepare(recording, alone, out, first=found.first, last=found.last, durable=False)
                    summary = run(ready, console, quiet=True)
                if summary is None:
                    raise RecordingError(f"stopped in {label}")
                rows.append(_row(alone.strategies[0].name, found, summary))
    return _table(rows), rows


def _found(family: Family, data: Path) -> Iterator[Found]:
    files: dict[str, Path] = {}
    derived: list[str] = []
    for tier in (*family.bull, *family.bear):
        for folder in (BARS, DERIVED):
            path = data / folder / f"{tier.instrument}.parquet"
            if path.is_file():
                files[tier.instrument] = path
                if folder == DERIVED:
                    derived.append(tier.instrument)
                break
    signals = [t.instrument for t in family.bull if t.instrument in files and t.instrument not in derived]
    if not signals:
        return
    ranges = {symbol: _range(path) for symbol, path in files.items()}
    longest = max((last - first).days for first, last in ranges.values())
    for place, signal in enumerate(signals):
        first, last = ranges[signal]
        short = (last - first).days < FULL_COVER * longest
        kept = {
            s: path
            for s, path in files.items()
            if place == 0 or (ranges[s][0] <= first and ranges[s][1] >= last)
        }
        yield Found(
            family.model_copy(update={"bull": _tiers(family.bull, kept), "bear": _tiers(family.bear, kept)}),
            signal,
            kept,
            tuple(s for s in derived if s in kept),
            first,
            last,
        )
        if not short:
            return


def _tiers(tiers: tuple[Tier, ...], files: dict[str, Path]) -> tuple[Tier, ...]:
    return tuple(tier for tier in tiers if tier.instrument in files)


def _range(path: Path) -> tuple[date, date]:
    first, last = pl.scan_parquet(path).select(first=pl.first().min(), last=pl.first().max()).collect().row(0)
    return first.date(), last.date()


def _record(found: Found, recording: Path, config: Config) -> None:
    """Import the family's files through a folder of links, since a folder is what an import takes."""
    links = recording.parent / f"{recording.name}-files"
    links.mkdir()
    for symbol, path in found.files.items():
        (links / f"{symbol}.parquet").symlink_to(path.resolve())
    setup = Setup.of(config, paper=True)
    import_bars(
        links,
        recording,
        interval_ns=config.interval_ns,
        sessions=setup.sessions,
        judge=SymbolJudge(setup.limits, setup.sessions),
        stamped="start",
        first=found.first,
        last=found.last,
        origin=f"{found.family.name}, reading {found.signal}",
    )


def configuration_for(config: Config, found: Found, strategy: int) -> Config:
    """The configuration with one family and one strategy, which has all the capital."""
    one = config.strategies[strategy].model_copy(
        update={"signals": (found.signal,), "family": found.family.name, "capital_share": Decimal(1)}
    )
    return parse_config(
        {
            **config.model_dump(),
            "instruments": tuple(found.files),
            "families": (found.family.model_dump(),),
            "strategies": (one.model_dump(),),
        },
        f"{found.family.name} with {one.name}",
    )


def _row(strategy: str, found: Found, summary: dict[str, Any]) -> dict[str, Any]:
    held = {key: row["held"] for key, row in summary["principles"].items()}
    return {
        "strategy": strategy,
        "family": found.family.name,
        "signal": found.signal,
        "instruments": list(found.files),
        "derived": list(found.derived),
        "first": found.first.isoformat(),
        "last": found.last.isoformat(),
        **{
            key: summary[key]
            for key in (
                "bars",
                "sessions",
                "sessions_flat",
                "orders",
                "fills",
                "fills_per_480_bars",
                "pnl",
                "max_drawdown",
            )
        },
        "principles_held": sum(held.values()),
        "principles": held,
        "dead_letters": summary["dead_letters"],
        "digest": summary["digest"],
        "seconds": summary["seconds"],
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Every strategy over every family found", title_justify="left", caption_justify="left"
    )
    for column in ("strategy", "family", "reads"):
        table.add_column(column)
    for column in ("bars", "fills", "per 480", "P&L after costs", "max drawdown", "principles"):
        table.add_column(column, justify="right")
    table.add_column("dead letters")
    table.add_column("seconds", justify="right")
    families: dict[str, None] = {}
    for row in rows:
        names = " ".join(
            f"{symbol}*" if symbol in row["derived"] else symbol for symbol in row["instruments"]
        )
        families[f"{row['family']}, reading {row['signal']}: {names}, {row['first']} to {row['last']}"] = None
        table.add_row(
            row["strategy"],
            row["family"],
            row["signal"],
            f"{row['bars']:,}",
            f"{row['fills']:,}",
            f"{row['fills_per_480_bars']:,.1f}",
            f"{row['pnl']:,.0f}",
            f"{row['max_drawdown']:,.0f}",
            f"{row['principles_held']} of 5",
            ", ".join(f"{reason} {count:,}" for reason, count in row["dead_letters"].items()),
            f"{row['seconds']:.2f}",
            end_section=row is rows[-1] or row["strategy"] == rows[-1]["strategy"],
        )
    notes = list(families)
    if any(row["derived"] for row in rows):
        notes.append("* computed bars, not real ones")
    table.caption = "\n".join(notes)
    return table
