"""The soak: does live trading stay as it is, for as long as it runs?

`sluice live` and `sluice paper` trade 100 symbols on a broker of their own, at 1,000 bars a second: a second
has ten bar ends, so an hour has four months of sessions. Every ten seconds the memory of both, their polls,
what they have not read yet and the size of their snapshots are noted. The first third of the time is theirs
to settle; what grows from the second to the third will not stop growing.

The account goes by bars alone. At this pace a tick of the clock would overtake the bars of its own minute,
and an answer takes minutes of event time, so the configuration is patient with answers.
"""

import json
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.bench_live import (
    ANSWER_SECONDS,
    BARS_A_DAY,
    Deployment,
    Figures,
    Service,
    deployment,
    make_console,
    run_command,
    symbols,
)
from flows.process import RunError
from flows.publish import Followers, publish
from schemas.topics import ORDERS

SYMBOLS = 100
BAR_ENDS_A_SECOND = 10
SAMPLE_SECONDS = 10.0
PATIENT = {
    "answer_seconds": 3600,
    "no_progress_seconds": 36_000,
    "attempts": 100,
    "instruments_to_kill": 1000,
}
MOST_MEMORY = 1.05  # of the middle third
MOST_STORE = 1.10
LEAST_POLLS, MOST_POLLS = 0.8, 1.2
MOST_LAG = 5 * SYMBOLS * BAR_ENDS_A_SECOND  # records: five seconds of bars
MEGABYTE = 1 << 20
SPARE_SECONDS = 60  # of bars, so that they do not end first
SERVICES = ("live", "paper")
POLLS, BARS = ("sluice_polls_total",), ("sluice_bars_total",)
WRITTEN = ("sluice_written_total", ORDERS)


@dataclass(frozen=True, slots=True)
class Sample:
    """Both processes at one moment; pairs are in the order of `SERVICES`, counters are since the start."""

    seconds: float
    memory_mb: tuple[float, float]
    polls: tuple[float, float]
    lag: tuple[float, float]
    """Records of its topics that are not read yet."""
    store_mb: float
    """Snapshots of both, on disk."""
    bars: float
    orders: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A statement, the figures behind it, and whether it held."""

    statement: str
    told: str
    held: bool


def sampled(made: Deployment, seconds: float) -> Sample:
    """Raises `RunError` where a process has ended."""
    services = made.services
    brokers = Followers([], made.settings, made.kafka.prefix)
    figures = [service.figures() for service in services]
    for service, told in zip(services, figures, strict=True):
        if not told:
            raise RunError(f"sluice {service.name} does not answer at {service.url}")
    live, paper = figures
    return Sample(
        seconds,
        (_memory_mb(services[0]), _memory_mb(services[1])),
        (live[POLLS], paper[POLLS]),
        (_lag(brokers, live), _lag(brokers, paper)),
        sum(_size_mb(service.recovery) for service in services),
        live[BARS],
        live.get(WRITTEN, 0.0),  # not there before the first
    )


def _memory_mb(service: Service) -> float:
    """Resident memory."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _lag(brokers: Followers, figures: Figures) -> float:
    """By the brokers, as a process that stands still does not know how far it is behind; a broker that is
    asked at a bad moment is asked again.
    """
    positions = {
        (labels[1], int(labels[0])): value
        for (name, *labels), value in figures.items()
        if name == "sluice_position"
    }
    while not (ends := brokers.ends(list(positions))) and positions:
        time.sleep(ANSWER_SECONDS / 100)
    return sum(ends[place] - position for place, position in positions.items())


def _size_mb(folder: Path) -> float:
    """A file may be gone by the time it is asked for."""
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size / MEGABYTE


def verdicts(samples: Sequence[Sample]) -> list[Verdict]:
    """What the middle and the last third say; at least four samples."""
    n = len(samples) - 1
    middle, last = samples[n // 3 : 2 * n // 3 + 1], samples[2 * n // 3 :]
    found = []
    for k, name in enumerate(SERVICES):
        before, after = (statistics.median(s.memory_mb[k] for s in part) for part in (middle, last))
        told = f"{before:.0f} MB, then {after:.0f} MB"
        found.append(Verdict(f"memory of {name} is flat", told, after <= MOST_MEMORY * before))
    for k, name in enumerate(SERVICES):
        before, after = (rate([s.polls[k] for s in part], part) for part in (middle, last))
        held = LEAST_POLLS * before <= after <= MOST_POLLS * before
        found.append(Verdict(f"polls of {name} are flat", f"{before:.0f}/s, then {after:.0f}/s", held))
    most = max(max(s.lag) for s in (*middle, *last))
    found.append(Verdict(f"never more than {MOST_LAG:,} records behind", f"{most:,.0f}", most <= MOST_LAG))
    before, after = (max(s.store_mb for s in part) for part in (middle, last))
    told = f"at most {before:.1f} MB, then {after:.1f} MB"
    found.append(Verdict("snapshots do not grow", told, after <= MOST_STORE * before))
    traded = [part[-1].orders - part[0].orders for part in (middle, last)]
    told = f"{traded[0]:,.0f} orders, then {traded[1]:,.0f}"
    return [*found, Verdict("the account trades", told, min(traded) > 0)]


def rate(counter: Sequence[float], samples: Sequence[Sample]) -> float:
    """A second, from the first sample to the last."""
    return (counter[-1] - counter[0]) / (samples[-1].seconds - samples[0].seconds)


def soak(minutes: int, console: Console) -> list[Sample]:
    """Publish for so long, and return what was seen. Raises `RunError` where a process ends."""
    names = symbols(SYMBOLS)
    with (
        deployment(instruments=names, signals=names, max_positions=SYMBOLS, **PATIENT) as made,
        ThreadPoolExecutor(1) as pool,
    ):
        for name in SERVICES:
            made.start(name)
        stop = threading.Event()
        feeding = pool.submit(_feed, made, minutes, stop)
        try:
            return _watch(made, minutes, feeding, console)
        finally:
            stop.set()


def _feed(made: Deployment, minutes: int, stop: threading.Event) -> None:
    bar_ends = (minutes * 60 + SPARE_SECONDS) * BAR_ENDS_A_SECOND
    fed = publish(
        made.market(days=bar_ends // BARS_A_DAY + 1),
        made.publisher,
        Followers([], made.settings, made.kafka.prefix),
        interval_ns=made.config.interval_ns,
        speed=made.config.bars.interval_seconds * BAR_ENDS_A_SECOND,
        ticks=False,
        stop=stop,
    )
    for _ in fed:
        pass


def _watch(made: Deployment, minutes: int, feeding: "Future[None]", console: Console) -> list[Sample]:
    """A sample every ten seconds from the first bar on, and a line a minute."""
    while made.services[0].figures().get(BARS, 0.0) == 0.0 and not feeding.done():
        time.sleep(0.1)
    began = time.monotonic()
    samples = [sampled(made, 0.0)]
    console.print(HEAD, highlight=False)
    a_minute = round(60 / SAMPLE_SECONDS)
    for k in range(1, minutes * a_minute + 1):
        time.sleep(max(began + k * SAMPLE_SECONDS - time.monotonic(), 0))
        if feeding.done():
            feeding.result()
            raise RunError("the bars ended before their time")
        samples.append(sampled(made, time.monotonic() - began))
        if k % a_minute == 0:
            console.print(line(k // a_minute, samples[-a_minute - 1 :]), highlight=False)
    return samples


HEAD = (
    f"{'minute':>6} {'bars/s':>7} {'orders/s':>9} {'live MB':>8} {'paper MB':>9} {'polls/s':>8} "
    f"{'paper':>7} {'behind':>7} {'paper':>7} {'store MB':>9}"
)


def line(minute: int, samples: Sequence[Sample]) -> str:
    """One minute for people: rates over it, the rest at its end, what is behind at its worst."""
    last = samples[-1]
    bars, orders = rate([s.bars for s in samples], samples), rate([s.orders for s in samples], samples)
    polls = [rate([s.polls[k] for s in samples], samples) for k in range(2)]
    behind = [max(s.lag[k] for s in samples) for k in range(2)]
    return (
        f"{minute:>6} {bars:>7,.0f} {orders:>9,.1f} {last.memory_mb[0]:>8.1f} {last.memory_mb[1]:>9.1f} "
        f"{polls[0]:>8,.0f} {polls[1]:>7,.0f} {behind[0]:>7,.0f} {behind[1]:>7,.0f} {last.store_mb:>9.2f}"
    )


def main(minutes: Annotated[int, typer.Option(min=2, max=1440, help="how long bars come")] = 30) -> None:
    """Trade, watch, and print a line a minute, the verdicts and one line of JSON. Exit codes: 0 all held, 1
    one did not.
    """
    console = make_console()
    samples = soak(minutes, console)
    found = verdicts(samples)
    table = Table(title=f"{minutes} minutes, the last third beside the middle one", title_justify="left")
    for column in ("", "", "held"):
        table.add_column(column)
    for verdict in found:
        table.add_row(verdict.statement, verdict.told, "yes" if verdict.held else "NO")
    console.print(table)
    print(json.dumps({"verdicts": [asdict(v) for v in found], "samples": [asdict(s) for s in samples]}))
    raise typer.Exit(0 if all(verdict.held for verdict in found) else 1)


if __name__ == "__main__":
    run_command(main)
