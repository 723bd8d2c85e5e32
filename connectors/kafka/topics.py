"""The topics of a deployment: what they must be, what they are, and how they come to be."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from connectors.kafka.client import KafkaProblem
from schemas import topics
from schemas.config import Kafka

DAY_MS = 86_400_000
FOR_EVER = -1
BARS_DAYS, DEAD_LETTERS_DAYS = 400, 90
ANSWER_SECONDS, ATTEMPT_SECONDS = 30, 0.1
RIGHTS = "and deploy/kafka/README.md says which rights each process needs"
CREATED, THERE, MISSING, DIFFERENT = "created", "there", "missing", "different"

_MOMENTARY = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must be. `retention_ms` -1: its records are kept for ever."""

    name: str
    partitions: int
    retention_ms: int
    cleanup: str = "delete"


@dataclass(frozen=True)
class TopicRow:
    """What a topic is. `records`: offsets from the first that is kept to the end, marks of transactions among
    them. `problems`: what is not as it must be, and what cures it. A topic that is missing has zeros.
    """

    name: str
    state: str
    partitions: int = 0
    replicas: int = 0
    retention_ms: int = 0
    cleanup: str = ""
    records: int = 0
    problems: tuple[str, ...] = ()


def wanted(kafka: Kafka) -> list[TopicSpec]:
    """All topics of a deployment. Those of accounts are the record of what was traded, and never trimmed."""
    accounts = (topics.JOURNAL, topics.ORDERS, topics.DECISIONS, topics.ALERTS)
    return [
        TopicSpec(kafka.prefix + topics.BARS, kafka.bars_partitions, BARS_DAYS * DAY_MS),
        *(TopicSpec(kafka.prefix + name, kafka.account_partitions, FOR_EVER) for name in accounts),
        TopicSpec(kafka.prefix + topics.DEAD_LETTERS, 1, DEAD_LETTERS_DAYS * DAY_MS),
    ]


def listing(kafka: Kafka, admin: AdminClient, names: Collection[str] | None = None) -> list[TopicRow]:
    """The topics as they are, all or those of `names` (without prefix). Raises `KafkaProblem` where the
    brokers do not say.
    """
    specs = wanted(kafka)
    if names is not None:
        specs = [spec for spec in specs if spec.name.removeprefix(kafka.prefix) in names]
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return _listing(kafka, admin, specs)
        except KafkaException as error:
            problem = error.args[0]
        # A topic is known a moment before its leaders are.
        if problem.code() not in _MOMENTARY or time.monotonic() > deadline:
            rights = f", {RIGHTS}" if problem.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else ""
            raise KafkaProblem(f"the topics cannot be listed: {problem.str()}{rights}")
        time.sleep(ATTEMPT_SECONDS)


def _listing(kafka: Kafka, admin: AdminClient, specs: Sequence[TopicSpec]) -> list[TopicRow]:
    known = admin.list_topics(timeout=ANSWER_SECONDS).topics
    there = {spec.name: known[spec.name] for spec in specs if spec.name in known}
    for topic in there.values():
        if topic.error is not None:
            raise KafkaException(topic.error)
    settings = _settings(admin, there)
    records = _records(admin, there)
    return [
        _row(kafka, spec, there[spec.name], settings[spec.name], records[spec.name])
        if spec.name in there
        else TopicRow(spec.name, MISSING)
        for spec in specs
    ]


def require(kafka: Kafka, admin: AdminClient, names: Collection[str] | None = None) -> None:
    """Raises `KafkaProblem` unless the topics, all or those of `names`, are there, and as they must be."""
    rows = listing(kafka, admin, names)
    _refuse_problems(rows)
    missing = [row.name for row in rows if row.state == MISSING]
    if missing:
        raise KafkaProblem(
            f"no topic {', '.join(missing)}, or no right to see it; `sluice topics ensure` creates what is "
            f"missing, {RIGHTS}"
        )


def ensure(kafka: Kafka, admin: AdminClient) -> list[TopicRow]:
    """Create the topics that are missing, and change none that is there. Raises `KafkaProblem` where one that
    is there is not as it must be, and then creates none; or where the brokers refuse.
    """
    rows = listing(kafka, admin)
    _refuse_problems(rows)
    missing = {row.name for row in rows if row.state == MISSING}
    new = [
        NewTopic(spec.name, spec.partitions, kafka.replication_factor, config=_config(kafka, spec))
        for spec in wanted(kafka)
        if spec.name in missing
    ]
    if new:
        for name, created in admin.create_topics(new, operation_timeout=ANSWER_SECONDS).items():
            try:
                created.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise KafkaProblem(f"topic {name} cannot be created: {error.args[0].str()}") from None
    deadline = time.monotonic() + ANSWER_SECONDS
    while any(row.state == MISSING for row in rows):  # until all brokers know of them
        if time.monotonic() > deadline:
            raise KafkaProblem(f"the brokers do not show what was created: {', '.join(sorted(missing))}")
        time.sleep(ATTEMPT_SECONDS)
        rows = listing(kafka, admin)
    return [replace(row, state=CREATED) if row.name in missing else row for row in rows]


# --- what a topic must be


def _config(kafka: Kafka, spec: TopicSpec) -> dict[str, str]:
    """Settings of a topic. What brokers may have as their default is said all the same."""
    return {
        "cleanup.policy": spec.cleanup,
        "retention.ms": str(spec.retention_ms),
        "retention.bytes": str(FOR_EVER),
        # An acknowledged record has reached most copies, so it survives the loss of any one of several.
        "min.insync.replicas": str(kafka.replication_factor // 2 + 1),
        "unclean.leader.election.enable": "false",
    }


def _partitions_key(kafka: Kafka, name: str) -> str:
    match name.removeprefix(kafka.prefix):
        case topics.BARS:
            return "set [kafka] bars_partitions"
        case topics.DEAD_LETTERS:
            return "delete the topic"
        case _:
            return "set [kafka] account_partitions"


def _problems(
    kafka: Kafka, spec: TopicSpec, partitions: int, replicas: int, settings: Mapping[str, str]
) -> Iterable[str]:
    if partitions != spec.partitions:
        # More partitions would move keys to others, and part what is one order.
        yield (
            f"has {partitions} partitions, must have {spec.partitions}; {_partitions_key(kafka, spec.name)}, "
            f"or take another [kafka] prefix"
        )
    if replicas < kafka.replication_factor:
        yield (
            f"has {replicas} copies, [kafka] replication_factor is {kafka.replication_factor}; reassign its "
            f"partitions, or change that"
        )
    for key, value in _config(kafka, spec).items():
        found = settings[key]
        kept_longer = key.startswith("retention") and _span(found) >= _span(value)
        safer = key == "min.insync.replicas" and int(found) >= int(value)
        if found != value and not kept_longer and not safer:
            yield (
                f"{key} is {found}, must be {value}: kafka-configs --alter --entity-type topics "
                f"--entity-name {spec.name} --add-config {key}={value}"
            )


def _span(retention: str) -> float:
    return float("inf") if int(retention) < 0 else int(retention)


def _refuse_problems(rows: list[TopicRow]) -> None:
    found = [f"topic {row.name} {problem}" for row in rows for problem in row.problems]
    if found:
        raise KafkaProblem("\n".join(found))


# --- what it is


def _row(
    kafka: Kafka, spec: TopicSpec, found: TopicMetadata, settings: Mapping[str, str], records: int
) -> TopicRow:
    partitions = len(found.partitions)
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    problems = tuple(_problems(kafka, spec, partitions, replicas, settings))
    return TopicRow(
        spec.name,
        DIFFERENT if problems else THERE,
        partitions,
        replicas,
        int(settings["retention.ms"]),
        settings["cleanup.policy"],
        records,
        problems,
    )


def _settings(admin: AdminClient, there: Iterable[str]) -> dict[str, dict[str, str]]:
    """Settings of topics, by the name of the topic."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in there]
    if not resources:
        return {}
    asked = admin.describe_configs(resources, request_timeout=ANSWER_SECONDS)
    return {
        resource.name: {key: entry.value for key, entry in future.result().items()}
        for resource, future in asked.items()
    }


def _records(admin: AdminClient, there: Mapping[str, TopicMetadata]) -> dict[str, int]:
    """How many offsets each topic holds."""
    held = dict.fromkeys(there, 0)
    partitions = [
        TopicPartition(name, number) for name, topic in there.items() for number in topic.partitions
    ]
    for sign, spec in ((1, OffsetSpec.latest()), (-1, OffsetSpec.earliest())):
        if partitions:
            asked = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=ANSWER_SECONDS)
            for partition, future in asked.items():
                held[partition.topic] += sign * future.result().offset
    return held
