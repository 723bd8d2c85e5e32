"""`sluice simulate`: a search for a breach in sessions at random.

Exit codes: 0 every statement held in every scenario, 1 one did not, 2 a statement was never put to the test.
"""

import time
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from flows.simulation.again import replay
from flows.simulation.run import Finding, Simulator
from flows.simulation.scenario import make_scenario
from flows.simulation.shadow import Statement
from flows.simulation.show import lines_of
from schemas.codes import AlertKind

HELD, NOT_HELD, NOT_TESTED = 0, 1, 2
ENOUGH = 200  # scenarios after which every statement should have been put to the test


@dataclass
class Total:
    """What happened in all scenarios. `found`: (seed, finding, last events)."""

    events: int = 0
    orders: int = 0
    fills: int = 0
    commands: int = 0
    tested: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Statement), np.int64))
    alerts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(AlertKind), np.int64))
    found: list[tuple[int, Finding, list[str]]] = field(default_factory=list)


def search(seeds: range, console: Console) -> Total:
    """Play every scenario, with its journal once more in cuts and through crashes."""
    simulator, total = Simulator(), Total()
    with console.status("compiling, once for this version: some minutes"):
        simulator.play(make_scenario(seeds.start))
    for seed in track(seeds, "simulate", console=console, disable=not console.is_terminal):
        played = simulator.play(make_scenario(seed))
        account = played.state.account[0]
        total.events += played.rows
        total.orders += int(account.orders)
        total.fills += int(account.fills)
        total.commands += int(account.commands)
        total.tested += played.shadow.tested[: len(Statement)]
        total.alerts += np.bincount(played.outputs()[4]["kind"], minlength=len(AlertKind))
        finding = played.finding or replay(played)
        if finding is not None:
            total.found.append((seed, finding, lines_of(played)))
    return total


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="scenarios")] = 1000,
    start: Annotated[
        int, typer.Option(min=0, help="seed of the first; the same seed is the same scenario")
    ] = 0,
) -> None:
    """Search for a breach: sessions, feeds, venues, operators and crashes at random, all statements asked
    after every event.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    began = time.perf_counter()
    total = search(range(start, start + seeds), console)
    seconds = time.perf_counter() - began

    tested = Table(title="Statements", title_justify="left")
    for column in ("statement", "asked", "breaches"):
        tested.add_column(column, justify="left" if column == "statement" else "right")
    for statement in Statement:
        breaches = sum(finding.statement == statement for _, finding, _ in total.found)
        asked = int(total.tested[statement])
        if asked or breaches:
            tested.add_row(statement.name, f"{asked:,}", f"[red]{breaches:,}[/]" if breaches else "0")
    console.print(tested)
    console.print(
        f"seeds {start} to {start + seeds - 1}: {total.events:,} events, {total.orders:,} orders, "
        f"{total.fills:,} fills, {total.commands:,} commands, {len(total.found):,} breaches, {seconds:,.0f} s"
    )
    met = ", ".join(f"{kind.name.lower()} {total.alerts[kind]:,}" for kind in AlertKind if total.alerts[kind])
    console.print(f"alerts: {met}")
    for seed, finding, lines in total.found[:3]:
        console.print(f"[red]seed {seed}[/]: {finding}", highlight=False)
        console.print("\n".join(lines), highlight=False, markup=False)
        console.print(f"again: sluice simulate --seeds 1 --start {seed}")
    if total.found:
        raise typer.Exit(NOT_HELD)
    again = (Statement.D2, Statement.D3)  # of every journal, when it is applied again
    never = [s.name for s in Statement if not total.tested[s] and s not in again]
    if seeds >= ENOUGH and never:
        console.print(f"[red]never put to the test[/]: {', '.join(never)}")
        raise typer.Exit(NOT_TESTED)
