"""Kills live trading over and over, and compares what it said with a run that nobody disturbed.

    make kill-campaign KILLS=200

A real broker, real processes: `sluice live` and `sluice paper` are killed (SIGKILL) at random moments and at
named points of their work while a session is published, as fast as they follow. Orders, decisions, alerts and
the venue's reports must be the same bytes in the same order as those of the undisturbed run, none lost, none
twice. The publisher waits until a bar is dealt with before it publishes the next one: with bars that do not
wait, a late process would see another order of events, in which other orders are right.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient
from live_fixtures import Said, live_data, moments_of, read, record_days
from mortal import POINTS
from replay_fixtures import write_toml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.kafka.client import client_settings
from connectors.kafka.topics import ensure
from deploy.kafka.broker import Broker, free_port
from flows.graph import Setup, compile_kernels, compile_venue
from flows.publish import Followers, Publisher
from flows.service import grace_of, required
from schemas.config import parse_config

HERE = Path(__file__).resolve().parent
DAY_NS = 86_400_000_000_000
END_OF_DAY_BARS, END_OF_DAY_WEIGHT = 20, 4
MOST_DELAY = 0.15
VICTIMS = ("live", "paper")


def main(
    kills: Annotated[int, typer.Option(min=1, help="how often a process dies")] = 200,
    seed: Annotated[int, typer.Option(help="the same seed plans the same deaths")] = 1,
    days: Annotated[int, typer.Option(min=1, help="sessions that are published")] = 1,
) -> None:
    """Exit codes: 0 nothing was lost or doubled, 1 something was."""
    console = Console()
    with TemporaryDirectory(prefix="sluice-campaign-") as folder:
        broker = Broker(Path(folder) / "broker")
        broker.start()
        try:
            outcome = campaign(Path(folder), broker.bootstrap, "", kills, seed, console, days=days)
        finally:
            broker.stop()
    console.print(outcome.table())
    raise typer.Exit(1 if outcome.differences else 0)


@dataclass
class Outcome:
    """What a campaign found. `differences`: what is not as in the undisturbed run."""

    kills: Counter[str]
    records: dict[str, int]
    repeated_slices: int
    differences: list[str]
    seconds: float
    seed: int

    def table(self) -> Table:
        table = Table(title=f"{self.kills.total()} kills, seed {self.seed}, {self.seconds:.0f} s")
        table.add_column("killed")
        table.add_column("times", justify="right")
        for how, count in sorted(self.kills.items()):
            table.add_row(how, f"{count}")
        table.add_section()
        for name, count in self.records.items():
            table.add_row(f"{name}, the same bytes in the same order", f"{count:,}")
        table.add_row("slices written twice, and known by their content", f"{self.repeated_slices:,}")
        table.add_section()
        for difference in self.differences or ["0 lost, 0 doubled, 0 bytes different"]:
            table.add_row(difference, "")
        return table


def campaign(
    folder: Path,
    bootstrap: str,
    prefix: str,
    kills: int,
    seed: int,
    console: Console,
    *,
    days: int = 1,
    last_bars: int = 0,
    compiled: bool = True,
) -> Outcome:
    """The same sessions twice, undisturbed and with deaths; `last_bars`: only so many, to the last close.
    Processes that are not `compiled` start at once, and are slower then.
    """
    if compiled:
        setup = Setup.of(parse_config(live_data(bootstrap, prefix)), paper=False)
        compile_kernels(setup)  # once and here, not in a process that others wait for
        compile_venue(setup)
    began = time.monotonic()
    bars = record_days(folder / "recording", days, seed)
    undisturbed = Run(folder / "whole", bootstrap, f"{prefix}whole.", 0, seed, compiled)
    whole = undisturbed.play(bars, last_bars, console)
    killing = Run(folder / "killed", bootstrap, f"{prefix}killed.", kills, seed, compiled)
    killed = killing.play(bars, last_bars, console)
    records = {name: len(rows) for name, rows in killed.said.items()}
    seconds = time.monotonic() - began
    differences = whole.differences(killed)
    return Outcome(killing.deaths, records, killed.repeated_slices, differences, seconds, seed)


class Run:
    """One session: both processes, their deaths, and what they said."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, kills: int, seed: int, compiled: bool):
        folder.mkdir()
        self.kills = kills
        self.rng = random.Random(seed)
        data = live_data(bootstrap, prefix)
        self.config_path, self.config = write_toml(folder / "config.toml", data), parse_config(data)
        self.processes = [
            Mortal(name, folder, self.config_path, port, compiled)
            for name, port in zip(VICTIMS, (free_port(), free_port()), strict=True)
        ]

    def play(self, recording: Path, last_bars: int, console: Console) -> Said:
        terms, kafka = required(self.config)
        settings = client_settings(kafka, "campaign")
        ensure(kafka, AdminClient(settings))
        publisher = Publisher(settings, self.config, kafka, grace_of(terms))
        followers = Followers([p.url for p in self.processes], settings, kafka.prefix)
        told = moments_of(recording, self.config, last_bars)
        days = [moment.time_ns // DAY_NS for moment in told]
        closes = [k for k in range(len(told)) if days[k + 1 : k + 2] != [days[k]]]
        weights = [1] * len(told)
        for close in closes:
            for k in range(max(close - END_OF_DAY_BARS, 0), close):
                weights[k] = END_OF_DAY_WEIGHT
        stop = threading.Event()
        keeper = threading.Thread(target=self._keep_alive, args=(stop,))
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        for process in self.processes:
            process.start()
        followers.wait(stop)
        keeper.start()
        try:
            with Progress(*columns, console=console) as shown:
                task = shown.add_task(f"{self.kills} kills", total=len(told))
                for k, moment in enumerate(told):
                    self._plan_death(weights, k)
                    publisher.bars(moment)
                    followers.wait(stop)
                    if moment.ticks:
                        publisher.tick(moment)
                        followers.wait(stop)
                    shown.update(task, advance=1, description=f"{self.died} of {self.kills} kills")
                while (
                    self.died < self.kills and keeper.is_alive()
                ):  # those that were due too late die now, one after the other
                    self._kill_one(keeper)
                    followers.wait(stop)
        finally:
            stop.set()
            keeper.join()
            for process in self.processes:
                process.end()
        return read(settings, self.config)

    @property
    def deaths(self) -> Counter[str]:
        return sum((process.deaths for process in self.processes), Counter())

    @property
    def died(self) -> int:
        return self.deaths.total()

    def _plan_death(self, weights: list[int], k: int) -> None:
        """So many deaths from bar `k` on that all are died by the end."""
        planned = self.died + sum(bool(process.doomed) for process in self.processes)
        chance = (self.kills - planned) * weights[k] / sum(weights[k:])
        while self.rng.random() < chance:
            process = self.rng.choice(self.processes)
            if process.doomed:
                return
            point = self.rng.choice([*POINTS, *["at a random moment"] * len(POINTS)])
            process.doom(point, self.rng.random() * MOST_DELAY)
            chance -= 1

    def _kill_one(self, keeper: threading.Thread) -> None:
        died = self.died
        victim = next((process for process in self.processes if process.doomed), self.processes[0])
        victim.doom("at a random moment", 0)
        while self.died == died and keeper.is_alive():
            time.sleep(0.005)

    def _keep_alive(self, stop: threading.Event) -> None:
        while not stop.wait(0.005):
            for process in self.processes:
                process.tend()


class Mortal:
    """`sluice live` or `sluice paper`, which comes back whenever it dies."""

    def __init__(self, name: str, folder: Path, config: Path, port: int, compiled: bool):
        self.name = name
        self.folder = folder
        self.fuse = folder / f"{name}.fuse"
        self.url = f"http://127.0.0.1:{port}"
        options = ["-c", str(config), "-r", str(folder / f"{name}.db"), "--snapshot-seconds", "1"]
        self.command = [sys.executable, str(HERE / "mortal.py"), str(self.fuse), name, *options]
        self.command += ["--metrics-port", str(port)]
        self.environment = {**os.environ, **({} if compiled else {"NUMBA_DISABLE_JIT": "1"})}
        self.deaths: Counter[str] = Counter()
        self.doomed = ""
        self.due = 0.0
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=HERE.parents[1], env=self.environment
            )

    def doom(self, point: str, delay: float) -> None:
        """It will die: at a point of its work, or so many seconds from now."""
        self.due = time.monotonic() + delay
        self.doomed = point
        if point in POINTS:
            unfinished = self.fuse.with_suffix(".tmp")
            unfinished.write_text(point)
            unfinished.replace(self.fuse)

    def tend(self) -> None:
        """Kill it when its time has come; start it again when it is dead."""
        assert self.process is not None
        is_start = self.doomed.startswith("at start-up")
        if self.doomed and (self.doomed not in POINTS or is_start) and time.monotonic() >= self.due:
            self.process.kill()
            self.due = float("inf")
            if is_start:
                self.process.wait()
                self.deaths[f"{self.name}: at a random moment"] += 1
                self.start()
                return
        code = self.process.poll()
        if code is None:
            return
        if code != -signal.SIGKILL:
            raise SystemExit(f"{self.name} ended by itself ({code}): see {self.log}")
        self.fuse.unlink(missing_ok=True)
        self.deaths[f"{self.name}: {self.doomed}"] += 1
        self.doomed = ""
        self.start()

    def end(self) -> None:
        assert self.process is not None
        self.fuse.unlink(missing_ok=True)
        self.process.terminate()
        code = self.process.wait(60)
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM):  # the last: while it was starting
            raise SystemExit(f"{self.name} ended with {code}: " + self.log.read_text()[-2000:])


if __name__ == "__main__":
    typer.run(main)
