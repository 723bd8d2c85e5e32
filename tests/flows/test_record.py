"""`sluice record`: what stands in the topics is in the files, each message once, whatever dies meanwhile."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import typer
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_broker import KafkaBroker
from typer.testing import CliRunner

from connectors import topic_recording
from connectors.config_file import DEPLOY, load_config
from connectors.kafka.client import KafkaProblem
from connectors.recording import RecordingError
from connectors.topic_recording import Row, files_of, partitions_of, read_rows
from flows import record as record_module
from flows.record import Recorded, record, topics_of
from flows.record_cli import record_command
from schemas.config import Config, ConfigError, Kafka
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
PLACES = [(BARS, 0), (BARS, 1), (JOURNAL, 1), (ORDERS, 1), (DECISIONS, 1), (ALERTS, 1), (DEAD_LETTERS, 0)]


KAFKA = """
[kafka]
bootstrap_servers = "{servers}"
prefix = "{prefix}"
account_partition = 1
account_partitions = 2
bars_partitions = 2
replication_factor = 1
"""


@pytest.fixture
def path(broker: KafkaBroker, prefix: str, tmp_path: Path) -> Path:
    """A configuration whose topics are there, and empty."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topics = {BARS: 2, **dict.fromkeys((JOURNAL, ORDERS, DECISIONS, ALERTS), 2), DEAD_LETTERS: 1}
    made = admin.create_topics([NewTopic(prefix + name, n, 1) for name, n in topics.items()])
    for future in made.values():
        future.result(DEADLINE)
    before, _, _ = (DEPLOY / "live.toml").read_text().partition("[kafka]")
    path = tmp_path / "live.toml"
    path.write_text(before + KAFKA.format(servers=broker.bootstrap, prefix=prefix))
    return path


@pytest.fixture
def config(path: Path) -> Config:
    return load_config(path)


def changed(config: Config, **kafka: Any) -> Config:
    return config.model_copy(update={"kafka": kafka_of(config).model_copy(update=kafka)})


def kafka_of(config: Config) -> Kafka:
    assert config.kafka is not None
    return config.kafka


class Writing:
    """Produces messages that no two places, and no two times, have in common."""

    def __init__(self, config: Config) -> None:
        kafka = kafka_of(config)
        self.prefix = kafka.prefix
        settings = {"bootstrap.servers": kafka.bootstrap_servers}
        self.plain = Producer(settings)
        self.numbered = Producer({**settings, "transactional.id": f"{kafka.prefix}writer"})
        self.numbered.init_transactions()
        self.random = random.Random(7)
        self.sequence = 0

    def plainly(self, n: int) -> None:
        for _ in range(n):
            for topic, partition in ((BARS, 0), (BARS, 1), (JOURNAL, 1), (DEAD_LETTERS, 0)):
                self._produce(self.plain, topic, partition, {})
        assert self.plain.flush(DEADLINE) == 0

    def transaction(self, *, abort: bool = False) -> None:
        self.numbered.begin_transaction()
        for topic in (ORDERS, DECISIONS, DECISIONS, ALERTS)[: self.random.randrange(1, 5)]:
            self._produce(self.numbered, topic, 1, {"sequence": b"%d" % self.sequence})
            self.sequence += not abort
        self.numbered.flush(DEADLINE)  # the library aborts too early, for good, what is not yet registered
        (self.numbered.abort_transaction if abort else self.numbered.commit_transaction)()

    def some(self) -> None:
        self.plainly(self.random.randrange(20))
        for _ in range(3):
            self.transaction(abort=self.random.random() < 0.3)

    def _produce(self, producer: Producer, topic: str, partition: int, headers: Any) -> None:
        value = self.random.choice((None, b"", self.random.randbytes(self.random.randrange(1, 300))))
        key = self.random.choice((None, b"", b"key"))
        producer.produce(self.prefix + topic, value, key, partition, headers=headers)


def what_stands_there(config: Config) -> dict[tuple[str, int], list[Row]]:
    """The topics as any reader sees them: the other way to know."""
    kafka = kafka_of(config)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": "another",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: dict[tuple[str, int], list[Row]] = {place: [] for place in PLACES}
    ended = set()
    consumer.assign([TopicPartition(kafka.prefix + t, p, OFFSET_BEGINNING) for t, p in PLACES])
    while len(ended) < len(PLACES):
        for message in consumer.consume(1_000, 0.2):
            place = str(message.topic()).removeprefix(kafka.prefix), message.partition()
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF
                ended.add(place)
                continue
            headers = dict(message.headers() or ())
            number = int(headers["sequence"]) if "sequence" in headers else None
            found[place].append(
                Row(message.offset(), message.timestamp()[1], message.key(), message.value(), number)
            )
    consumer.close()
    return found


def recorded(folder: Path) -> dict[tuple[str, int], list[Row]]:
    """Also checks that no file is missing between others."""
    return {
        place: [row for portion in read_rows(files_of(folder, *place)) for row in portion] for place in PLACES
    }


def nothing(_: Recorded) -> None:
    pass


def to_end(config: Config, folder: Path) -> Recorded:
    return record(config, folder, Event(), until_end=True, progress=nothing)


def test_all_topics_of_the_account_are_recorded(config: Config) -> None:
    assert sorted((t, p) for t, of in topics_of(kafka_of(config)).items() for p in of) == sorted(PLACES)


def test_recording_to_the_end_has_every_byte(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_recording, "MOST_ROWS", 30)
    writing, folder = Writing(config), tmp_path / "recording"
    for _ in range(4):
        writing.some()
        done = to_end(config, folder)
        assert done.read == done.written
        assert done.left == 0
        assert recorded(folder) == what_stands_there(config)
    again = to_end(config, folder)
    assert sum(again.read.values()) == 0
    assert recorded(folder) == what_stands_there(config)
    assert len(files_of(folder, BARS, 0)) < 6
    assert partitions_of(folder, BARS) == [0, 1]


def test_what_is_written_meanwhile_is_recorded_until_it_is_stopped(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "MOST_SECONDS", 0.05)
    writing, stop, folder = Writing(config), Event(), tmp_path / "recording"
    writing.plainly(5)
    in_files = Event()

    def seen(done: Recorded) -> None:
        if done.written[BARS] >= 10 and done.written[ORDERS] >= 1:
            in_files.set()

    thread = Thread(target=lambda: record(config, folder, stop, until_end=False, progress=seen), daemon=True)
    thread.start()
    writing.plainly(1)
    writing.transaction()
    assert in_files.wait(DEADLINE), "nothing is written before it is stopped"
    writing.some()
    stop.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    to_end(config, folder)
    assert recorded(folder) == what_stands_there(config)


RECORDER = """
import sys
from pathlib import Path
from threading import Event
from connectors import topic_recording
from connectors.config_file import load_config
from flows import record
topic_recording.MOST_ROWS, record.MOST_SECONDS, record.MESSAGES = 40, 0.02, 7
print("ready", flush=True)
config, folder = load_config(Path(sys.argv[1])), Path(sys.argv[2])
record.record(config, folder, Event(), until_end=False, progress=lambda _: None)
"""


def test_a_recorder_killed_at_any_moment_loses_and_doubles_nothing(
    config: Config, path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"
    writing, chance = Writing(config), random.Random(3)
    kills, files = 0, 0
    while kills < 8:
        recorder = subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(path), str(folder)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == b"ready\n"
        until = time.monotonic() + chance.uniform(0.1, 1.5)
        while time.monotonic() < until:
            writing.some()
        assert recorder.poll() is None, "the recorder ended by itself"
        recorder.send_signal(signal.SIGKILL)
        recorder.wait(DEADLINE)
        recorder.stdout.close()
        kills += 1
        files = len(list(folder.rglob("*.parquet")))
    assert files > len(PLACES)
    stood = what_stands_there(config)
    for place, rows in recorded(folder).items():
        assert rows == stood[place][: len(rows)]
    to_end(config, folder)
    assert recorded(folder) == stood
    assert not list(folder.rglob("*.tmp"))


def trim(config: Config, topic: str, partition: int, offset: int) -> None:
    kafka = kafka_of(config)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    where = TopicPartition(kafka.prefix + topic, partition, offset)
    for future in admin.delete_records([where]).values():
        future.result(DEADLINE)


def test_what_was_trimmed_before_it_was_recorded_is_a_problem(config: Config, tmp_path: Path) -> None:
    writing, folder = Writing(config), tmp_path / "recording"
    writing.plainly(10)
    to_end(config, folder)
    writing.plainly(10)
    trim(config, BARS, 1, 10)
    to_end(config, folder)
    before = recorded(folder)
    writing.plainly(10)
    trim(config, BARS, 1, 25)
    with pytest.raises(KafkaProblem, match=r"bars partition 1 is recorded up to offset 20 .*holds 25 to 30"):
        to_end(config, folder)
    assert recorded(folder) == before


def test_a_first_recording_of_a_trimmed_topic_says_where_it_begins(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    Writing(config).plainly(10)
    trim(config, BARS, 1, 4)
    to_end(config, folder)
    (file,) = files_of(folder, BARS, 1)
    assert (file.follows, file.first, file.last) == (4, 4, 9)


def test_a_topic_that_was_made_anew_is_a_problem(config: Config, tmp_path: Path, prefix: str) -> None:
    folder = tmp_path / "recording"
    Writing(config).plainly(10)
    to_end(config, folder)
    kafka = kafka_of(config)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_topics([prefix + BARS]).values():
        future.result(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while True:  # a topic that is deleted is still there for a moment
        try:
            admin.create_topics([NewTopic(prefix + BARS, 2, 1)])[prefix + BARS].result(DEADLINE)
            break
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    with pytest.raises(KafkaProblem, match=r"is recorded up to offset 10 .*made anew"):
        to_end(config, folder)


def test_topics_that_are_not_as_configured_are_a_problem(config: Config, tmp_path: Path) -> None:
    def said(**kafka: Any) -> str:
        with pytest.raises(KafkaProblem) as problem:
            to_end(changed(config, **kafka), tmp_path / str(kafka))
        return str(problem.value)

    assert "bars has 2 partitions, and [kafka] bars_partitions is 1" in said(bars_partitions=1)
    assert "see [kafka] prefix" in said(prefix="nobodys.")
    assert "numbers of partitions in section [kafka]" in said(account_partition=5, account_partitions=6)


def test_another_account_is_refused(config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    to_end(config, folder)
    other = config.model_copy(update={"account": config.account.model_copy(update={"id": "other"})})
    with pytest.raises(RecordingError, match="recording with account 'paper'"):
        to_end(other, folder)


def test_without_topics_there_is_nothing_to_record(tmp_path: Path) -> None:
    config = load_config(DEPLOY / "demo.toml")
    with pytest.raises(ConfigError, match=r"section \[kafka\] is missing"):
        to_end(config, tmp_path)


def test_the_command_records_and_says_what(config: Config, path: Path, tmp_path: Path) -> None:
    Writing(config).plainly(3)
    app = typer.Typer()
    app.command()(record_command)
    command = [str(tmp_path / "recording"), "-c", str(path), "--until-end", "--json"]
    ended = CliRunner().invoke(app, command, catch_exceptions=False)
    assert ended.exit_code == 0
    assert "recorded: 6 bars, 3 journal, 0 orders" in ended.stdout
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["written"][BARS] == 6
    assert figures["left"] == 0
