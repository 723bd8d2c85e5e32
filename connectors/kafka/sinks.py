"""Records that leave for Kafka.

`ExactlyOnceSink` writes numbered records, each once, whatever dies and comes back: what one batch brings is
one transaction, a new copy fences the one before it, then reads back what is there and drops what is not
newer. `JournalSink` writes at least once, for readers that know duplicates by content. Both return from a
batch only when the broker has confirmed all of it. Anything else raises, so that the epoch is not committed;
started again, the flow continues from the snapshot: there is no other way to recover.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from bytewax.outputs import DynamicSink, FixedPartitionedSink, StatefulSinkPartition, StatelessSinkPartition
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from connectors.kafka.client import KafkaProblem, logger
from connectors.kafka.source import READING

SEQUENCE = "sequence"
TRY_SECONDS = 5.0  # for one call to a broker that may be away; then the call is made again
LEADER_SECONDS = 5.0
READ_SECONDS = 0.05  # it waits for this long also where the end has been reached
TRANSACTION_SECONDS = 60  # a writer that stands still for longer has lost its transaction
FOREIGN = "this topic is not the one that this recovery directory was written with"
Settings = dict[str, Any]
Snapshot = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message. `topic` is without prefix. `sequence`: 0, 1, 2... over all topics of one writer."""

    topic: str
    key: bytes
    value: bytes
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Outbox:
    """Messages, by sequence."""

    records: list[Outgoing]


Written = Callable[[Outbox], None]


class ExactlyOnceSink(FixedPartitionedSink[Outbox, Snapshot]):
    """One partition number of one or more topics, of which this is the only writer of numbered records.

    Without `transactional_id` nothing fences an older copy and no transaction markers leave holes between
    offsets. `on_written` is called after each confirmed outbox, also where all of it was there before.
    """

    def __init__(
        self,
        settings: Settings,
        prefix: str,
        topics: Sequence[str],
        partition: int,
        *,
        transactional_id: str | None,
        identity: str,
        on_written: Written,
    ) -> None:
        self.settings = settings
        self.prefix = prefix
        self.topics = topics
        self.partition = partition
        self.transactional_id = transactional_id
        self.identity = identity
        self.on_written = on_written

    def list_parts(self) -> list[str]:
        return [f"{self.partition:05d}"]

    def part_fn(self, item_key: str) -> int:  # noqa: ARG002 - there is one
        return 0

    def build_part(
        self,
        step_id: str,  # noqa: ARG002 - the form Bytewax calls
        for_part: str,  # noqa: ARG002
        resume_state: Snapshot | None,
    ) -> "_Numbered":
        return _Numbered(self, resume_state)


class JournalSink(DynamicSink[Outbox]):
    """Messages for one partition number, without sequences."""

    def __init__(self, settings: Settings, prefix: str, partition: int, *, on_written: Written) -> None:
        self.settings = settings
        self.prefix = prefix
        self.partition = partition
        self.on_written = on_written

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Unnumbered":  # noqa: ARG002
        return _Unnumbered(self)


class _Writer:
    """A producer whose writes are confirmed. Raises `KafkaProblem`."""

    def __init__(self, sink: ExactlyOnceSink | JournalSink, transactional_id: str | None) -> None:
        self.prefix = sink.prefix
        self.partition = sink.partition
        self.transactional_id = transactional_id
        # As many messages as a batch has; a message given up and written again could be there twice.
        ours: Settings = {
            "enable.idempotence": True,
            "queue.buffering.max.messages": 0,
            "message.timeout.ms": 0,
        }
        if transactional_id is not None:
            milliseconds = TRANSACTION_SECONDS * 1000
            ours |= {"transactional.id": transactional_id, "transaction.timeout.ms": milliseconds}
            ours["message.timeout.ms"] = milliseconds
        with self._problems():
            self.producer = Producer(sink.settings | ours)
            if transactional_id is not None:
                self._insist(self.producer.init_transactions)

    def write(self, records: list[Outgoing]) -> dict[str, int]:
        """All or, in transactions, nothing. The next offset by topic."""
        with self._problems():
            if self.transactional_id is None:
                return self._deliver(records)
            self.producer.begin_transaction()
            try:
                ends = self._deliver(records)
            except KafkaException:
                self._insist(self.producer.abort_transaction)  # says so, where a newer copy is the cause
                raise
            self._insist(self.producer.commit_transaction)
            return ends

    def _deliver(self, records: list[Outgoing]) -> dict[str, int]:
        ends: dict[str, int] = {}
        errors: list[KafkaError] = []

        def report(error: KafkaError | None, message: Message) -> None:
            topic, offset = message.topic(), message.offset()
            if error is not None:
                errors.append(KafkaError(error.code(), f"{topic}: {error.str()}"))
            elif topic is not None and offset is not None:
                ends[topic.removeprefix(self.prefix)] = offset + 1

        for record in records:
            topic = self.prefix + record.topic
            headers: dict[str, str | bytes | None] = {}
            if record.sequence is not None:
                headers[SEQUENCE] = b"%d" % record.sequence
            self.producer.produce(topic, record.value, record.key, self.partition, report, headers=headers)
        try:
            while self.producer.flush(TRY_SECONDS):
                pass  # the client's callbacks, which are called in there, say that no broker answers
        except SystemError as error:  # a delivery was reported while a fatal error was being raised
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from None
            raise
        if errors:
            raise KafkaException(errors[0])
        return ends

    def _insist(self, call: Callable[[float], None]) -> None:
        """Call until there is an answer. A commit without one may have happened: only the same call tells."""
        while True:
            try:
                return call(TRY_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self.producer.poll(0)  # for the client's callbacks

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            why: KafkaError = error.args[0]
            if why.code() != KafkaError._FENCED:
                raise KafkaProblem(
                    f"Kafka did not take a record for partition {self.partition}: {why.str()}. This stops; "
                    f"started again, it continues where it was"
                ) from None
            # Not on with a new producer: that would fence, in its turn, the copy that has taken over.
            raise KafkaProblem(
                f"another copy with transactional id {self.transactional_id} has taken over; this one stops, "
                f"and nothing more of it gets through. If there is no other, this one stood still for more "
                f"than {TRANSACTION_SECONDS} s: start it again, it continues where it was"
            ) from None


class _Numbered(StatefulSinkPartition[Outbox, Snapshot]):
    def __init__(self, sink: ExactlyOnceSink, resumed: Snapshot | None) -> None:
        if resumed and resumed["identity"] != sink.identity:
            raise KafkaProblem(
                f"the recovery directory is of {resumed['identity']}, and this is {sink.identity}; use the "
                f"recovery directory of this one, or an empty one"
            )
        self.sink = sink
        self.sequence: int = resumed["sequence"] if resumed else 0  # of the next record
        # First fence, then read: nothing of an older copy comes later, and what it left open is closed.
        self.writer = _Writer(sink, sink.transactional_id)
        self.offsets = self._read_back(resumed["offsets"] if resumed else {})

    def _read_back(self, offsets: dict[str, int]) -> dict[str, int]:
        """Learn the next sequence from what is there since the snapshot, and where each topic ends."""
        sink, snapshot = self.sink, self.sequence
        places = [
            TopicPartition(sink.prefix + topic, sink.partition, offsets.get(topic, OFFSET_BEGINNING))
            for topic in sink.topics
        ]
        needed = self._ends(places)
        ends: dict[str, int] = {}
        consumer = Consumer(sink.settings | READING)
        consumer.assign(places)
        while any(ends.get(name, -1) < end for name, end in needed.items()):
            for message in consumer.consume(1000, READ_SECONDS):
                error, name, offset = message.error(), str(message.topic()), message.offset() or 0
                where = f"{name} [{sink.partition}]"
                if error is None:
                    number = int(dict(message.headers() or ()).get(SEQUENCE) or -1)
                    if 0 <= number < snapshot:
                        raise KafkaProblem(f"{where}: {FOREIGN}: sequence {number} at offset {offset}")
                    self.sequence = max(self.sequence, number + 1)
                    ends[name] = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends[name] = offset
                    if offset < needed[name]:
                        logger.warning("%s: waits for the end of another writer's transaction", where)
                else:
                    gone = f"{FOREIGN}: " if error.code() == KafkaError._AUTO_OFFSET_RESET else ""
                    raise KafkaProblem(f"{where}: {gone}{error.str()}")
        consumer.close()
        return {name.removeprefix(sink.prefix): end for name, end in ends.items()}

    def _ends(self, places: list[TopicPartition]) -> dict[str, int]:
        """Where each topic ends now. What others write from now on is not waited for, as it may never pause;
        what an open transaction of theirs hides is: it may be ours. Markers of transactions count, so the
        last message may stand before the end.
        """
        admin = AdminClient(self.sink.settings)
        deadline = monotonic() + LEADER_SECONDS  # a topic just made has no leader for a moment
        while True:
            asked = admin.list_offsets({place: OffsetSpec.latest() for place in places})
            try:
                return {place.topic: end.result().offset for place, end in asked.items()}
            except KafkaException as error:
                if monotonic() > deadline:
                    names = ", ".join(f"{place.topic} [{place.partition}]" for place in places)
                    raise KafkaProblem(
                        f"{names} cannot be read back: {error.args[0].str()}. Where one is missing, "
                        f"`sluice topics ensure` creates it"
                    ) from None
            sleep(0.1)

    def write_batch(self, values: list[Outbox]) -> None:
        newer: list[Outgoing] = []
        for record in (record for outbox in values for record in outbox.records):
            due = self.sequence + len(newer)
            if record.sequence is None or record.sequence > due:
                raise KafkaProblem(
                    f"{record.topic}: sequence {record.sequence} where {due} is due: what lies between was "
                    f"never written. Use the recovery directory that belongs to these topics, or an empty one"
                )
            if record.sequence == due:
                newer.append(record)
        if newer:
            self.offsets |= self.writer.write(newer)
            self.sequence += len(newer)
        for outbox in values:
            self.sink.on_written(outbox)

    def snapshot(self) -> Snapshot:
        return {"identity": self.sink.identity, "offsets": dict(self.offsets), "sequence": self.sequence}


class _Unnumbered(StatelessSinkPartition[Outbox]):
    def __init__(self, sink: JournalSink) -> None:
        self.sink = sink
        self.writer = _Writer(sink, None)

    def write_batch(self, items: list[Outbox]) -> None:
        self.writer.write([record for outbox in items for record in outbox.records])
        for outbox in items:
            self.sink.on_written(outbox)
