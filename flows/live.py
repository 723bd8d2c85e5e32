"""Trading from Kafka topics: bars in, orders out, through the same graph that replays.

    SLUICE_CONFIG=deploy/live.toml python -m bytewax.run flows.live -r DIRECTORY -s 5 -b 0

or `sluice live`. A process is one shard: it owns the stages and partitions that `shard` names, all by
default, "account", "market" or "market:0-3".
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from bytewax.dataflow import Dataflow
from confluent_kafka.admin import AdminClient

from connectors.control_files import NO_KILL, ControlRecords, read_control
from connectors.kafka.client import check_broker, client_settings
from connectors.kafka.sinks import ExactlyOnceSink, JournalSink
from connectors.kafka.source import Clock, KafkaSource, Polled
from connectors.kafka.topics import require
from connectors.metrics import Figures
from flows.graph import Setup, Sinks, compile_kernels, live_graph
from flows.service import Service, flow_of_process, grace_of, required
from flows.wire import bars_of, clock_out, journal_rows, messages_of
from operators.control import KILL_FILE, POISON, command_rows
from schemas.codecs import encode
from schemas.codes import ControlAction
from schemas.commands import Command
from schemas.config import NS, Config, ConfigError
from schemas.records import MAX_INT
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

OUTPUTS = (ORDERS, DECISIONS, ALERTS)


def flow() -> Dataflow:
    """The flow for `python -m bytewax.run flows.live`; settings come from the environment."""
    return flow_of_process(live)


def live(config: Config, control: Path | None = None, shard: str = "") -> Service:
    """Both stages, or those of a shard. Raises `ConfigError` and `KafkaProblem`."""
    terms, kafka = required(config)
    setup = Setup.of(config, paper=False)
    topics = shard_topics(shard, kafka.bars_partitions, kafka.account_partition)
    settings = client_settings(kafka, "live")
    check_broker(settings)
    decided = OUTPUTS if JOURNAL in topics else ()
    require(kafka, AdminClient(settings), {*topics, *decided, JOURNAL, DEAD_LETTERS})
    stop, account = Event(), config.account.id
    figures = Figures()
    source: KafkaSource[Any] = KafkaSource(
        settings,
        kafka.prefix,
        topics,
        Decoder(config, figures),
        identity=f"live {account} {shard or 'all'} {setup.identity}",
        clock=_clock(config, control) if JOURNAL in topics else None,
        stop=stop,
    )
    outputs = ExactlyOnceSink(
        settings,
        kafka.prefix,
        OUTPUTS,
        kafka.account_partition,
        transactional_id=f"{kafka.prefix}{account}",
        identity=f"outputs of {account}",
        on_written=figures.written,
    )
    sinks = Sinks(
        JournalSink(settings, kafka.prefix, kafka.account_partition, on_written=figures.written),
        outputs if JOURNAL in topics else None,
        JournalSink(settings, kafka.prefix, 0, on_written=figures.written),
    )
    graph = live_graph(source, sinks, setup, grace_of(terms), figures.decided)
    return Service(graph, source, stop, config, figures, lambda: compile_kernels(setup))


def shard_topics(shard: str, bars_partitions: int, account_partition: int) -> dict[str, Sequence[int]]:
    """Partitions to read, by topic. Raises `ConfigError` for a shard that is none."""
    stage, colon, span = shard.partition(":")
    bars: Sequence[int] = range(bars_partitions)
    if colon:
        first, dash, last = span.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and bool(dash) == bool(last)):
            raise ConfigError(f"shard {shard!r}: write the partitions of bars as market:0-3 or market:2")
        bars = range(int(first), int(last or first) + 1)
        if not bars or bars[-1] >= bars_partitions:
            raise ConfigError(
                f"shard {shard!r}: [kafka] bars_partitions is {bars_partitions}, so they are 0 to "
                f"{bars_partitions - 1}"
            )
    match stage:
        case "" if not colon:
            return {BARS: bars, JOURNAL: [account_partition]}
        case "account" if not colon:
            return {JOURNAL: [account_partition]}
        case "market":
            return {BARS: bars}
    raise ConfigError(f"shard {shard!r}: must be account, market or market with partitions, as market:0-3")


class Decoder:
    """Messages as items of the graph."""

    def __init__(self, config: Config, figures: Figures):
        self.config = config
        self.figures = figures

    def __call__(self, polled: Polled) -> Iterable[tuple[str, Any]]:
        messages = messages_of(polled)
        if polled.topic == BARS:
            bars, letters, ignored = bars_of(messages, self.config)
            self.figures.read_bars(bars, ignored)
            yield from ((batch.symbol, batch) for batch in bars)
        else:
            rows, letters = journal_rows(messages, self.config)
            yield self.config.account.id, rows
        if letters is not None:
            yield polled.topic, letters


def _clock(config: Config, control: Path | None) -> Clock[tuple[str, Any]]:
    """Says the time, unless a publisher does, and what operators have asked for."""
    terms, _ = required(config)
    account, folder = config.account.id, ControlFolder(control, config)

    def emit(time_ns: int) -> tuple[str, Any]:
        said = time_ns if terms.clock == "wall" else None
        return account, clock_out(account, said, folder.news())

    return Clock(terms.tick_seconds * NS, emit)


class ControlFolder:
    """Control records of a folder that were not handed on yet. After a restart all of them are handed on
    again: the journal knows repetitions.
    """

    def __init__(self, folder: Path | None, config: Config):
        self.folder = folder
        self.config = config
        self.handed_on = 0
        self.killed = False

    def news(self) -> list[bytes]:
        """Records since the last call; a kill while there is a kill file, and again after every command, so
        that none lifts it.
        """
        if self.folder is None:
            return []
        control = read_control(self.folder)
        news = list(control.records[self.handed_on :])
        self.handed_on += len(news)
        if control.kill_ns == NO_KILL:
            self.killed = False
        elif news or not self.killed:
            self.killed = True
            news.append(self._kill(control))
        return news

    def _kill(self, control: ControlRecords) -> bytes:
        """Newer than every command, and the same again after a restart."""
        _, rows = command_rows(control.records, control.kill_ns, self.config)
        return encode(
            Command(
                account=self.config.account.id,
                command_id=int(rows["command_id"][~np.isin(rows["refusal"], POISON)].max()),
                action=ControlAction.KILL,
                issuer=KILL_FILE,
                reason="there is a kill file in the control folder",
                expires_ns=MAX_INT,
                breaker="",
                strategy="",
                instrument="",
                limit="",
                value=Decimal(0),
                signatures=[],
            )
        )
