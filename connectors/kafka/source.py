"""The one input of a live flow: topics of Kafka through one consumer, and the clock that goes with it.

Out: what `decode` makes of the messages, and one item for each tick of the clock that passes. Order holds
within a partition, and nowhere else. State: the next offset of every partition, and the last tick. A message
counts as read once it was handed on, so after a restart everything behind the snapshot comes again, in order.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import monotonic, time_ns
from typing import Any, Generic, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.client import KafkaProblem
from schemas.topics import JOURNAL

Item = TypeVar("Item")
Place = tuple[str, int]  # topic without prefix, partition
Gone = Callable[[str, Place, int, str], KafkaProblem]  # of prefix, place, offset and why

MESSAGES = 1_000  # most messages of a poll: a call stays below a few milliseconds
HELD_MESSAGES = 10_000  # most messages that wait for another topic, before their topic is paused
ANSWER_SECONDS = 10.0
ENDS_SECONDS = 1.0
COUNTERS_SECONDS = 1.0

# A poll that finds nothing waits this long for a message, and takes it as it comes. Longer is no way to save
# work: every other worker, and what this one has under way, waits with it.
WAIT_SECONDS = 0.001

READING = {
    "group.id": "sluice",  # the library wants one; no group is joined, and no offset is kept at the broker
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # else a reader whose offset is gone jumps without a word
    "isolation.level": "read_committed",
    # Transaction markers take offsets that no message has: only this event tells that the end is reached.
    "enable.partition.eof": True,
    "check.crcs": True,
}
# Short of an event, the end is reported after a fetch that found nothing. `until_ordered` waits for it.
QUICK_END = {"fetch.wait.max.ms": 10}

# These come and go with a broker; the fetch is repeated at the same offset. Any other error of a partition
# could pass over a message, or never end.
TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN,
    }
)

log = logging.getLogger("sluice.kafka")


@dataclass(frozen=True, slots=True)
class Polled:
    """Consecutive messages of one partition, at least one; the topic is named without prefix."""

    topic: str
    partition: int
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Clock(Generic[Item]):
    """Ticks at the multiples of `tick_ns` of wall time; `emit` makes an item of such a time (nanoseconds)."""

    tick_ns: int
    emit: Callable[[int], Item]

    def newest(self) -> int:
        """The last multiple that has passed."""
        return time_ns() // self.tick_ns * self.tick_ns


class KafkaSource(FixedPartitionedSource[Item, dict[str, Any]]):
    """One part with one consumer, whatever the number of topics, partitions and workers.

    Counters, for metrics, in the process in which the part was built: `polls`; `messages` handed on, by
    topic; `positions` (next offset) and `high_watermarks` by topic and partition; `newest_ms`, the timestamp
    of the newest message in milliseconds (the largest over the partitions), 0 before the first; `epochs`
    that have ended, the seconds in which nothing was read for that, `stalled`, and the most of one,
    `longest_stall`.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        prefix: str,
        topics: Mapping[str, Sequence[int]],
        decode: Callable[[Polled], Iterable[Item]],
        *,
        identity: str,
        clock: Clock[Item] | None,
        stop: Event,
        until_ordered: tuple[str, str] | None = None,
        until_end: bool = False,
    ):
        """`settings`: of the client. `topics`: the partitions to read, by topic. `identity`: a snapshot that
        was written under another one is refused.

        `stop` ends the source at its next call, `until_end` when every partition has reached the end it had
        at the start; what was appended later is not handed on then.

        `until_ordered` names two topics: before messages of the first come all messages of the second that
        were published before them, one `Polled` a partition.
        """
        self.settings = settings
        self.prefix = prefix
        self.topics = topics
        self.decode = decode
        self.identity = identity
        self.clock = clock
        self.stop = stop
        self.until_ordered = until_ordered
        self.until_end = until_end
        self.polls = 0
        self.messages = dict.fromkeys(topics, 0)
        self.positions: dict[Place, int] = {}
        self.high_watermarks: dict[Place, int] = {}
        self.newest_ms = 0
        self.epochs = 0
        self.stalled = 0.0
        self.longest_stall = 0.0

    @property
    def places(self) -> list[Place]:
        return [(topic, partition) for topic, partitions in self.topics.items() for partition in partitions]

    def list_parts(self) -> list[str]:
        return ["kafka"]

    def build_part(
        self,
        step_id: str,  # noqa: ARG002 - the form Bytewax calls
        for_part: str,  # noqa: ARG002
        resume_state: dict[str, Any] | None,
    ) -> "_Part[Item]":
        """Raises `KafkaProblem` where reading cannot go on exactly where the snapshot left it."""
        saved, tick_ns = self._saved(resume_state)
        quick = QUICK_END if self.until_ordered else {}
        consumer = Consumer({**self.settings, **READING, **quick})
        try:
            marks = watermarks(consumer, self.prefix, self.topics)
            starts = {place: _start(self.prefix, place, saved.get(place), *marks[place]) for place in marks}
            consumer.assign([TopicPartition(self.prefix + t, p, starts[t, p]) for t, p in starts])
        except BaseException:
            consumer.close()
            raise
        self.positions = dict(starts)
        self.high_watermarks = {place: high for place, (_, high) in marks.items()}
        return _Part(self, consumer, starts, tick_ns)

    def _saved(self, state: dict[str, Any] | None) -> tuple[dict[Place, int], int | None]:
        """Next offsets and last tick of a snapshot."""
        if state is None:
            return {}, None
        if state["identity"] != self.identity:
            raise KafkaProblem(
                f"the recovery snapshot was written for {state['identity']!r}, this flow is "
                f"{self.identity!r}; run it with the configuration of the snapshot, or start anew with an "
                f"empty recovery directory"
            )
        saved = {(topic, p): offset for topic, of in state["offsets"].items() for p, offset in of.items()}
        gone = sorted(saved.keys() - set(self.places))
        if gone:
            raise KafkaProblem(
                f"the recovery snapshot has read {place_name(self.prefix, gone[0])}, which is not among the "
                f"partitions of this flow any more; give it back in section [kafka], or start anew with an "
                f"empty recovery directory"
            )
        return saved, state["tick_ns"]


class _Part(StatefulSourcePartition[Item, dict[str, Any]]):
    def __init__(
        self, source: KafkaSource[Item], consumer: Consumer, starts: dict[Place, int], tick_ns: int | None
    ):
        self.source = source
        self.consumer = consumer
        self.read = dict(starts)  # next offsets of what was polled; `source.positions`: of what was handed on
        self.places: dict[tuple[str | None, int | None], Place] = {
            (source.prefix + topic, partition): (topic, partition) for topic, partition in starts
        }
        self.ends = dict(source.high_watermarks) if source.until_end else {}
        self.ordering = _Ordering(source, consumer) if source.until_ordered else None
        self.tick_ns = tick_ns
        self.idle = False
        self.counted = monotonic()
        self.epoch_ended: float | None = None

    def next_batch(self) -> list[Item]:
        source = self.source
        if source.stop.is_set() or self._ended():
            raise StopIteration
        if self.epoch_ended is not None:
            self._count_epoch(monotonic() - self.epoch_ended)
        source.polls += 1
        polled = self._poll()
        self.idle = not polled
        if self.ordering is not None:
            polled = self.ordering.passed(polled, self.read)
        items = [item for part in polled for item in source.decode(part)]
        items += self._tick()
        self._count(polled)
        return items

    def _ended(self) -> bool:
        """Whether a reader of a bounded input has handed on all of it."""
        if not self.source.until_end or any(self.read[place] < end for place, end in self.ends.items()):
            return False
        return self.ordering is None or self.ordering.empty

    def _poll(self) -> list[Polled]:
        """What the consumer has ready, by partition. What the last poll found is on its way through the graph
        at once; only then a poll waits.
        """
        found: dict[tuple[str | None, int | None], list[Message]] = defaultdict(list)
        first = self.consumer.poll(WAIT_SECONDS if self.idle else 0)
        for message in () if first is None else (first, *self.consumer.consume(MESSAGES - 1, timeout=0)):
            error = message.error()
            if error is None:
                found[message.topic(), message.partition()].append(message)
            else:
                self._event(message, error)
        polled = []
        for key, messages in found.items():
            place = self.places[key]
            wanted = self._advance(place, _offset(messages[-1]) + 1, messages)
            if wanted:
                polled.append(Polled(*place, wanted))
        return polled

    def _advance(self, place: Place, offset: int, messages: list[Message]) -> list[Message]:
        """All before `offset` has been read. Returns the messages that belong to this run."""
        end = self.ends.get(place)
        if end is not None and offset > end:
            messages = [message for message in messages if _offset(message) < end]
            offset = end
        self.read[place] = max(self.read[place], offset)
        return messages

    def _event(self, message: Message, error: KafkaError) -> None:
        """Something other than a message. Raises `KafkaProblem` where reading cannot go on without a gap."""
        place = self.places.get((message.topic(), message.partition()))
        if place is not None and error.code() == KafkaError._PARTITION_EOF:
            self._advance(place, _offset(message), [])
        else:
            refuse_gap(error, self.source.prefix, place, self.read[place] if place else 0)

    def _tick(self) -> list[Item]:
        """The newest tick, when one has passed. Those missed while nothing ran are not made up."""
        clock = self.source.clock
        if clock is None:
            return []
        newest = clock.newest()
        if self.tick_ns is None:
            self.tick_ns = newest
        if newest <= self.tick_ns:
            return []
        self.tick_ns = newest
        return [clock.emit(newest)]

    def _count(self, polled: list[Polled]) -> None:
        """Note what is handed on now, for the snapshot and for metrics."""
        source = self.source
        for part in polled:
            last = part.messages[-1]
            source.positions[part.topic, part.partition] = _offset(last) + 1
            source.messages[part.topic] += len(part.messages)
            source.newest_ms = max(source.newest_ms, last.timestamp()[1])
        if self.ordering is None or self.ordering.empty:
            source.positions.update(self.read)
        if (now := monotonic()) - self.counted >= COUNTERS_SECONDS:
            self.counted = now
            for topic, partition in self.read:
                where = TopicPartition(source.prefix + topic, partition)
                _, high = self.consumer.get_watermark_offsets(where, cached=True)
                if high >= 0:  # unknown before the first fetch
                    source.high_watermarks[topic, partition] = high

    def _count_epoch(self, stall: float) -> None:
        source, self.epoch_ended = self.source, None
        source.epochs += 1
        source.stalled += stall
        source.longest_stall = max(source.longest_stall, stall)

    def next_awake(self) -> datetime:
        """At once: a poll waits by itself."""
        return datetime.now(UTC)

    def snapshot(self) -> dict[str, Any]:
        """Asked for at the end of an epoch; the next call for messages comes when every step has said its
        own.
        """
        self.epoch_ended = monotonic()
        offsets: dict[str, dict[int, int]] = {}
        for (topic, partition), offset in self.source.positions.items():
            offsets.setdefault(topic, {})[partition] = offset
        return {"identity": self.source.identity, "offsets": offsets, "tick_ns": self.tick_ns}

    def close(self) -> None:
        self.consumer.close()
        if self.ordering is not None:
            self.ordering.close()


class _Ordering:
    """Holds messages of the first topic until all of the second that were published before them are there.

    The end of the second topic is asked for after the messages of the first have come: what lies before that
    end is all that could have been published before them. A transaction that is open then is waited for.
    Messages of the first that come meanwhile wait for an end of their own.
    """

    def __init__(self, source: KafkaSource[Any], consumer: Consumer):
        assert source.until_ordered is not None
        self.first, self.second = source.until_ordered
        self.source = source
        self.consumer = consumer
        # On a connection of its own: behind a fetch that waits for messages the answer would wait, too.
        # The end with open transactions: a commit is confirmed to its writer before its messages are visible.
        self.asker = Consumer({**source.settings, **READING, "isolation.level": "read_uncommitted"})
        self.ends: dict[Place, int] | None = None
        self.ahead: dict[Place, list[Message]] = {}  # of the first topic, wait for `ends`
        self.later: dict[Place, list[Message]] = {}  # of the first topic, came after `ends` was asked for
        self.behind: dict[Place, list[Message]] = {}  # of the second topic
        self.paused = False

    @property
    def empty(self) -> bool:
        return not (self.ahead or self.later or self.behind)

    def passed(self, polled: list[Polled], read: Mapping[Place, int]) -> list[Polled]:
        """What may be handed on now."""
        passed = [part for part in polled if part.topic not in (self.first, self.second)]
        for part in polled:
            if part.topic == self.first:
                self._hold(self.ahead if self.ends is None else self.later, part)
            elif part.topic == self.second:
                self._hold(self.behind, part)
        if self.ahead and self.ends is None:
            self.ends = self._ask()
        ready = not self.ahead or (
            self.ends is not None and all(read[place] >= end for place, end in self.ends.items())
        )
        if ready or _held(self.behind) >= HELD_MESSAGES:
            passed += [Polled(*place, messages) for place, messages in self.behind.items()]
            self.behind = {}
        if ready:
            passed += [Polled(*place, messages) for place, messages in self.ahead.items()]
            self.ahead, self.later, self.ends = self.later, {}, None
        self._pause(_held(self.ahead) + _held(self.later) >= HELD_MESSAGES)
        return passed

    @staticmethod
    def _hold(held: dict[Place, list[Message]], part: Polled) -> None:
        held.setdefault((part.topic, part.partition), []).extend(part.messages)

    def _ask(self) -> dict[Place, int] | None:
        """Ends of the second topic now; None where no broker answers, who is asked again then."""
        topics = self.source.topics
        self.asker.poll(0)  # it has no messages, only logs
        try:
            return {
                (self.second, partition): self.asker.get_watermark_offsets(
                    TopicPartition(self.source.prefix + self.second, partition), timeout=ENDS_SECONDS
                )[1]
                for partition in topics[self.second]
            }
        except KafkaException as exception:
            log.warning("the end of %s is unknown, asked again: %s", self.second, exception.args[0].str())
            return None

    def _pause(self, full: bool) -> None:
        """What waits is bounded: a backlog of the first topic stays at the broker."""
        if full == self.paused:
            return
        places = [
            TopicPartition(self.source.prefix + self.first, partition)
            for partition in self.source.topics[self.first]
        ]
        (self.consumer.pause if full else self.consumer.resume)(places)
        self.paused = full

    def close(self) -> None:
        self.asker.close()


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _held(held: Mapping[Place, list[Message]]) -> int:
    return sum(len(messages) for messages in held.values())


def place_name(prefix: str, place: Place) -> str:
    return f"topic {prefix}{place[0]} partition {place[1]}"


def gone_error(prefix: str, place: Place, offset: int, why: str) -> KafkaProblem:
    return KafkaProblem(
        f"{place_name(prefix, place)} cannot continue at offset {offset} ({why}): messages that were not "
        f"read yet are gone, or the topic was made anew. Give back its data, or start anew with an empty "
        f"recovery directory; a longer retention.ms of the topic keeps messages until they are read"
    )


def refuse_gap(
    error: KafkaError, prefix: str, place: Place | None, offset: int, gone: Gone = gone_error
) -> None:
    """Judge what a consumer tells besides messages and ends: about a place, at its next offset, or about none
    of ours. Raises `KafkaProblem` where reading cannot go on without a gap, `gone` where the offset is gone.
    """
    if place is None:
        if error.fatal():
            raise KafkaProblem(f"the consumer cannot go on: {error.str()}")
    elif error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise gone(prefix, place, offset, error.str())
    elif error.code() not in TRANSIENT:
        where = f"{place_name(prefix, place)} cannot be read on at offset {offset}"
        raise KafkaProblem(f"{where}: {error.str()}")
    log.warning("reading goes on after: %s", error.str())


def _start(prefix: str, place: Place, saved: int | None, low: int, high: int) -> int:
    """The offset to begin with. Raises `KafkaProblem` where something before it would be missing."""
    if saved is not None:
        if not low <= saved <= high:
            raise gone_error(prefix, place, saved, f"it holds {low} to {high}")
        return saved
    if place[0] == JOURNAL and low > 0:
        raise KafkaProblem(
            f"{place_name(prefix, place)} is trimmed: it begins at offset {low}, and an account is made of "
            f"all its records. Continue with the recovery directory that has read them, or with a new "
            f"journal (another [kafka] prefix); set retention.ms=-1 for this topic"
        )
    return low


def watermarks(
    consumer: Consumer, prefix: str, topics: Mapping[str, Sequence[int]]
) -> dict[Place, tuple[int, int]]:
    """First offset and end of every partition; an open transaction lies behind the end."""
    marks = {}
    for topic, partitions in topics.items():
        name = prefix + topic
        try:
            known = consumer.list_topics(name, timeout=ANSWER_SECONDS).topics[name]
            if known.error is not None:
                raise KafkaProblem(f"topic {name} cannot be read: {known.error.str()}; see [kafka] prefix")
            for partition in partitions:
                if partition not in known.partitions:
                    raise KafkaProblem(
                        f"topic {name} has no partition {partition}, it has {len(known.partitions)}; see the "
                        f"numbers of partitions in section [kafka]"
                    )
                where = TopicPartition(name, partition)
                marks[topic, partition] = consumer.get_watermark_offsets(where, timeout=ANSWER_SECONDS)
        except KafkaException as exception:
            raise KafkaProblem(
                f"the broker does not tell the offsets of topic {name}: {exception.args[0].str()}; "
                f"see [kafka] bootstrap_servers"
            ) from None
    return marks
