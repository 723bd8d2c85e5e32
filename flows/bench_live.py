"""The live benchmark on a broker of its own: how soon orders follow the bar that brings them, and how fast a
topic of bars is replayed.

Latency: `sluice live` trades 500 symbols, a few of them now and then. A round is one bar end: its bars are
appended evenly over a second, and the account decides when the last of them has come. An order's latency
begins with the call that appends that last bar, and ends when a read-committed consumer has the order. The
benchmark is the venue, and fills everything between two rounds.

Floor: what Kafka takes for the two hops that nobody can avoid, measured between the rounds, by the same
consumer: a slice through the journal (an idempotent producer), and an order in a transaction of its own. The
ratio to the floor travels from machine to machine; milliseconds do not.
"""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import typer
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from connectors.calendars import load_sessions
from connectors.config_file import DEPLOY, load_config
from connectors.kafka.client import SERVERS_VARIABLE, client_settings
from connectors.kafka.topics import ensure
from connectors.recording import BarRecording
from connectors.synthetic import independent_symbols, write_synthetic
from deploy.kafka.broker import Broker, BrokerError, free_port
from flows.bench_topic import bench_topic
from flows.process import USER_ERRORS, RunError
from flows.publish import Followers, Moment, Publisher, moments
from flows.service import grace_of, required
from schemas.codecs import decode, encode
from schemas.codes import ExecutionKind, OrderKind
from schemas.records import Order, Report
from schemas.topics import DECISIONS, JOURNAL, ORDERS

FIRST = date(2021, 1, 4)
SEED = 7
SYMBOLS, TRADED = 500, 100
WARM_UP = 29  # bar ends before the one that has the first signals
UNMEASURED = 5  # rounds: the first signals come all at once
ROUND_SECONDS = 1.0
LISTEN_SECONDS = 0.25  # after the last bar of a round; an order that comes later counts as well
FLOORS = 5  # samples between two rounds
APPLY_SECONDS = 0.1
ANSWER_SECONDS = 10.0
START_SECONDS, END_SECONDS = 300.0, 60.0
HOP, TRANSACTION = "floor-hop", "floor-transaction"
AIM_P50, AIM_P99 = 2.0, 3.0  # times the floor
START = "from flows.cli import main; main()"
BARS_A_DAY = 390
SAMPLE = b"0" * 400  # as long as an order
FILLED = {"time_ns", "client_order_id", "instrument", "order_ns", "intent", "attempt", "side", "quantity"}
FILLED |= {"reference_price"}
LIVE_SECTIONS = "[live]"

Figures = dict[tuple[str, ...], float]


# --- an account that trades on a broker of its own


class Service:
    """`sluice live` or `sluice paper`."""

    def __init__(self, name: str, config: Path, folder: Path):
        self.name = name
        self.recovery = folder / f"{name}.db"
        self.log = folder / f"{name}.log"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ["-c", str(config), "-r", str(self.recovery), "--metrics-port", str(port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, name, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def figures(self) -> Figures:
        """Samples of its metrics by name and labels, which are in the order of their names; none before it
        serves them. Raises `RunError`.
        """
        if self.process.poll() is not None:
            raise RunError(f"sluice {self.name} has ended ({self.process.returncode}): {self._said()}")
        try:
            with urlopen(f"{self.url}/metrics", timeout=ANSWER_SECONDS) as answer:
                text = answer.read().decode()
        except (OSError, URLError):
            return {}
        return {
            (sample.name, *(label for _, label in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def until_it_reads(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not any(name == "sluice_position" for name, *_ in self.figures()):
            if time.monotonic() > deadline:
                raise RunError(f"sluice {self.name} does not begin to read: {self._said()}")
            time.sleep(0.1)

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Deployment:
    """One account with its topics, and the processes that trade it."""

    def __init__(self, folder: Path, config_text: str):
        self.folder = folder
        self.config_path = folder / "config.toml"
        self.config_path.write_text(config_text, encoding="utf-8")
        self.config = load_config(self.config_path)
        terms, self.kafka = required(self.config)
        self.settings = client_settings(self.kafka, "bench")
        self.admin = AdminClient(self.settings)
        ensure(self.kafka, self.admin)
        self.publisher = Publisher(self.settings, self.config, self.kafka, grace_of(terms))
        self.services: list[Service] = []

    def start(self, name: str) -> Service:
        """`sluice NAME`, once it reads."""
        service = Service(name, self.config_path, self.folder)
        self.services.append(service)
        service.until_it_reads()
        return service

    def follow(self) -> None:
        """Wait until the processes have read and written all there is."""
        urls = [service.url for service in self.services]
        Followers(urls, self.settings, self.kafka.prefix).wait(threading.Event())

    def market(self, days: int) -> Iterator[Moment]:
        """A made-up market of the account's symbols."""
        calendar = self.config.calendar
        sessions = load_sessions(calendar.exchange, calendar.first, calendar.last)
        recording = self.folder / "recording"
        write_synthetic(
            recording, sessions, independent_symbols(len(self.config.instruments)), FIRST, days, SEED
        )
        return moments(BarRecording(recording, self.config.instruments), sessions)


@contextmanager
def deployment(**changes: Any) -> Iterator[Deployment]:
    """One account on a broker that ends with it; `changes`: see `configured`."""
    os.environ.pop(SERVERS_VARIABLE, None)  # never on a broker that somebody else uses
    with TemporaryDirectory(prefix="sluice-bench-") as folder:
        broker = Broker(Path(folder) / "broker")
        broker.start()
        try:
            made = Deployment(Path(folder), configured(broker.bootstrap, **changes))
            try:
                yield made
            finally:
                for service in made.services:
                    service.end()
        finally:
            broker.stop()


def configured(bootstrap: str, **changes: Any) -> str:
    """`deploy/bench.toml` with the topics of `deploy/live.toml`; `changes`: see `changed`."""
    live = (DEPLOY / "live.toml").read_text(encoding="utf-8")
    text = (DEPLOY / "bench.toml").read_text(encoding="utf-8") + live[live.index(LIVE_SECTIONS) :]
    return changed(text, bootstrap_servers=bootstrap, **changes)


def changed(text: str, **values: Any) -> str:
    """TOML with other values; each key must stand on one line of its own, and once."""
    for key, value in values.items():
        before = re.findall(rf"^{key} = .*$", text, flags=re.MULTILINE)
        if len(before) != 1:
            raise ValueError(f"{key} stands on {len(before)} lines")
        text = text.replace(before[0], f"{key} = {json.dumps(value)}")
    return text


def symbols(n: int) -> list[str]:
    return [member for family in independent_symbols(n) for member, _ in family.members]


# --- latency


class Rounds:
    """Bar ends, one after the other; between them the floor is measured and the venue fills."""

    def __init__(self, made: Deployment):
        self.made = made
        self.names = made.kafka.prefix + ORDERS, made.kafka.prefix + HOP, made.kafka.prefix + TRANSACTION
        self.account = made.config.account.id.encode()
        self.writer = ThreadPoolExecutor(1)
        plain = made.settings | {"enable.idempotence": True, "acks": "all", "linger.ms": 0}
        self.producer = Producer(plain)
        self.transactions = Producer(plain | {"transactional.id": "bench-floor"})
        self.transactions.init_transactions()
        for created in made.admin.create_topics([NewTopic(name, 1, 1) for name in self.names[1:]]).values():
            created.result()
        self.consumer = Consumer(
            made.settings
            | {
                "group.id": "bench",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
            }
        )
        partitions = made.kafka.account_partition, 0, 0
        self.consumer.assign(
            [TopicPartition(name, k, 0) for name, k in zip(self.names, partitions, strict=True)]
        )
        self.appended: dict[int, float] = {}  # when the last bar was, by bar end
        self.fills = 0
        self.heard: list[tuple[float, bytes]] = []  # orders: when they came, and what came
        self.latencies: list[float] = []  # of orders, in milliseconds, as all of these
        self.hops: list[float] = []
        self.commits: list[float] = []

    def play(self, moment: Moment, *, measured: bool) -> None:
        began = time.perf_counter()
        pause = ROUND_SECONDS / len(moment.bars)
        for k, bar in enumerate(moment.bars):
            time.sleep(max(began + k * pause - time.perf_counter(), 0))
            self.appended[moment.time_ns] = time.perf_counter()
            self.made.publisher.bars(Moment(moment.time_ns, [bar], False))
        self._listen(LISTEN_SECONDS)
        if measured:
            for _ in range(FLOORS):
                self.hops.append(self._hop())
                self.commits.append(self._transaction())
        orders = []
        for at, value in self.heard:
            order = decode(Order, value)
            if not isinstance(order, Order):
                raise RunError(f"topic {ORDERS} has something that is no order: {order.detail}")
            orders.append(order)
            if measured:
                self.latencies.append((at - self.appended[order.time_ns]) * 1e3)
        self.heard.clear()
        self._fill(orders)

    def _listen(self, seconds: float, until: str = "") -> float | None:
        """Keep the orders that come within a time; returns when a record of the topic `until` came, if so."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            message = self.consumer.poll(left)
            at = time.perf_counter()
            if message is None:
                continue
            value = _value(message)
            if message.topic() == until:
                return at
            self.heard.append((at, value))
        return None

    def _hop(self) -> float:
        """Milliseconds from one record's append to its arrival."""
        began = time.perf_counter()
        self.producer.produce(self.names[1], SAMPLE, self.account, 0)
        arrived = self._arrived(self.names[1])
        self.producer.flush()
        return (arrived - began) * 1e3

    def _transaction(self) -> float:
        """The same in a transaction; written by a thread, as a commit may return behind the arrival."""
        began = time.perf_counter()
        written = self.writer.submit(self._commit)
        arrived = self._arrived(self.names[2])
        written.result()
        return (arrived - began) * 1e3

    def _arrived(self, name: str) -> float:
        arrived = self._listen(ANSWER_SECONDS, name)
        if arrived is None:
            raise RunError(f"a record did not come through the broker within {ANSWER_SECONDS:.0f} s")
        return arrived

    def _commit(self) -> None:
        self.transactions.begin_transaction()
        self.transactions.produce(self.names[2], SAMPLE, self.account, 0)
        self.transactions.commit_transaction()

    def _fill(self, orders: Sequence[Order]) -> None:
        """Every new order is filled at its reference price, so that no later round waits for an answer."""
        for order in orders:
            if order.kind != OrderKind.NEW:
                continue
            self.fills += 1
            fill = Report(
                kind=ExecutionKind.FILL,
                execution_id=self.fills,
                reference_id=0,
                price=order.reference_price,
                fee=Decimal(0),
                cumulative=order.quantity,
                **order.model_dump(include=FILLED),
            )
            where = self.made.kafka.prefix + JOURNAL, self.made.kafka.account_partition
            self.producer.produce(where[0], encode(fill), self.account, where[1])
        self.producer.flush()
        time.sleep(APPLY_SECONDS)


def _value(message: Message) -> bytes:
    error, value = message.error(), message.value()
    if error is not None:
        raise RunError(f"the benchmark cannot read: {error.str()}")
    return value if isinstance(value, bytes) else b""


def latency(rounds: int, console: Console) -> dict[str, Any]:
    """Milliseconds from bar to order, and the floor."""
    with (
        deployment(
            instruments=symbols(SYMBOLS), signals=symbols(SYMBOLS)[:: SYMBOLS // TRADED], max_positions=TRADED
        ) as made,
        console.status("live: 500 symbols, one bar end a round"),
    ):
        told = made.market(days=1 + (WARM_UP + UNMEASURED + rounds) // BARS_A_DAY)
        service = made.start("live")
        playing = Rounds(made)
        for moment in islice(told, WARM_UP):
            made.publisher.bars(moment)
        made.follow()
        for moment in islice(told, UNMEASURED):
            playing.play(moment, measured=False)
        before = service.figures()
        for moment in islice(told, rounds):
            playing.play(moment, measured=True)
        after = service.figures()
    if not playing.latencies:
        raise RunError("no order came in any round, so there is nothing to measure")
    written = ("sluice_written_total", DECISIONS)
    return {
        "rounds": rounds,
        "orders_a_round": round(len(playing.latencies) / rounds, 1),
        "decisions_a_round": round((after[written] - before[written]) / rounds, 1),
        **compared(playing.latencies, playing.hops, playing.commits),
    }


def compared(orders: Sequence[float], hops: Sequence[float], commits: Sequence[float]) -> dict[str, Any]:
    """Percentiles of milliseconds, and the ratio to the floor: a hop and a transaction each, summed."""
    floor = [hop + commit for hop, commit in zip(hops, commits, strict=True)]
    rows = {"order": orders, "hop": hops, "transaction": commits, "floor": floor}
    figures: dict[str, Any] = {
        name: {
            "p50": round(float(np.percentile(row, 50)), 2),
            "p99": round(float(np.percentile(row, 99)), 2),
            "max": round(max(row), 2),
            "n": len(row),
        }
        for name, row in rows.items()
    }
    ratios = {q: round(figures["order"][q] / figures["floor"][q], 2) for q in ("p50", "p99")}
    return {**figures, "ratio": ratios, "reached": ratios["p50"] <= AIM_P50 and ratios["p99"] <= AIM_P99}


def make_console() -> Console:
    """A terminal has a width of its own; a file or a pipe gets one that fits the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def run_command(command: Callable[..., None]) -> None:
    """A command line; what its user can mend is a message."""
    logging.getLogger("sluice.kafka").setLevel(logging.ERROR)  # the first answers of a new broker are late
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except (*USER_ERRORS, BrokerError) as error:
        sys.exit(f"error: {error}")


def main(rounds: Annotated[int, typer.Option(min=1, help="bar ends that are measured")] = 200) -> None:
    """Measure, and print a table and one line of JSON. Exit codes: 0 the aims of latency are reached, 1 they
    are not.
    """
    console = make_console()
    figures = {"latency": latency(rounds, console), "topic": bench_topic(console)}
    console.print(latency_table(figures["latency"]))
    console.print(topic_table(figures["topic"]))
    print(json.dumps(figures))
    raise typer.Exit(0 if figures["latency"]["reached"] else 1)


def latency_table(figures: dict[str, Any]) -> Table:
    about = f"{figures['orders_a_round']} orders and {figures['decisions_a_round']} decisions a round"
    table = Table(title=f"Live, {figures['rounds']} rounds of 500 bars, {about}", title_justify="left")
    table.add_column("milliseconds")
    for column in ("p50", "p99", "max", "n"):
        table.add_column(column, justify="right")
    rows = {
        "order": "from the append of the last bar to the order",
        "hop": "floor: one record, produced and consumed",
        "transaction": "floor: one record in a transaction, read committed",
        "floor": "floor: both",
    }
    for name, told in rows.items():
        row = figures[name]
        table.add_row(told, *(f"{row[q]:.2f}" for q in ("p50", "p99", "max")), f"{row['n']:,}")
    ratio = figures["ratio"]
    table.add_row(
        f"ratio; the aim is {AIM_P50:g} and {AIM_P99:g}", f"{ratio['p50']:.2f}", f"{ratio['p99']:.2f}"
    )
    return table


def topic_table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"Replay of a topic, {figures['about']}", title_justify="left")
    table.add_column(f"{figures['bars']:,} bars, {figures['principles_held']} of 5 principles")
    for column in ("bars/s", "replay is"):
        table.add_column(column, justify="right")
    rows = (
        ("replay, every gate on, audited", "bars_per_second", None),
        ("bare consumer that fetches like it", "consumed_per_second", "ratio_to_consumer"),
        ("bare consumer as the library sets it up", "plain_per_second", "ratio_to_plain"),
    )
    for told, rate, ratio in rows:
        table.add_row(told, f"{figures[rate]:,}", f"{figures[ratio]:.2f} of it" if ratio else "")
    return table


if __name__ == "__main__":
    run_command(main)
