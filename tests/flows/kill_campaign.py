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
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from base_config import base_with
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from mortal import POINTS
from replay_fixtures import write_toml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors.calendars import load_sessions
from connectors.kafka.client import client_settings
from connectors.kafka.topics import ensure
from connectors.recording import BarRecording
from connectors.synthetic import Family, write_synthetic
from deploy.kafka.broker import Broker, free_port
from flows.publish import Followers, Publisher, moments
from flows.service import grace_of, required
from schemas.codecs import decode
from schemas.config import Config, parse_config
from schemas.records import MarketSlice, Report
from schemas.topics import ALERTS, DECISIONS, JOURNAL, ORDERS

HERE = Path(__file__).resolve().parent
FIRST_DAY = date(2024, 11, 1)  # daylight saving ends behind it
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))
OUTPUTS = (ORDERS, DECISIONS, ALERTS)
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
) -> Outcome:
    """The same sessions twice, undisturbed and with deaths; `last_bars`: only so many, to the last close."""
    began = time.monotonic()
    sessions = load_sessions("XNYS", FIRST_DAY, FIRST_DAY + timedelta(days=2 * days + 30))
    write_synthetic(folder / "recording", sessions, (FAMILY,), FIRST_DAY, days, seed, dirty=False)
    bars = folder / "recording"
    whole = Run(folder / "whole", bootstrap, f"{prefix}whole.", 0, seed).play(bars, last_bars, console)
    killed = Run(folder / "killed", bootstrap, f"{prefix}killed.", kills, seed).play(bars, last_bars, console)
    differences = [told for name in (*OUTPUTS, "reports") if (told := _difference(name, whole, killed))]
    if whole.slices != killed.slices:
        differences.append(f"{len(whole.slices ^ killed.slices)} market slices differ")
    numbers = sorted(killed.sequences)
    if numbers != list(range(len(numbers))):
        differences.append("sequences are not contiguous")
    records = {name: len(killed.said[name]) for name in (*OUTPUTS, "reports")}
    seconds = time.monotonic() - began
    return Outcome(killed.deaths, records, killed.repeated_slices, differences, seconds, seed)


def _difference(name: str, whole: "Said", killed: "Said") -> str:
    """The first record that differs, for people."""
    one, two = whole.said[name], killed.said[name]
    if one == two:
        return ""
    k = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    shown = [rows[k].decode() if k < len(rows) else "nothing" for rows in (one, two)]
    return f"{name}: {len(one)} and {len(two)}; from {k} on: {shown[0]} is {shown[1]}"


@dataclass
class Said:
    """What a run left in its topics."""

    said: dict[str, list[bytes]] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)
    slices: set[bytes] = field(default_factory=set)
    repeated_slices: int = 0
    deaths: Counter[str] = field(default_factory=Counter)


class Run:
    """One session: both processes, their deaths, and what they said."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, kills: int, seed: int):
        folder.mkdir()
        self.kills = kills
        self.rng = random.Random(seed)
        self.config_path, self.config = _config(folder, bootstrap, prefix)
        self.processes = [
            Mortal(name, folder, self.config_path, port)
            for name, port in zip(VICTIMS, (free_port(), free_port()), strict=True)
        ]

    def play(self, recording: Path, last_bars: int, console: Console) -> Said:
        terms, kafka = required(self.config)
        settings = client_settings(kafka, "campaign")
        ensure(kafka, AdminClient(settings))
        publisher = Publisher(settings, self.config, kafka, grace_of(terms))
        followers = Followers([p.url for p in self.processes], settings, kafka.prefix)
        bars = BarRecording(recording, self.config.instruments)
        sessions = load_sessions("XNYS", bars.days[0], bars.days[-1] + timedelta(days=1))
        told = list(moments(bars, sessions))[-last_bars:]
        closes = [k for k, moment in enumerate(told) if moment.time_ns in set(sessions.close_ns.tolist())]
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
        finally:
            stop.set()
            keeper.join()
            for process in self.processes:
                process.end()
        said = read(settings, self.config)
        for process in self.processes:
            said.deaths.update(process.deaths)
        return said

    @property
    def died(self) -> int:
        return sum(process.deaths.total() for process in self.processes)

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

    def _keep_alive(self, stop: threading.Event) -> None:
        while not stop.wait(0.005):
            for process in self.processes:
                process.tend()


class Mortal:
    """`sluice live` or `sluice paper`, which comes back whenever it dies."""

    def __init__(self, name: str, folder: Path, config: Path, port: int):
        self.name = name
        self.folder = folder
        self.fuse = folder / f"{name}.fuse"
        self.url = f"http://127.0.0.1:{port}"
        options = ["-c", str(config), "-r", str(folder / f"{name}.db"), "--snapshot-seconds", "1"]
        self.command = [sys.executable, str(HERE / "mortal.py"), str(self.fuse), name, *options]
        self.command += ["--metrics-port", str(port)]
        self.deaths: Counter[str] = Counter()
        self.doomed = ""
        self.due = 0.0
        self.log: Any = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log = (self.folder / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, cwd=HERE.parents[1], env=dict(os.environ)
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
            raise SystemExit(f"{self.name} ended by itself ({code}): see {self.folder / self.name}.log")
        self.fuse.unlink(missing_ok=True)
        self.deaths[f"{self.name}: {self.doomed}"] += 1
        self.doomed = ""
        self.start()

    def end(self) -> None:
        assert self.process is not None
        self.fuse.unlink(missing_ok=True)
        self.process.terminate()
        code = self.process.wait(60)
        self.log.close()
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"{self.name} ended with {code}: " + Path(self.log.name).read_text()[-2000:])


def read(settings: dict[str, Any], config: Config) -> Said:
    """Everything in the account's topics."""
    _, kafka = required(config)
    found = Said(said={name: [] for name in (*OUTPUTS, "reports")})
    consumer = Consumer(
        settings
        | {
            "group.id": "campaign",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    names = {kafka.prefix + name: name for name in (*OUTPUTS, JOURNAL)}
    consumer.assign([TopicPartition(name, kafka.account_partition, 0) for name in names])
    ended: set[str] = set()
    while len(ended) < len(names):
        for message in consumer.consume(1000, 5.0):
            topic = names[str(message.topic())]
            if message.error() is not None:
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise SystemExit(message.error().str())
                ended.add(topic)
                continue
            value = message.value()
            assert isinstance(value, bytes)
            if topic == JOURNAL:
                kind = decode((MarketSlice, Report), value)
                if isinstance(kind, Report):
                    found.said["reports"].append(value)
                elif isinstance(kind, MarketSlice):
                    found.repeated_slices += value in found.slices
                    found.slices.add(value)
            else:
                found.said[topic].append(value)
                found.sequences.append(int(dict(message.headers() or [])["sequence"]))
    consumer.close()
    return found


def _config(folder: Path, bootstrap: str, prefix: str) -> tuple[Path, Config]:
    """A strategy that changes its mind all the time, so that there is something to lose."""
    data = base_with(
        account__id="campaign",
        gates__frequency__openings_per_window=16,
        gates__frequency__openings_per_day=10_000,
    )
    data["strategies"] = [
        {
            "name": "toggle",
            "kind": "toggle",
            "parameters": {},
            "signals": ["QQQ"],
            "family": "QQQ",
            "capital_share": 1,
            "filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0},
        }
    ]
    data["live"] = {"clock": "publisher", "tick_seconds": 1, "grace_seconds": 2}
    data["kafka"] = {
        "bootstrap_servers": bootstrap,
        "prefix": prefix,
        "account_partition": 1,
        "account_partitions": 2,
        "bars_partitions": 3,
        "replication_factor": 1,
    }
    data["metrics"] = {"port": 0}
    return write_toml(folder / "config.toml", data), parse_config(data)


if __name__ == "__main__":
    typer.run(main)
