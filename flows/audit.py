"""The audit of a result folder: all at once, or as a Bytewax flow.

    python -m bytewax.run "flows.audit:flow('OUT')"

The flow reads the tables of the folder in windows of time, one input, through the auditor of the account.
What breaks is printed when it is found; at the end all findings go to `OUT/audit.json`. With a recovery
directory it continues where it was killed.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from rich.console import Console
from rich.table import Table

from connectors.calendars import load_sessions
from connectors.config_file import load_config
from connectors.recording import BarRecording, RecordingError
from flows.audit_bars import BarRanges, rows_of
from flows.auditor import (
    STATEMENTS,
    AuditAlarm,
    AuditBatch,
    AuditError,
    AuditNews,
    Auditor,
    Counts,
    Finding,
    check_canaries,
    code_hash,
)
from flows.auditor.tables import Ranges, ResultTables, Windows
from operators.shell import stateful
from schemas.config import Config, ConfigError
from schemas.records import Names
from schemas.sessions import Sessions

SUMMARY = "summary.json"
FINDINGS = "audit.json"
WINDOW_ROWS = 1 << 16  # of a table; changes no result
CANNOT = (AuditError, AuditAlarm, ConfigError, RecordingError)
"""Why there may be no findings."""


@dataclass(frozen=True, slots=True)
class Case:
    """A result folder with all that is needed to judge it."""

    out: Path
    config: Config
    sessions: Sessions
    tables: ResultTables
    ranges: Ranges | None
    counts: Counts
    identity: str
    """Hash of the results, the configuration and the auditor."""

    def auditor(self) -> Auditor:
        return Auditor.of(self.config, self.sessions, self.counts)


def open_case(out: Path, config: Path | None, bars: Path | None, *, other_config: bool = False) -> Case:
    """Check that the folder can be audited, and that the auditor can be trusted.

    `config`: without it the one the summary names. `bars`: the recording that fills are compared with.
    `other_config`: a configuration that is not that of the run will do. Raises one of `CANNOT`.
    """
    check_canaries()
    summary = _read_summary(out)
    path = config or _named(summary, "config", out)
    loaded = load_config(path)
    if loaded.hash != summary.get("config_hash") and not other_config:
        raise AuditError(
            f"{path} is not the configuration of this run: its hash is {loaded.hash[:12]}, {out / SUMMARY} "
            f"says {str(summary.get('config_hash'))[:12]}; name the right one with --config, or judge it by "
            f"another one with --other-config"
        )
    calendar = loaded.calendar
    try:
        sessions = load_sessions(calendar.exchange, calendar.first, calendar.last)
    except ValueError as error:
        raise ConfigError(f"calendar: {error}") from None
    strategies = tuple(strategy.name for strategy in loaded.strategies)
    tables = ResultTables(out, Names(loaded.account.id, loaded.instruments, strategies))
    recording = None
    if bars is not None:
        first, last = (_day(summary, key) for key in ("first", "last"))
        recording = BarRecording(bars, loaded.instruments, first, last)
    parts = [
        code_hash(),
        loaded.hash,
        str(summary.get("digest")),
        str(sorted(tables.rows.items())),
        str(bars),
    ]
    return Case(
        out,
        loaded,
        sessions,
        tables,
        None if recording is None else BarRanges(recording),
        counts_of(summary, recording),
        hashlib.sha256("\n".join(parts).encode()).hexdigest(),
    )


def audit_folder(case: Case) -> dict[str, Finding]:
    """All findings. Raises `AuditError`."""
    auditor = case.auditor()
    windows = Windows(case.tables, WINDOW_ROWS, case.ranges)
    while batch := windows.next():
        auditor.step(batch)
    return auditor.findings()


# --- what the summary says


def _read_summary(out: Path) -> dict[str, Any]:
    path = out / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AuditError(f"{path} is missing; {out} does not hold a complete run") from None
    except (OSError, ValueError) as error:
        raise AuditError(f"{path} is not readable: {error}") from None
    if not isinstance(summary, dict):
        raise AuditError(f"{path} is not the summary of a run")
    return summary


def _named(summary: dict[str, Any], key: str, out: Path) -> Path:
    if not isinstance(summary.get(key), str):
        raise AuditError(f"{out / SUMMARY} does not name the configuration of the run; use --config FILE")
    return Path(summary[key])


def _day(summary: dict[str, Any], key: str) -> date | None:
    try:
        return date.fromisoformat(summary[key]) if summary.get(key) else None
    except (TypeError, ValueError):
        raise AuditError(f"{SUMMARY}: {key} is {summary[key]!r}, expected a date") from None


TOLD = {
    "orders": "orders",
    "cancels": "cancels",
    "fills": "fills",
    "bar_ends": "bar_ends",
    "sessions": "session_ends",
}
"""What the summary counts, and what the auditor calls it."""


def counts_of(summary: dict[str, Any], recording: BarRecording | None) -> Counts:
    """The counts of the summary, and what becomes of every row of the recording, where that is given."""
    told = {mine: _count(summary, key) for key, mine in TOLD.items()}
    if recording is None:
        return Counts(told)
    letters = summary.get("dead_letters")
    if not isinstance(letters, dict) or not all(type(count) is int for count in letters.values()):
        raise AuditError(f"{SUMMARY} does not count the dead letters")
    done = _count(summary, "bars") + sum(letters.values()) + _count(summary, "ignored_rows")
    rows = rows_of(recording) + recording.dead_letters().height
    return Counts(told, {"bars, dead letters and ignored rows of the recording": (done, rows)})


def _count(summary: dict[str, Any], key: str) -> int:
    if type(summary.get(key)) is not int:
        raise AuditError(f"{SUMMARY} does not count the {key}; it is not the summary of a complete run")
    return int(summary[key])


# --- for people and programs


def findings_table(out: Path, findings: dict[str, Finding]) -> Table:
    """The findings as a table for a terminal."""
    table = Table(title=f"Audit of {out}", title_justify="left")
    for column in ("", "statement", "held", "by the venue", "evidence", "first breach"):
        table.add_column(column, justify="right" if column == "by the venue" else "left")
    for key, finding in findings.items():
        held = "[green]yes[/]" if finding.held else f"[red]NO, {finding.breaches:,} times[/]"
        venue = f"{finding.by_venue:,}" if finding.by_venue else ""
        first = "" if finding.first is None else str(finding.first)
        table.add_row(key, STATEMENTS[key].name, held, venue, finding.evidence, first)
    return table


def findings_json(case: Case, findings: dict[str, Finding]) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "account": case.config.account.id,
        "config_hash": case.config.hash,
        "held": all(finding.held for finding in findings.values()),
        "rows": case.tables.rows,
        "findings": {
            key: {
                "statement": STATEMENTS[key].name,
                "held": finding.held,
                "breaches": finding.breaches,
                "by_venue": finding.by_venue,
                "evidence": finding.evidence,
                "first": finding.first
                and {
                    "time_ns": finding.first.time_ns,
                    "instrument": finding.first.instrument,
                    "text": finding.first.text,
                },
            }
            for key, finding in findings.items()
        },
    }


# --- the flow


class ResultSource(FixedPartitionedSource[tuple[str, AuditBatch], dict[str, Any]]):
    """One partition: an account has one order of things."""

    def __init__(self, case: Case, window_rows: int):
        self.case = case
        self.window_rows = window_rows

    def list_parts(self) -> list[str]:
        return ["results"]

    def build_part(
        self,
        step_id: str,  # noqa: ARG002 - the form Bytewax calls
        for_part: str,  # noqa: ARG002
        resume_state: dict[str, Any] | None,
    ) -> "_Partition":
        if resume_state is not None and resume_state["identity"] != self.case.identity:
            raise AuditError(
                f"the recovery directory belongs to the audit of other results than those in "
                f"{self.case.out}; start anew with an empty recovery directory"
            )
        place = resume_state["place"] if resume_state else None
        return _Partition(self.case, Windows(self.case.tables, self.window_rows, self.case.ranges, place))


class _Partition(StatefulSourcePartition[tuple[str, AuditBatch], dict[str, Any]]):
    def __init__(self, case: Case, windows: Windows):
        self.case = case
        self.windows = windows

    def next_batch(self) -> Iterable[tuple[str, AuditBatch]]:
        batch = self.windows.next()
        if batch is None:
            raise StopIteration
        return [(self.case.config.account.id, batch)]

    def snapshot(self) -> dict[str, Any]:
        return {"identity": self.case.identity, "place": self.windows.snapshot()}


class FindingsSink(DynamicSink[AuditNews]):
    """Prints what breaks as it is found, and leaves all findings in the folder at the end."""

    def __init__(self, case: Case):
        self.case = case

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Findings":  # noqa: ARG002
        return _Findings(self.case)


class _Findings(StatelessSinkPartition[AuditNews]):
    def __init__(self, case: Case):
        self.case = case

    def write_batch(self, items: list[AuditNews]) -> None:
        for news in items:
            for line in news.breaches:
                print(f"{self.case.config.account.id}: {line}", flush=True)
            if news.findings is not None:
                path = self.case.out / FINDINGS
                unfinished = path.with_suffix(".tmp")
                text = json.dumps(findings_json(self.case, news.findings), indent=2)
                unfinished.write_text(text + "\n", encoding="utf-8")
                unfinished.replace(path)
                Console(width=150).print(findings_table(self.case.out, news.findings))


def audit_graph(case: Case, window_rows: int = WINDOW_ROWS) -> Dataflow:
    """Rows of the result in, findings out. Key: account."""
    flow = Dataflow("audit")
    rows = op.input("results", flow, ResultSource(case, window_rows))
    news = stateful("auditor", rows, case.auditor, case.identity)
    op.output("findings", op.key_rm("of_any_account", news), FindingsSink(case))
    return flow


def flow(out: str, config: str = "", bars: str = "", window_rows: int = WINDOW_ROWS) -> Dataflow:
    """The flow for `python -m bytewax.run`. What cannot be audited ends the process with exit code 2."""
    try:
        case = open_case(Path(out), Path(config) if config else None, Path(bars) if bars else None)
    except CANNOT as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return audit_graph(case, window_rows)
