"""The sinks on a real broker: killed, stopped, overtaken, cut off, and read back."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka_broker import KafkaBroker, create_topic
from numbered_flow import TOPICS, Task, pair, settings

from connectors.kafka import sinks
from connectors.kafka.client import KafkaProblem
from connectors.kafka.sinks import ExactlyOnceSink, JournalSink, Outbox, Outgoing

ROOT = Path(__file__).resolve().parents[3]
FLOW = Path(__file__).with_name("numbered_flow.py")
POINTS = ("before produce", "after produce", "before commit", "after commit")
WRITERS = pytest.mark.parametrize("transactional_id", ["writer", None])


@pytest.fixture
def topics(broker: KafkaBroker, prefix: str) -> str:
    """The prefix of topics that exist, each of one partition."""
    for name in TOPICS:
        create_topic(broker.bootstrap, prefix + name)
    return prefix


def sink(broker: KafkaBroker, prefix: str, **changes: Any) -> ExactlyOnceSink:
    own = {"transactional_id": f"{prefix}writer", "identity": "test", "on_written": lambda _: None}
    return ExactlyOnceSink(settings(broker.bootstrap), prefix, TOPICS, 0, **(own | changes))


def build(broker: KafkaBroker, prefix: str, snapshot: Any = None, **changes: Any) -> sinks._Numbered:
    return sink(broker, prefix, **changes).build_part("out", "00000", snapshot)


def messages(
    broker: KafkaBroker, prefix: str, topic: str, isolation: str = "read_committed"
) -> list[Message]:
    """All of a topic that such a reader sees now."""
    consumer = Consumer(
        {
            **settings(broker.bootstrap),
            "group.id": "test",
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )
    place = TopicPartition(prefix + topic, 0, OFFSET_BEGINNING)
    end = consumer.get_watermark_offsets(place, timeout=10)[1]  # as this reader sees it
    consumer.assign([place])
    found: list[Message] = []
    reached = 0
    while reached < end:
        for message in consumer.consume(1000, 0.1):
            if message.error() is None:
                found.append(message)
                reached = message.offset() + 1
            else:
                reached = message.offset()
    consumer.close()
    return found


def written(broker: KafkaBroker, prefix: str) -> dict[str, list[int]]:
    """The pairs of which each topic shows a record, as the topic has them."""
    found: dict[str, list[int]] = {}
    for i, topic in enumerate(TOPICS):
        rows = messages(broker, prefix, topic)
        found[topic] = [int(message.value()) for message in rows]
        assert [message.headers() for message in rows] == [
            [("sequence", b"%d" % (2 * k + i))] for k in found[topic]
        ]
    return found


def each_once(until: int) -> dict[str, list[int]]:
    return {topic: list(range(until)) for topic in TOPICS}


# --- as a process of its own


def recovery(folder: Path) -> str:
    folder.mkdir()
    init_db_dir(folder, 1)
    return str(folder)


@contextmanager
def running(task: Task) -> Iterator[subprocess.Popen[str]]:
    flow = subprocess.Popen(
        [sys.executable, str(FLOW), json.dumps(asdict(task))],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield flow
    finally:
        flow.kill()
        flow.communicate()


def run(task: Task) -> tuple[int, str]:
    """Exit code, and what it said."""
    with running(task) as flow:
        said = flow.communicate(timeout=120)[1]
        return flow.returncode, said


@WRITERS
def test_killed_at_random_moments_every_record_is_there_once_and_in_order(
    broker: KafkaBroker, topics: str, tmp_path: Path, transactional_id: str | None
) -> None:
    place = recovery(tmp_path / "recovery")
    endless = Task(broker.bootstrap, topics, place, 1_000_000, transactional_id)
    reached = 0
    for _ in range(8):
        with running(endless) as flow:
            while (now := len(messages(broker, topics, TOPICS[1]))) <= reached:
                assert flow.poll() is None, flow.communicate()[1]
            reached = now
            time.sleep(random.random() / 2)
            flow.kill()
    until = len(messages(broker, topics, TOPICS[1])) + 2000
    assert run(Task(broker.bootstrap, topics, place, until, transactional_id))[0] == 0
    assert written(broker, topics) == each_once(until)


@WRITERS
@pytest.mark.parametrize("at", POINTS)
def test_killed_at_a_point_of_a_write_every_record_is_there_once_and_in_order(
    broker: KafkaBroker, topics: str, tmp_path: Path, at: str, transactional_id: str | None
) -> None:
    if transactional_id is None and at == "after commit":
        pytest.skip("nothing is committed")
    place = recovery(tmp_path / "recovery")
    for write in (1, 2, 30):
        task = Task(broker.bootstrap, topics, place, 1000, transactional_id, at, write)
        assert run(task)[0] == -signal.SIGKILL
        if transactional_id is not None:
            wait_until_pairs_are_whole(broker, topics)
    assert run(Task(broker.bootstrap, topics, place, 1000, transactional_id))[0] == 0
    assert written(broker, topics) == each_once(1000)


def wait_until_pairs_are_whole(broker: KafkaBroker, prefix: str) -> None:
    """The end of a transaction reaches its topics one after the other; it does reach all."""
    for _ in range(50):
        found = written(broker, prefix)
        if found[TOPICS[0]] == found[TOPICS[1]]:
            return
        time.sleep(0.1)
    pytest.fail(f"one topic shows {len(found[TOPICS[0]])} pairs, the other {len(found[TOPICS[1]])}")


@pytest.mark.parametrize("at", POINTS[:3])
def test_a_writer_that_was_stopped_gets_nothing_through_after_a_new_copy(
    broker: KafkaBroker, topics: str, tmp_path: Path, at: str
) -> None:
    old = Task(
        broker.bootstrap,
        topics,
        recovery(tmp_path / "old"),
        1_000_000,
        at=at,
        write=20,
        with_signal=signal.SIGSTOP,
    )
    with running(old) as flow:
        state = Path(f"/proc/{flow.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            assert flow.poll() is None, flow.communicate()[1]
            time.sleep(0.05)
        new = Task(broker.bootstrap, topics, recovery(tmp_path / "new"), 1500)
        assert run(new)[0] == 0
        flow.send_signal(signal.SIGCONT)
        said = flow.communicate(timeout=60)[1]
    assert flow.returncode > 0
    assert "another copy with transactional id writer has taken over; this one stops" in said
    assert written(broker, topics) == each_once(1500)


@WRITERS
def test_a_fresh_recovery_directory_doubles_nothing_that_is_there(
    broker: KafkaBroker, topics: str, tmp_path: Path, transactional_id: str | None
) -> None:
    for name, until in (("first", 500), ("second", 1200)):
        place = recovery(tmp_path / name)
        assert run(Task(broker.bootstrap, topics, place, until, transactional_id))[0] == 0
        assert written(broker, topics) == each_once(until)


# --- a broker that is away


@pytest.fixture
def short_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "TRANSACTION_SECONDS", 2)


def away(broker: KafkaBroker, seconds: float) -> threading.Thread:
    """The broker is gone from now on, for some time."""
    broker.stop()
    back = threading.Thread(target=lambda: (time.sleep(seconds), broker.start()))
    back.start()
    return back


def write_as_a_flow_does(broker: KafkaBroker, prefix: str, part: sinks._Numbered, k: int) -> sinks._Numbered:
    """Write; where that stops the flow, start again from the snapshot and write again."""
    snapshot = part.snapshot()
    try:
        part.write_batch([pair(k)])
    except KafkaProblem:
        part = build(broker, prefix, snapshot, transactional_id=part.sink.transactional_id)
        part.write_batch([pair(k)])
    return part


@WRITERS
@pytest.mark.usefixtures("short_transactions")
def test_a_broker_away_for_longer_than_a_message_may_take_loses_and_doubles_nothing(
    broker: KafkaBroker, topics: str, transactional_id: str | None
) -> None:
    part = build(broker, topics, transactional_id=transactional_id)
    part.write_batch([pair(0)])
    back = away(broker, 5)
    part = write_as_a_flow_does(broker, topics, part, 1)
    back.join()
    part = write_as_a_flow_does(broker, topics, part, 2)
    assert written(broker, topics) == each_once(3)


@pytest.mark.usefixtures("short_transactions")
def test_a_broker_away_between_delivery_and_commit_loses_and_doubles_nothing(
    broker: KafkaBroker, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    class CutOff(Producer):
        def commit_transaction(self, *args: Any) -> None:
            if not threads:
                threads.append(away(broker, 5))
            super().commit_transaction(*args)

    monkeypatch.setattr(sinks, "Producer", CutOff)
    part = build(broker, topics)
    for k in range(3):
        part = write_as_a_flow_does(broker, topics, part, k)
    threads[0].join()
    assert written(broker, topics) == each_once(3)


@pytest.mark.usefixtures("short_transactions")
def test_a_writer_whose_transaction_ran_out_stops_and_continues_from_its_snapshot(
    broker: KafkaBroker, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Producer):
        def commit_transaction(self, *args: Any) -> None:
            # The transaction has been aborted once a reader gets past it.
            while end(broker, topics, "read_committed") < end(broker, topics, "read_uncommitted"):
                time.sleep(0.2)
            super().commit_transaction(*args)

    monkeypatch.setattr(sinks, "Producer", Slow)
    part = build(broker, topics)
    with pytest.raises(KafkaProblem, match=r"stood still for more than 2 s: start it again"):
        part.write_batch([pair(0)])
    monkeypatch.setattr(sinks, "Producer", Producer)
    build(broker, topics, part.snapshot()).write_batch([pair(0)])
    assert written(broker, topics) == each_once(1)


def end(broker: KafkaBroker, prefix: str, isolation: str) -> int:
    """The end of the first topic for such a reader."""
    consumer = Consumer({**settings(broker.bootstrap), "group.id": "test", "isolation.level": isolation})
    place = TopicPartition(prefix + TOPICS[0], 0)
    high = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.close()
    return high


# --- reading back


@WRITERS
def test_reading_back_goes_on_where_the_topics_end(
    broker: KafkaBroker, topics: str, transactional_id: str | None
) -> None:
    first = build(broker, topics, transactional_id=transactional_id)
    fresh = first.snapshot()
    first.write_batch([pair(0), pair(1)])
    first.write_batch([pair(2)])
    for snapshot in (None, fresh, first.snapshot()):
        again = build(broker, topics, snapshot, transactional_id=transactional_id)
        assert again.sequence == 6
        assert again.offsets == {topic: end(broker, topics, "read_uncommitted") for topic in TOPICS}
        again.write_batch([pair(k) for k in range(3)])
    again.write_batch([pair(2), pair(3)])
    assert written(broker, topics) == each_once(4)


def test_what_a_dead_writer_left_open_does_not_count(broker: KafkaBroker, topics: str) -> None:
    dead = Producer({**settings(broker.bootstrap), "transactional.id": f"{topics}writer"})
    dead.init_transactions()
    dead.begin_transaction()
    dead.produce(topics + TOPICS[0], b"0", b"key", 0, headers={"sequence": b"0"})
    dead.flush()
    part = build(broker, topics)
    assert part.sequence == 0
    part.write_batch([pair(0)])
    assert written(broker, topics) == each_once(1)


def test_reading_back_waits_for_an_open_transaction_that_hides_own_records(
    broker: KafkaBroker, topics: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = build(broker, topics)
    other = Producer({**settings(broker.bootstrap), "transactional.id": f"{topics}other"})
    other.init_transactions()
    other.begin_transaction()
    other.produce(topics + TOPICS[0], b"x", b"key", 0)
    other.produce(topics + TOPICS[1], b"x", b"key", 0)
    other.flush()
    own.write_batch([pair(0)])
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(build(broker, topics).sequence))
    thread.start()
    while "waits for the end of another writer's transaction" not in caplog.text:
        assert thread.is_alive()
        time.sleep(0.05)
    other.abort_transaction()
    thread.join()
    assert found == [2]


def test_messages_of_others_are_passed_over(broker: KafkaBroker, topics: str) -> None:
    box = Outbox([Outgoing(TOPICS[0], b"key", b"slice")])
    JournalSink(settings(broker.bootstrap), topics, 0, on_written=lambda _: None).build(
        "out", 0, 1
    ).write_batch([box, box])
    part = build(broker, topics, transactional_id=None)
    assert part.sequence == 0
    assert part.offsets == {TOPICS[0]: 2, TOPICS[1]: 0}


def trim(broker: KafkaBroker, prefix: str, offset: int) -> None:
    admin = AdminClient(settings(broker.bootstrap))
    for trimmed in admin.delete_records([TopicPartition(prefix + TOPICS[0], 0, offset)]).values():
        trimmed.result()


def test_reading_back_begins_at_the_snapshot(broker: KafkaBroker, topics: str) -> None:
    part = build(broker, topics)
    part.write_batch([pair(0)])
    snapshot = part.snapshot()
    trim(broker, topics, snapshot["offsets"][TOPICS[0]])
    assert build(broker, topics, snapshot).sequence == 2


def test_a_snapshot_before_the_beginning_of_a_topic_is_refused(broker: KafkaBroker, topics: str) -> None:
    part = build(broker, topics)
    snapshot = part.snapshot()
    part.write_batch([pair(0)])
    trim(broker, topics, 1)
    with pytest.raises(KafkaProblem, match=r"orders \[0\]: this topic is not the one"):
        build(broker, topics, snapshot)


def test_a_snapshot_of_other_topics_is_refused(broker: KafkaBroker, topics: str) -> None:
    part = build(broker, topics)
    part.write_batch([pair(0)])
    snapshot = {**part.snapshot(), "sequence": 20, "offsets": {}}
    with pytest.raises(KafkaProblem, match=r"this topic is not the one .*: sequence [01] at offset 0"):
        build(broker, topics, snapshot)


def test_a_snapshot_of_somebody_else_is_refused(broker: KafkaBroker, topics: str) -> None:
    snapshot = build(broker, topics).snapshot()
    with pytest.raises(KafkaProblem, match="the recovery directory is of test, and this is other"):
        build(broker, topics, snapshot, identity="other")


def test_a_topic_that_is_not_there_is_named(broker: KafkaBroker, prefix: str) -> None:
    with pytest.raises(KafkaProblem, match=r"orders \[0\].* cannot be read back: .*topics ensure"):
        build(broker, prefix)


# --- writing


def test_a_hole_is_refused_and_nothing_of_the_batch_is_written(broker: KafkaBroker, topics: str) -> None:
    part = build(broker, topics)
    with pytest.raises(KafkaProblem, match="orders: sequence 4 where 2 is due"):
        part.write_batch([pair(0), pair(2)])
    assert written(broker, topics) == each_once(0)


def test_records_of_a_batch_appear_together(
    broker: KafkaBroker, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, list[int]]] = []

    class Watched(Producer):
        def commit_transaction(self, *args: Any) -> None:
            assert all(messages(broker, topics, topic, "read_uncommitted") for topic in TOPICS)
            seen.append(written(broker, topics))
            super().commit_transaction(*args)

    monkeypatch.setattr(sinks, "Producer", Watched)
    build(broker, topics).write_batch([pair(0), pair(1)])
    assert seen == [each_once(0)]
    assert written(broker, topics) == each_once(2)


@WRITERS
def test_what_the_broker_refuses_raises_and_names_the_topic(
    broker: KafkaBroker, topics: str, transactional_id: str | None
) -> None:
    generous = sink(broker, topics, transactional_id=transactional_id)
    generous.settings["message.max.bytes"] = 10_000_000
    part = generous.build_part("out", "00000", None)
    too_large = Outgoing(TOPICS[1], b"key", bytes(2_000_000), 1)
    with pytest.raises(KafkaProblem, match=r"decisions: .*size too large"):
        part.write_batch([Outbox([pair(0).records[0], too_large])])


def test_written_outboxes_are_told_of_after_they_are_confirmed(broker: KafkaBroker, topics: str) -> None:
    told: list[tuple[Outbox, int]] = []

    def on_written(box: Outbox) -> None:
        told.append((box, len(messages(broker, topics, TOPICS[0]))))

    part = build(broker, topics, on_written=on_written)
    part.write_batch([pair(0), pair(1)])
    part.write_batch([pair(1)])
    assert told == [(pair(0), 2), (pair(1), 2), (pair(1), 2)]


def test_nothing_to_write_needs_no_transaction(broker: KafkaBroker, topics: str) -> None:
    part = build(broker, topics)
    part.write_batch([Outbox([])])
    assert part.snapshot() == {"identity": "test", "offsets": dict.fromkeys(TOPICS, 0), "sequence": 0}
    assert end(broker, topics, "read_uncommitted") == 0


def test_the_journal_sink_returns_when_all_is_there_in_order(broker: KafkaBroker, topics: str) -> None:
    told: list[Outbox] = []
    part = JournalSink(settings(broker.bootstrap), topics, 0, on_written=told.append).build("out", 0, 1)
    boxes = [Outbox([Outgoing(TOPICS[0], b"a", b"%d" % k)]) for k in range(3000)]
    part.write_batch(boxes)
    found = messages(broker, topics, TOPICS[0])
    assert [message.value() for message in found] == [b"%d" % k for k in range(3000)]
    assert [message.offset() for message in found] == list(range(3000))
    assert {(message.key(), message.headers()) for message in found} == {(b"a", None)}
    assert told == boxes


def test_the_journal_sink_waits_for_a_broker_that_is_away(broker: KafkaBroker, topics: str) -> None:
    part = JournalSink(settings(broker.bootstrap), topics, 0, on_written=lambda _: None).build("out", 0, 1)
    back = away(broker, 3)
    part.write_batch([Outbox([Outgoing(TOPICS[0], b"a", b"%d" % k) for k in range(100)])])
    back.join()
    assert [int(message.value()) for message in messages(broker, topics, TOPICS[0])] == list(range(100))


def test_the_journal_sink_raises_what_the_broker_refuses(broker: KafkaBroker, topics: str) -> None:
    own = {**settings(broker.bootstrap), "message.max.bytes": 10_000_000}
    part = JournalSink(own, topics, 0, on_written=lambda _: None).build("out", 0, 1)
    with pytest.raises(KafkaProblem, match=r"orders: .*size too large"):
        part.write_batch([Outbox([Outgoing(TOPICS[0], b"a", bytes(2_000_000))])])
