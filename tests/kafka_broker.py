"""A real Kafka broker for tests, as a pytest plugin.

Where KAFKA_BOOTSTRAP_SERVERS is set, that broker; else one of its own from jars, which needs Java and, the
first time, Maven and the network; else tests that ask for it are skipped, and the end of the run says so.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from deploy.kafka.broker import Broker, BrokerError, fetch_jars, free_port, require_java

SERVERS = "KAFKA_BOOTSTRAP_SERVERS"
_missing: list[str] = []


class KafkaBroker(Protocol):
    """What tests may do with a broker."""

    @property
    def bootstrap(self) -> str:
        """For `bootstrap.servers`."""

    def start(self) -> int:
        """Start it again and wait until it serves; nothing where it runs."""

    def stop(self) -> None:
        """Stop it in good order."""

    def kill(self) -> None:
        """Kill it at once; what it had acknowledged is there after the next start."""


class OtherBroker:
    """A broker that is not ours: tests that would stop it are skipped."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def start(self) -> int:
        """It runs."""
        return 0

    def stop(self) -> None:
        """Skips the test."""
        pytest.skip(f"the broker of {SERVERS} is not ours to stop")

    kill = stop


@pytest.fixture(scope="session")
def own_broker_possible() -> None:
    """Skips where Kafka cannot be had."""
    try:
        require_java()
        fetch_jars()
    except BrokerError as problem:
        _missing.append(str(problem))
        pytest.skip(f"no Kafka broker: {problem}")


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for all tests of a run. It starts when the first test asks for it."""
    servers = os.environ.get(SERVERS)
    if servers:
        yield OtherBroker(servers)
        return
    request.getfixturevalue("own_broker_possible")
    folder = tmp_path_factory.mktemp("kafka")
    own = Broker(folder)
    own.start()
    yield own
    own.stop()
    shutil.rmtree(folder / "data")


def guarded_broker(folder: Path, protocol: str, more: dict[str, str]) -> tuple[Broker, str]:
    """A broker with one more listener, SECURE, of a security protocol, and the address of that."""
    port, controller, secure = free_port(), free_port(), f"127.0.0.1:{free_port()}"
    ours = f"PLAINTEXT://127.0.0.1:{port}"
    listeners = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"{ours},CONTROLLER://127.0.0.1:{controller},SECURE://{secure}",
        "advertised.listeners": f"{ours},SECURE://{secure}",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{protocol}",
    }
    return Broker(folder, port, listeners | more), secure


@pytest.fixture
def prefix(broker: KafkaBroker) -> Iterator[str]:
    """A prefix of topics that no other test has. A broker that the test left stopped is started again."""
    fresh = f"test-{uuid.uuid4().hex[:12]}."
    yield fresh
    if isinstance(broker, Broker):
        broker.start()
        return
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    made = [name for name in admin.list_topics(timeout=10).topics if name.startswith(fresh)]
    if made:
        for deleted in admin.delete_topics(made).values():
            deleted.result()


def wait_until(holds: Callable[[], bool]) -> None:
    """Brokers answer before all of them know of a change. Fails after half a minute."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "the brokers do not show the change"
        time.sleep(0.05)


def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic with one copy, and wait until it can be used."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result()

    def usable() -> bool:
        found = admin.list_topics(timeout=10).topics.get(name)
        return found is not None and [p.leader >= 0 for p in found.partitions.values()] == [True] * partitions

    wait_until(usable)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once more, at the very end, what was not tested."""
    if _missing:
        skipped = [
            report
            for report in terminalreporter.stats.get("skipped", [])
            if "no Kafka broker" in str(report.longrepr)
        ]
        terminalreporter.write_line(
            f"{len(skipped)} tests need a Kafka broker and were skipped: {_missing[0]}"
        )
