"""Many scenarios, in processes side by side, and what was met in them."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.process import RunError
from flows.simulation.again import replay
from flows.simulation.run import Finding, Played, Simulator
from flows.simulation.scenario import make_scenario
from flows.simulation.shadow import Statement
from schemas.codes import AlertKind, Breaker, ExecutionKind

CORES = os.cpu_count() or 1
CHUNK = 10  # scenarios a process plays before it tells


def _zeros(size: int) -> NDArray[np.int64]:
    return np.zeros(size, np.int64)


@dataclass
class Total:
    """What happened in all scenarios. `found`: by seed. Arrays count by statement, kind or breaker."""

    seeds: int = 0
    sessions: int = 0
    events: int = 0
    rows: int = 0
    orders: int = 0
    fills: int = 0
    partial_fills: int = 0
    repeated: int = 0
    crashes: int = 0
    level_changes: int = 0
    tested: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(Statement)))
    alerts: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(AlertKind)))
    reports: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(ExecutionKind)))
    trips: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(Breaker)))
    found: list[tuple[int, Finding]] = field(default_factory=list)

    def add(self, other: "Total") -> None:
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    def count(self, played: Played) -> None:
        """One scenario more."""
        book, account = played.shadow.book[0], played.state.account[0]
        self.seeds += 1
        self.rows += played.rows
        self.crashes += len(played.scenario.cuts)
        self.sessions += int(account.sessions)
        self.fills += int(account.fills)
        for name in ("events", "orders", "partial_fills", "repeated", "level_changes"):
            setattr(self, name, getattr(self, name) + int(book[name]))
        self.tested += played.shadow.tested
        self.alerts += played.shadow.alerts
        self.reports += played.shadow.reports
        made = played.outputs()[4]
        tripped = made["breaker"][made["kind"] == AlertKind.BREAKER_TRIPPED]
        self.trips += np.bincount(tripped, minlength=len(Breaker))


def play_seeds(seeds: range) -> Total:
    """Play scenarios, each with its journal once more in cuts and through crashes. `RunError` names the seed
    of one that cannot be played.
    """
    simulator, total = Simulator(), Total()
    for seed in seeds:
        try:
            played = simulator.play(make_scenario(seed))
            finding = played.finding or replay(played)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise RunError(f"seed {seed} cannot be played, {told}; please report it with the seed") from error
        total.count(played)
        if finding is not None:
            total.found.append((seed, finding))
    return total


def search(seeds: range, workers: int, console: Console) -> Total:
    """Play every scenario of `seeds`. `RunError` where one cannot be played, or a process dies."""
    total = Total()
    with console.status("compiling, once for this version: a minute or two"):
        play_seeds(seeds[:1])
    columns = (
        TextColumn("simulate"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(seeds))
        for part in _parts(seeds, workers):
            total.add(part)
            told = f"[red]breaches: {len(total.found)}[/]" if total.found else ""
            progress.update(task, completed=total.seeds, description=told)
    return total


def _parts(seeds: range, workers: int) -> Iterator[Total]:
    chunks = [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]
    workers = min(workers, len(chunks))
    if workers == 1:
        yield from map(play_seeds, chunks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _leave_interrupts) as pool:
        try:
            yield from pool.map(play_seeds, chunks)
        except BrokenProcessPool:
            raise RunError(
                "a process of the search died, perhaps for want of memory; take fewer --workers"
            ) from None


def _leave_interrupts() -> None:
    """The process that started the others ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
