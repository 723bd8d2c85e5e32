"""Live trading for tests: a deployment on a real broker, its processes, its publisher, and what they left in
the topics.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

from base_config import base_with
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families
from replay_fixtures import ROOT, SLUICE, write_toml

from connectors.calendars import load_sessions
from connectors.kafka.client import client_settings
from connectors.kafka.topics import ensure, wanted
from connectors.recording import BarRecording
from connectors.synthetic import Family, write_synthetic
from deploy.kafka.broker import free_port
from flows.live import OUTPUTS
from flows.publish import Followers, Moment, Publisher, moments
from flows.service import grace_of, required
from schemas.codecs import decode
from schemas.config import Config, parse_config
from schemas.records import MarketSlice, Record, Report
from schemas.topics import JOURNAL

FIRST_DAY = date(2024, 11, 1)  # daylight saving ends behind it
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))
START_SECONDS = 120.0
END_SECONDS = 60.0
QUIET_SECONDS = 0.1
READ_SECONDS = 0.05  # a reader waits for so long also where it has read all
EXCHANGE = "XNYS"
QUICK_AND_QUIET = {"NUMBA_DISABLE_JIT": "1", "RUST_BACKTRACE": "0", "COLUMNS": "150"}
R = TypeVar("R", bound=Record)
Settings = dict[str, Any]


def live_data(bootstrap: str, prefix: str, **changes: Any) -> dict[str, Any]:
    """A configuration with a strategy that changes its mind all the time, so that there is something to lose;
    `changes` as in `base_with`.
    """
    data = base_with(
        account__id="live",
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
    changed: dict[str, Any] = base_with(data, **changes)
    return changed


def record_days(folder: Path, days: int, seed: int) -> Path:
    """A recording of a synthetic market."""
    sessions = load_sessions(EXCHANGE, FIRST_DAY, FIRST_DAY + timedelta(days=2 * days + 30))
    write_synthetic(folder, sessions, (FAMILY,), FIRST_DAY, days, seed, dirty=False)
    return folder


def moments_of(recording: Path, config: Config, last: int = 0) -> list[Moment]:
    """What is published of a recording; the last so many moments, 0 for all."""
    bars = BarRecording(recording, config.instruments)
    sessions = load_sessions(EXCHANGE, bars.days[0], bars.days[-1] + timedelta(days=1))
    return list(moments(bars, sessions))[-last:]


# --- processes


class Process:
    """A process of ours, what it writes to its terminal, and its metrics."""

    def __init__(
        self, command: Sequence[object], log: Path, *, port: int = 0, workers: int = 1, **environment: str
    ):
        self.url = f"http://127.0.0.1:{port}"
        self.workers = workers
        self.log = log
        self.stands_still = False
        with log.open("ab") as told:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                cwd=ROOT,
                env={**os.environ, **QUICK_AND_QUIET, **environment},
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.child.poll() is None

    def figures(self) -> dict[tuple[str, ...], float]:
        """Samples of its metrics, by name and labels; none where it does not answer yet."""
        try:
            with urlopen(self.url + "/metrics", timeout=END_SECONDS) as answer:
                text = answer.read().decode()
        except (OSError, URLError):
            return {}
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def until(self, holds: Callable[[], bool], seconds: float = START_SECONDS) -> Self:
        """Wait for something while it runs."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.is_running, f"ended with {self.child.returncode}: {self.said[-4000:]}"
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.said[-4000:]}"
            time.sleep(0.01)
        return self

    def serves(self) -> bool:
        """Whether it has begun to read."""
        return any(name == "sluice_position" for name, *_ in self.figures())

    def freeze(self) -> None:
        self.stands_still = True
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def ended(self) -> tuple[int, str]:
        """Exit code and what it said, once it has ended by itself."""
        return self.child.wait(END_SECONDS), self.said

    def end(self) -> tuple[int, str]:
        self.child.terminate()
        return self.ended()

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()


class _WhileAlive(threading.Event):
    """Fails whoever waits where a process is dead."""

    def __init__(self, processes: Sequence[Process]):
        super().__init__()
        self.processes = processes

    def is_set(self) -> bool:
        for process in self.processes:
            assert process.is_running, f"ended with {process.child.returncode}: {process.said[-4000:]}"
        return False


class Deployment:
    """One account with its topics; its processes end with it."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, **changes: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = live_data(bootstrap, prefix, **changes)
        self.config_path = write_toml(folder / "config.toml", self.data)
        self.config = parse_config(self.data)
        terms, self.kafka = required(self.config)
        self.settings = client_settings(self.kafka, "tests")
        ensure(self.kafka, AdminClient(self.settings))
        self.publisher = Publisher(self.settings, self.config, self.kafka, grace_of(terms))
        self.processes: list[Process] = []
        self.followers: dict[tuple[str, ...], Followers] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.is_running:
                process.kill()

    def live(self, recovery: str = "live", **how: Any) -> Process:
        return self.run("live", recovery, **how)

    def paper(self, recovery: str = "paper", **how: Any) -> Process:
        return self.run("paper", recovery, **how)

    def run(
        self,
        kind: str,
        recovery: str,
        *,
        bytewax: bool = False,
        shard: str = "",
        workers: int = 1,
        control: Path | None = None,
        config: Path | None = None,
        first: str = "",
        copy_of: str = "",
        wait: bool = True,
    ) -> Process:
        """Start a process of ours, by `sluice` or by `python -m bytewax.run`, and wait until it reads.
        `first`: Python that its interpreter runs before. `copy_of`: recovery directory to copy first.
        """
        where, port, used = self.folder / recovery, free_port(), config or self.config_path
        if copy_of:
            shutil.copytree(self.folder / copy_of, where)
        environment = {}
        if bytewax:
            where.mkdir(exist_ok=True)
            start = f"import runpy; {first or 'pass'}; runpy.run_module('bytewax.run', run_name='__main__')"
            command = ["-c", start] if first else ["-m", "bytewax.run"]
            options: list[object] = [f"flows.{kind}", "-r", where, "-s", "1", "-b", "0", "-w", workers]
            environment = {
                "SLUICE_CONFIG": str(used),
                "SLUICE_SHARD": shard,
                "SLUICE_METRICS_PORT": str(port),
                "SLUICE_CONTROL": str(control or ""),
            }
        else:
            start = f"from flows.cli import main; {first or 'pass'}; main()"
            command = ["-c", start]
            options = [kind, "-c", used, "-r", where, "--snapshot-seconds", 1, "--metrics-port", port]
            options += ["--shard", shard] if shard else []
            options += ["--control", control] if control else []
        program = [sys.executable, *command] if bytewax or first else [SLUICE]
        log = self.folder / f"{len(self.processes)}-{kind}-{recovery}.log"
        process = Process([*program, *options], log, port=port, workers=workers, **environment)
        self.processes.append(process)
        return process.until(process.serves) if wait else process

    def delete_topics(self) -> None:
        admin = AdminClient(self.settings)
        for deleted in admin.delete_topics([spec.name for spec in wanted(self.kafka)]).values():
            deleted.result()

    # --- feeding it

    def settle(self) -> None:
        """Until all processes that run have read and written everything there is."""
        running = [process for process in self.processes if process.is_running and not process.stands_still]
        urls = tuple(process.url for process in running)
        if urls not in self.followers:
            self.followers[urls] = Followers(urls, self.settings, self.kafka.prefix)
        followers = self.followers[urls]
        alive = _WhileAlive(running)
        followers.wait(alive)
        # Polls of the input say nothing about what another worker is at.
        while any(process.workers > 1 for process in running):
            before = self.ends()
            time.sleep(QUIET_SECONDS)
            followers.wait(alive)
            if self.ends() == before:
                return

    def play(self, told: Sequence[Moment], *, bars: bool = True) -> None:
        """Publish moment by moment, each when the one before it is dealt with; or the clock alone."""
        for moment in told:
            if bars:
                self.publisher.bars(moment)
                self.settle()
            if moment.ticks:
                self.publisher.tick(moment)
                self.settle()

    def produce(self, topic: str, partition: int, value: bytes | None, key: bytes) -> int:
        """Put bytes into a topic; returns their offset."""
        offsets: list[int | None] = []
        producer = Producer(self.settings)
        producer.produce(
            self.kafka.prefix + topic,
            value,
            key,
            partition,
            on_delivery=lambda _, message: offsets.append(message.offset()),
        )
        producer.flush()
        (offset,) = offsets
        assert offset is not None
        return offset

    # --- what it left

    def ends(self) -> dict[str, int]:
        """End of every topic of the account."""
        consumer = Consumer({**self.settings, "group.id": "tests"})
        names = (*OUTPUTS, JOURNAL)
        places = {n: TopicPartition(self.kafka.prefix + n, self.kafka.account_partition) for n in names}
        found = {n: consumer.get_watermark_offsets(place)[1] for n, place in places.items()}
        consumer.close()
        return found

    def messages(self, topic: str, partition: int | None = None) -> list[bytes]:
        """Values of a partition, the account's where none is named."""
        where = self.kafka.account_partition if partition is None else partition
        return [value for _, value, _ in read_topics(self.settings, self.kafka.prefix, [topic], where)]

    def records(self, topic: str, model: type[R], partition: int | None = None) -> list[R]:
        found = [decode(model, value) for value in self.messages(topic, partition)]
        return [record for record in found if isinstance(record, model)]

    def said(self) -> "Said":
        return read(self.settings, self.config)


# --- what is in the topics


@dataclass
class Said:
    """What a run left in its topics: `said` by topic, the venue's as "reports"; `sequences` of the outputs in
    the order of their topics; each market slice once.
    """

    said: dict[str, list[bytes]] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)
    slices: set[bytes] = field(default_factory=set)
    repeated_slices: int = 0

    def differences(self, other: "Said") -> list[str]:
        """What is not the same in both, for people."""
        told = [_difference(name, self.said[name], other.said[name]) for name in self.said]
        if self.slices != other.slices:
            told.append(f"{len(self.slices ^ other.slices)} market slices differ")
        numbers = sorted(other.sequences)
        if numbers != list(range(len(numbers))):
            told.append("sequences are not contiguous")
        return [text for text in told if text]


def _difference(name: str, one: list[bytes], two: list[bytes]) -> str:
    """The first record that differs."""
    if one == two:
        return ""
    k = next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    shown = [rows[k].decode() if k < len(rows) else "nothing" for rows in (one, two)]
    return f"{name}: {len(one)} and {len(two)}; from {k} on: {shown[0]} is {shown[1]}"


def read(settings: Settings, config: Config) -> Said:
    """Everything in the account's topics."""
    _, kafka = required(config)
    found = Said(said={name: [] for name in (*OUTPUTS, "reports")})
    for topic, value, headers in read_topics(
        settings, kafka.prefix, (*OUTPUTS, JOURNAL), kafka.account_partition
    ):
        if topic == JOURNAL:
            kind = decode((MarketSlice, Report), value)
            if isinstance(kind, Report):
                found.said["reports"].append(value)
            elif isinstance(kind, MarketSlice):
                found.repeated_slices += value in found.slices
                found.slices.add(value)
        else:
            found.said[topic].append(value)
            found.sequences.append(int(headers["sequence"]))
    return found


def read_topics(
    settings: Settings, prefix: str, topics: Sequence[str], partition: int
) -> list[tuple[str, bytes, dict[str, Any]]]:
    """(topic, value, headers) of everything that is committed in one partition of some topics."""
    consumer = Consumer(
        settings
        | {
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    names = {prefix + name: name for name in topics}
    consumer.assign([TopicPartition(name, partition, 0) for name in names])
    found: list[tuple[str, bytes, dict[str, Any]]] = []
    ended: set[str] = set()
    while len(ended) < len(names):
        for message in consumer.consume(1000, READ_SECONDS):
            topic = names[str(message.topic())]
            error, value = message.error(), message.value()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error.str()
                ended.add(topic)
                continue
            assert isinstance(value, bytes)
            found.append((topic, value, dict(message.headers() or [])))
    consumer.close()
    return found
