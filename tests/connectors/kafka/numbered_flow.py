"""A small flow that numbers records and writes them through the sink. Tests run it as a process of its own,
and have it killed or stopped at a point of a write that they name.
"""

import json
import os
import random
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from confluent_kafka import Producer

from connectors.kafka import sinks
from connectors.kafka.client import client_settings
from connectors.kafka.sinks import ExactlyOnceSink, Outbox, Outgoing
from schemas.config import Kafka

TOPICS = ("orders", "decisions")
PACE = timedelta(milliseconds=4)


@dataclass(frozen=True)
class Task:
    """What the process does. `at`: point of a write, `write`: the how manieth write, `with_signal`: what
    happens there.
    """

    bootstrap: str
    prefix: str
    recovery: str
    until: int
    transactional_id: str | None = "writer"
    at: str = ""
    write: int = 0
    with_signal: int = signal.SIGKILL


def settings(bootstrap: str) -> dict[str, Any]:
    return client_settings(
        Kafka(
            bootstrap_servers=bootstrap,
            account_partition=0,
            account_partitions=1,
            bars_partitions=1,
            replication_factor=1,
        ),
        "test",
    )


def pair(k: int) -> Outbox:
    """An order and its decision."""
    return Outbox([Outgoing(TOPICS[i], b"key", b"%d" % k, 2 * k + i) for i in (0, 1)])


class Count(StatefulSourcePartition[int, int]):
    """Counts in batches of a different size in each run."""

    def __init__(self, until: int, resumed: int | None) -> None:
        self.until = until
        self.next = resumed or 0

    def next_batch(self) -> list[int]:
        if self.next >= self.until:
            raise StopIteration
        batch = list(range(self.next, min(self.until, self.next + random.randint(1, 20))))
        self.next = batch[-1] + 1
        return batch

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + PACE

    def snapshot(self) -> int:
        return self.next


class Counts(FixedPartitionedSource[int, int]):
    def __init__(self, until: int) -> None:
        self.until = until

    def list_parts(self) -> list[str]:
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Count:  # noqa: ARG002
        return Count(self.until, resume_state)


def interrupted(task: Task) -> type[Producer]:
    """A producer that sends its own process a signal at the named point."""

    class Interrupted(Producer):
        writes = 0
        first = True

        def point(self, name: str) -> None:
            if name == task.at and self.writes == task.write:
                os.kill(os.getpid(), task.with_signal)

        def produce(self, *args: Any, **kwargs: Any) -> None:
            if self.first:
                self.first = False
                self.writes += 1
                self.point("before produce")
            super().produce(*args, **kwargs)

        def flush(self, *args: Any) -> int:
            self.first = True
            self.point("after produce")
            left = super().flush(*args)
            self.point("before commit")
            return left

        def commit_transaction(self, *args: Any) -> None:
            super().commit_transaction(*args)
            self.point("after commit")

    return Interrupted


def main(task: Task) -> None:
    sinks.Producer = interrupted(task)
    sink = ExactlyOnceSink(
        settings(task.bootstrap),
        task.prefix,
        TOPICS,
        0,
        transactional_id=task.transactional_id,
        identity="test",
        on_written=lambda _: None,
    )
    flow = Dataflow("numbered")
    numbers = op.input("numbers", flow, Counts(task.until))
    op.output("out", op.map("pair", numbers, lambda k: ("key", pair(k))), sink)
    cli_main(
        flow,
        epoch_interval=timedelta(milliseconds=150),
        recovery_config=RecoveryConfig(task.recovery, timedelta(0)),
    )


if __name__ == "__main__":
    main(Task(**json.loads(sys.argv[1])))
