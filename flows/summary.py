"""Turns the rows of a complete replay into its result: Parquet tables, `summary.json`, and a table for
people.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

from connectors.replay_source import Progress
from connectors.results import SUMMARY, TABLES, Results
from flows.auditor import STATEMENTS, Finding, audit
from flows.graph import Setup
from schemas.codes import AlertKind, Stage
from schemas.records import MICRO, Names, Record, arrow_schema_of, dtype_of, to_arrow
from schemas.topics import ALERTS, DECISIONS, EQUITY, EXECUTIONS, ORDERS

CHUNK = 1 << 15
PRINCIPLES = {
    "P1": "no negative cash",
    "P2": "no conflicting positions",
    "P3": "no overnight positions",
    "P4": "one opening a bar and instrument",
    "P5": "no short, ledger equals venue",
}


def summarise(results: Results, setup: Setup, inputs: dict[str, Any], progress: Progress) -> None:
    """Write the tables and `summary.json` under the output folder. `inputs`: what the run was made from."""
    config = setup.config
    names = Names(config.account.id, config.instruments, tuple(s.name for s in config.strategies))
    account, tables = results.account, results.tables
    with ThreadPoolExecutor() as pool:  # Arrow, polars and SHA-256 work without the interpreter lock
        written = [
            pool.submit(_write_parquet, results.out / f"{name}.parquet", model, tables[name], names)
            for name, model in TABLES.items()
        ]
        digested = pool.submit(digest, tables, names)
        findings = (
            {}
            if account["bars"] == 0
            else audit(
                _whole(tables, ORDERS),
                _whole(tables, EXECUTIONS),
                _whole(tables, DECISIONS),
                _whole(tables, ALERTS),
                account["cash"],
                config,
                setup.sessions,
                equity=_whole(tables, EQUITY),
            )
        )
        for task in written:
            task.result()
    letters = results.out / "dead_letters.parquet"
    if results.dead_letters.is_empty():
        letters.unlink(missing_ok=True)
    else:
        results.dead_letters.write_parquet(letters)

    seconds = time.perf_counter() - progress.started
    summary = {
        "account": config.account.id,
        **inputs,
        **_figures(results, setup),
        "principles": {key: _principle(key, findings[key], account) for key in PRINCIPLES if findings},
        "statements": {
            key: {
                "name": STATEMENTS[key].name,
                "held": finding.held,
                "breaches": finding.breaches,
                "by_venue": finding.by_venue,
                "evidence": finding.evidence,
            }
            for key, finding in findings.items()
            if key not in PRINCIPLES
        },
        "dead_letters": dict(results.dead_letters["reason"].value_counts().sort("reason").iter_rows()),
        "ignored_rows": progress.ignored,
        "funnel": _funnel(account),
        "alerts": _alerts(tables),
        "account_state": account["state"],
        "digest": digested.result(),
        "config_hash": config.hash,
        "seconds": round(seconds, 3),
        "bars_per_second": round(progress.rows / max(seconds, 1e-9)),
    }
    path = results.out / SUMMARY
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    progress.summary = summary


def digest(tables: dict[str, list[NDArray[Any]]], names: Names) -> str:
    """SHA-256 over orders, decisions and alerts in canonical form: a header that names every column and
    index, then the rows in order of sequence, every field a little-endian int64.
    """
    total = hashlib.sha256()
    for name in (ORDERS, DECISIONS, ALERTS):
        columns = dtype_of(TABLES[name]).names
        header = [name, columns, names.account, names.instruments, names.strategies]
        total.update(json.dumps(header).encode())
        for rows in _chunks(tables[name]):
            total.update(rows.tobytes())
    return total.hexdigest()


def _whole(tables: dict[str, list[NDArray[Any]]], name: str) -> NDArray[Any]:
    parts = tables[name]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype_of(TABLES[name])), *parts])


def _chunks(parts: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The rows `CHUNK` at a time, however they came, so that the same rows make the same file."""
    held: list[NDArray[Any]] = []
    room = CHUNK
    for part in parts:
        rest = part
        while len(rest):
            held.append(rest[:room])
            room -= len(held[-1])
            rest = rest[len(held[-1]) :]
            if room == 0:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held, room = [], CHUNK
    if held:
        yield held[0] if len(held) == 1 else np.concatenate(held)


def _write_parquet(path: Path, model: type[Record], parts: list[NDArray[Any]], names: Names) -> None:
    unfinished = path.with_suffix(".tmp")
    schema = arrow_schema_of(model)
    named = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    with pq.ParquetWriter(
        unfinished, schema, compression="lz4", use_dictionary=named, store_decimal_as_integer=True
    ) as writer:
        for rows in _chunks(parts):
            writer.write_table(to_arrow(model, rows, names))
    unfinished.replace(path)


def _figures(results: Results, setup: Setup) -> dict[str, Any]:
    account = results.account
    initial = int(setup.config.account.cash * MICRO)
    after = account["equity"] - initial
    return {
        "bars": account["bars"],
        "sessions": account["sessions"],
        "sessions_flat": account["sessions"] - account["sessions_not_flat"],
        "orders": account["orders"],
        "cancels": account["cancels"],
        "fills": account["fills"],
        "fills_per_480_bars": round(480 * account["fills"] / max(account["groups"], 1), 2),
        "bar_ends": account["groups"],
        "pnl": after / MICRO,
        "pnl_before_costs": (after + account["fees"] + account["costs"]) / MICRO,
        "fees": account["fees"] / MICRO,
        "spread_and_slippage": account["costs"] / MICRO,
        "equity": account["equity"] / MICRO,
        "max_drawdown": account["max_drawdown"] / MICRO,
        "max_drawdown_share": account["max_drawdown_share"] / MICRO,
        "capital_use": round(account["capital_use"] / MICRO / max(account["groups"], 1), 4),
    }


def _principle(key: str, finding: Finding, account: dict[str, Any]) -> dict[str, Any]:
    """Held where the audit finds nothing and the account itself saw nothing. What a contradiction of the
    venue broke is counted apart.
    """
    seen = account["breaches"][int(key[1:])]
    return {
        "name": PRINCIPLES[key],
        "held": finding.held and seen == 0,
        "breaches": max(finding.breaches, seen),
        "by_venue": max(finding.by_venue, account["denied"][int(key[1:])]),
        "evidence": finding.evidence,
    }


def _alerts(tables: dict[str, list[NDArray[Any]]]) -> dict[str, int]:
    """How many of each kind."""
    counts = np.bincount(_whole(tables, ALERTS)["kind"], minlength=len(AlertKind))
    return {kind.name.lower(): int(counts[kind]) for kind in AlertKind if counts[kind]}


def _funnel(account: dict[str, Any]) -> dict[str, Any]:
    refused = {stage.name.lower(): account["refused"][stage] for stage in Stage if account["refused"][stage]}
    return {
        "bars": account["bars"],
        "signals": account["signals"],
        "passed_filter": account["signals_passed"],
        "refused_by_filter": {
            "noise": account["signals_noise"],
            "cooldown": account["signals_cooldown"],
            "invalid": account["signals_invalid"],
        },
        "targets": account["targets"],
        "refused_by_gate": refused,
        "orders": account["orders"],
        "fills": account["fills"],
    }


def show(summary: dict[str, Any], out: Path) -> Group:
    """The summary as tables for a terminal."""
    figures = Table(
        title=f"{summary['account']}: {summary['origin']}", title_justify="left", show_header=False
    )
    figures.add_column(style="bold")
    figures.add_column(justify="right")
    for label, value in (
        ("bars", f"{summary['bars']:,}"),
        ("sessions, flat at the close", f"{summary['sessions']:,}, {summary['sessions_flat']:,}"),
        ("orders, fills", f"{summary['orders']:,}, {summary['fills']:,}"),
        ("fills per 480 bars", f"{summary['fills_per_480_bars']:,.2f}"),
        ("P&L before costs", f"{summary['pnl_before_costs']:,.2f}"),
        ("P&L after costs", f"{summary['pnl']:,.2f}"),
        ("maximum drawdown", f"{summary['max_drawdown']:,.2f} ({summary['max_drawdown_share']:.2%})"),
        ("capital in use", f"{summary['capital_use']:.1%}"),
        ("seconds, bars a second", f"{summary['seconds']:,.2f}, {summary['bars_per_second']:,}"),
        ("digest", summary["digest"][:16]),
    ):
        figures.add_row(label, value)

    principles = Table(title="Principles", title_justify="left")
    for column in ("", "", "held", "evidence"):
        principles.add_column(column)
    for key, row in summary["principles"].items():
        principles.add_row(key, row["name"], _held(row), row["evidence"])
    statements = summary["statements"]
    broken = {key: row for key, row in statements.items() if not row["held"]}
    for key, row in broken.items():
        principles.add_row(key, row["name"], _held(row), row["evidence"])
    others = ", ".join(key for key in statements if key not in broken)
    principles.add_row("", "other statements", "[green]yes[/]", others)

    funnel = Table(title="From bars to fills", title_justify="left", show_header=False)
    funnel.add_column()
    funnel.add_column(justify="right")
    funnel.add_column(style="dim")
    said = summary["funnel"]
    for label, key, less in (
        ("bars", "bars", summary["dead_letters"]),
        ("signals beyond neutral", "signals", {}),
        ("passed the filter", "passed_filter", said["refused_by_filter"]),
        ("changes of target", "targets", {}),
        ("orders", "orders", said["refused_by_gate"]),
        ("fills", "fills", {}),
    ):
        lost = ", ".join(f"{reason} {count:,}" for reason, count in less.items() if count)
        funnel.add_row(label, f"{said[key]:,}", f"refused: {lost}" if lost else "")
    shown: list[Any] = [figures, principles, funnel]
    if len(summary["account_state"]["strategies"]) > 1:
        shown.append(_results_by_strategy(summary["account_state"]["strategies"]))
    told = ", ".join(f"{kind} {count:,}" for kind, count in summary["alerts"].items())
    shown.append(f"alerts: {told or 'none'}")
    return Group(*shown, f"results in {out}")


def _held(row: dict[str, Any]) -> str:
    by_venue = f", {row['by_venue']} by the venue" if row["by_venue"] else ""
    return f"[green]yes[/]{by_venue}" if row["held"] else f"[red]NO, {row['breaches']} times[/]{by_venue}"


def _results_by_strategy(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Results by strategy and instrument", title_justify="left")
    for column in ("strategy", "instrument", "realised", "unrealised", "fees", "after fees"):
        table.add_column(column, justify="left" if column in ("strategy", "instrument") else "right")
    for row in rows:
        money = [row["realised"], row["unrealised"], row["fees"]]
        after = row["realised"] + row["unrealised"] - row["fees"]
        name = row["strategy"] or "(none)"
        table.add_row(name, row["instrument"], *(f"{m / MICRO:,.2f}" for m in (*money, after)))
    return table
