"""The broker of the tests itself: what it holds outlives a kill, and it never outlives the test run."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka_broker import KafkaBroker, create_topic

from deploy.kafka import broker as script
from deploy.kafka.broker import Broker, BrokerError, fetch_jars, free_port, require_java

OWNER = """
import sys, time
from pathlib import Path
from deploy.kafka.broker import Broker
broker = Broker(Path(sys.argv[1]))
print(broker.start(), broker.port, flush=True)
time.sleep(600)
"""


def first_value(bootstrap: str, topic: str) -> bytes | None:
    settings = {"bootstrap.servers": bootstrap, "group.id": "unused", "log_level": 0}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    return message.value()


def test_what_was_acknowledged_is_there_after_a_kill(broker: KafkaBroker, prefix: str) -> None:
    topic = prefix + "kept"
    create_topic(broker.bootstrap, topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "log_level": 0})
    producer.produce(topic, b"order")
    assert producer.flush(30) == 0
    broker.kill()
    broker.start()
    assert first_value(broker.bootstrap, topic) == b"order"


def test_starting_a_broker_that_runs_changes_nothing(broker: KafkaBroker) -> None:
    assert broker.start() == broker.start()


@pytest.mark.usefixtures("own_broker_possible")
def test_a_broker_ends_with_a_killed_test_run(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    pid, port = map(int, owner.stdout.readline().split())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 30
    while serves(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not serves(port)
    assert not alive(pid)


def serves(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid: int) -> bool:
    """Not a zombie either: who waits for it depends on the machine."""
    told = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True, check=False)
    return bool(told.stdout.strip()) and not told.stdout.startswith("Z")


@pytest.mark.usefixtures("own_broker_possible")
def test_started_and_stopped_from_the_command_line(tmp_path: Path) -> None:
    port = free_port()

    def call(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(script.HERE / "broker.py"), *words, "--dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, told = call("start", "--port", str(port))
    try:
        assert (code, f"Kafka serves at 127.0.0.1:{port}" in told) == (0, True)
        assert call("start", "--port", str(port)) == (1, f"a broker runs on {tmp_path} already\n")
        assert serves(port)
    finally:
        code, told = call("stop")
    assert (code, told) == (0, "stopped\n")
    assert not serves(port)
    assert call("stop") == (1, f"no broker runs on {tmp_path}\n")


def test_a_port_that_another_program_has_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=f"another program has port {port}"):
            Broker(tmp_path, port).start()


@pytest.mark.usefixtures("own_broker_possible")
def test_a_broker_that_cannot_start_says_where_the_reason_is(tmp_path: Path) -> None:
    broken = Broker(tmp_path, more={"num.io.threads": "none"})
    with pytest.raises(BrokerError, match=r"see .*server\.log"):
        broken.start()
    assert not broken.running


@pytest.mark.usefixtures("own_broker_possible")
def test_jars_that_are_there_need_neither_maven_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert any(fetch_jars().glob("kafka_*.jar"))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="no java in PATH; Kafka needs Java 17 or newer"):
        require_java()
    with pytest.raises(BrokerError, match="no mvn in PATH, and no jars in "):
        fetch_jars()
    put(tmp_path / "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(BrokerError, match="is Java 11; Kafka needs 17 or newer"):
        require_java()
    put(tmp_path / "mvn", "echo '[ERROR] unknown host'; exit 1")
    with pytest.raises(BrokerError, match=r"mvn could not fetch Kafka's jars: .ERROR. unknown host"):
        fetch_jars()
    assert sorted(os.listdir(tmp_path)) == ["java", "mvn"]


def put(path: Path, commands: str) -> None:
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
