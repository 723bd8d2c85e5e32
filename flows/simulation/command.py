"""`sluice simulate`: a search for a breach in sessions at random.

Exit codes: 0 every statement held in every scenario, 1 one did not, 2 it cannot be told: a scenario cannot be
played, or a statement was never put to the test by enough of them.
"""

import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flows.simulation.again import replay
from flows.simulation.run import Finding, Simulator
from flows.simulation.scenario import Scenario, make_scenario
from flows.simulation.search import CORES, Total, search
from flows.simulation.shadow import MEANING, Statement
from flows.simulation.show import lines_of, sentence
from flows.simulation.shrink import describe, shrink
from schemas.codes import AlertKind, Breaker, ExecutionKind

NOT_HELD, NOT_JUDGED = 1, 2
ENOUGH = 200  # scenarios, that every statement should be put to the test by
SHOWN = 3  # breaches
SEEDS_SHOWN = 10


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="scenarios")] = 1000,
    start: Annotated[
        int, typer.Option(min=0, help="seed of the first; the same seed is the same scenario")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = CORES,
) -> None:
    """Search for a breach: sessions, feeds, venues, operators and crashes at random, all statements asked
    after every event. A scenario that breaks one is made small and shown.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    began = time.perf_counter()
    total = search(range(start, start + seeds), workers, console)
    seconds = time.perf_counter() - began
    never = [statement.name for statement in Statement if not total.tested[statement]]
    console.print(_statements(total))
    console.print(_met(total))
    console.print(
        f"seeds {start} to {start + seeds - 1}: {total.events:,} events, {len(total.found):,} breaches, "
        f"{seconds:,.0f} s",
        highlight=False,
    )
    for line in _by_statement(total):
        console.print(f"[red]{line}[/]", highlight=False)
    for seed, found in _first_of_each(total)[:SHOWN]:
        show_smallest(seed, found, console)
    if total.found:
        raise typer.Exit(NOT_HELD)
    if seeds >= ENOUGH and never:
        console.print(f"[red]never put to the test[/]: {', '.join(never)}; take more --seeds")
        raise typer.Exit(NOT_JUDGED)


def _statements(total: Total) -> Table:
    table = Table(title="Statements", title_justify="left")
    table.add_column("statement")
    table.add_column("says")
    table.add_column("put to the test", justify="right")
    table.add_column("breaches", justify="right")
    for statement in Statement:
        breaches = sum(finding.statement == statement for _, finding in total.found)
        tested = f"{total.tested[statement]:,}" if total.tested[statement] else "never"
        shown = f"[red]{breaches:,}[/]" if breaches else "0"
        table.add_row(statement.name, MEANING[statement], tested, shown)
    return table


def _met(total: Total) -> Table:
    """What the scenarios were made of."""
    table = Table(title="What was met", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")

    def listed(
        kinds: type[AlertKind] | type[ExecutionKind] | type[Breaker], counts: NDArray[np.int64]
    ) -> str:
        return ", ".join(f"{kind.name.lower()} {counts[kind]:,}" for kind in kinds if counts[kind])

    for name in ("sessions", "rows", "orders", "fills", "partial_fills", "repeated", "crashes"):
        table.add_row(name.replace("_", " "), f"{getattr(total, name):,}")
    table.add_row("reports", listed(ExecutionKind, total.reports))
    table.add_row("breakers tripped", listed(Breaker, total.trips))
    table.add_row("halt level moved", f"{total.level_changes:,}")
    table.add_row("alerts", listed(AlertKind, total.alerts))
    return table


def _by_statement(total: Total) -> Iterator[str]:
    """The seeds that break each statement."""
    for statement in Statement:
        seeds = [seed for seed, finding in total.found if finding.statement == statement]
        if seeds:
            more = f" and {len(seeds) - SEEDS_SHOWN:,} more" if len(seeds) > SEEDS_SHOWN else ""
            yield f"{statement.name}: seeds {', '.join(map(str, seeds[:SEEDS_SHOWN]))}{more}"


def _first_of_each(total: Total) -> list[tuple[int, Finding]]:
    """The first seed that breaks each statement."""
    first = {finding.statement: (seed, finding) for seed, finding in reversed(total.found)}
    return sorted(first.values(), key=lambda found: found[0])


def show_smallest(seed: int, found: Finding, console: Console) -> None:
    """Shrink a scenario that breaks a statement, and show what is left of it."""
    simulator = Simulator()

    def check(scenario: Scenario) -> Finding | None:
        played = simulator.play(scenario)
        again = found.statement in (Statement.D2, Statement.D3)  # these alone need the journal once more
        return played.finding or (replay(played) if again else None)

    with console.status(f"seed {seed}: looking for the smallest scenario that still breaks it"):
        scenario, smallest = shrink(make_scenario(seed), found, check)
        played = simulator.play(scenario)
    console.print(f"\n[red]seed {seed}[/]: {sentence(played, smallest)}", highlight=False, soft_wrap=True)
    table = Table(title="what is enough to break it", title_justify="left", show_header=False)
    for name, text in describe(scenario):
        table.add_row(name, text)
    console.print(table, highlight=False)
    console.print("\n".join(lines_of(played)), highlight=False, markup=False, soft_wrap=True)
    console.print(f"again: sluice simulate --seeds 1 --start {seed}", highlight=False)
