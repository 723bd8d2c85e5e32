"""Topics are created as they must be, changed never, and refused when they differ."""

from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from kafka_broker import KafkaBroker, create_topic, wait_until

from connectors.kafka import topics
from connectors.kafka.client import KafkaProblem, client_settings
from connectors.kafka.topics import (
    CREATED,
    DAY_MS,
    DIFFERENT,
    MISSING,
    THERE,
    ensure,
    listing,
    require,
    wanted,
)
from schemas.config import Kafka

NAMES = ["bars", "journal", "orders", "decisions", "alerts", "dead-letters"]


def section(**changes: Any) -> Kafka:
    values = {
        "bootstrap_servers": "nowhere:9092",
        "account_partition": 0,
        "account_partitions": 2,
        "bars_partitions": 3,
        "replication_factor": 1,
    }
    return Kafka(**{**values, **changes})


@pytest.fixture
def kafka(broker: KafkaBroker, prefix: str) -> Kafka:
    return section(bootstrap_servers=broker.bootstrap, prefix=prefix)


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient(client_settings(kafka, "topics"))


def alter(admin: AdminClient, topic: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result()
    asked = ConfigResource(ResourceType.TOPIC, topic)
    wait_until(lambda: admin.describe_configs([asked])[asked].result()[key].value == value)


def test_what_the_account_wrote_is_kept_for_ever() -> None:
    specs = {spec.name: spec for spec in wanted(section(prefix="eu."))}
    assert list(specs) == ["eu." + name for name in NAMES]
    kept = {name.removeprefix("eu."): spec.retention_ms for name, spec in specs.items()}
    for_ever = dict.fromkeys(("journal", "orders", "decisions", "alerts"), -1)
    assert kept == {"bars": 400 * DAY_MS, **for_ever, "dead-letters": 90 * DAY_MS}
    assert {spec.cleanup for spec in specs.values()} == {"delete"}
    assert [spec.partitions for spec in specs.values()] == [3, 2, 2, 2, 2, 1]


def test_missing_topics_are_created_once(kafka: Kafka, admin: AdminClient) -> None:
    assert [row.state for row in listing(kafka, admin)] == [MISSING] * 6
    with pytest.raises(KafkaProblem, match="`sluice topics ensure` creates what is missing"):
        require(kafka, admin)
    created = ensure(kafka, admin)
    assert [row.name for row in created] == [kafka.prefix + name for name in NAMES]
    assert [row.state for row in created] == [CREATED] * 6
    assert [row.partitions for row in created] == [3, 2, 2, 2, 2, 1]
    assert [row.retention_ms for row in created] == [spec.retention_ms for spec in wanted(kafka)]
    assert [row.state for row in ensure(kafka, admin)] == [THERE] * 6
    require(kafka, admin)


def test_one_that_is_missing_is_created_beside_the_others(kafka: Kafka, admin: AdminClient) -> None:
    ensure(kafka, admin)
    alerts = f"{kafka.prefix}alerts"
    admin.delete_topics([alerts])[alerts].result()
    wait_until(lambda: alerts not in admin.list_topics(timeout=10).topics)
    require(kafka, admin, ["bars", "journal"])
    with pytest.raises(KafkaProblem, match=f"no topic {alerts}, or no right to see it"):
        require(kafka, admin, ["journal", "alerts"])
    assert [row.state for row in ensure(kafka, admin)] == [THERE] * 4 + [CREATED, THERE]


def test_offsets_that_are_held_are_counted(kafka: Kafka, admin: AdminClient) -> None:
    ensure(kafka, admin)
    producer = Producer(client_settings(kafka, "test"))
    for partition in (0, 1, 1):
        producer.produce(f"{kafka.prefix}journal", b"x", partition=partition)
    assert producer.flush(30) == 0
    assert [row.records for row in listing(kafka, admin)] == [0, 3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("topic", "cure"),
    [
        ("bars", "set [kafka] bars_partitions"),
        ("orders", "set [kafka] account_partitions"),
        ("dead-letters", "delete the topic"),
    ],
)
def test_another_count_of_partitions_is_refused(
    topic: str, cure: str, kafka: Kafka, admin: AdminClient
) -> None:
    name = kafka.prefix + topic
    create_topic(kafka.bootstrap_servers, name, 5)
    for refusing in (ensure, require):
        with pytest.raises(KafkaProblem) as told:
            refusing(kafka, admin)
        assert f"topic {name} has 5 partitions, must have " in str(told.value)
        assert cure in str(told.value)
    assert {row.state for row in listing(kafka, admin)} == {MISSING, DIFFERENT}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cleanup.policy", "compact"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
        ("unclean.leader.election.enable", "true"),
    ],
)
def test_a_setting_that_could_lose_records_is_refused(
    key: str, value: str, kafka: Kafka, admin: AdminClient
) -> None:
    ensure(kafka, admin)
    name = f"{kafka.prefix}journal"
    alter(admin, name, key, value)
    with pytest.raises(KafkaProblem) as told:
        ensure(kafka, admin)
    assert f"topic {name} {key} is {value}, must be " in str(told.value)
    assert f"--entity-name {name} --add-config {key}=" in str(told.value)
    assert [row.state for row in listing(kafka, admin)] == [THERE, DIFFERENT, THERE, THERE, THERE, THERE]


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        ("bars", "retention.ms", "-1"),
        ("bars", "retention.ms", f"{500 * DAY_MS}"),
        ("orders", "min.insync.replicas", "2"),
    ],
)
def test_safer_than_must_be_is_welcome(
    topic: str, key: str, value: str, kafka: Kafka, admin: AdminClient
) -> None:
    ensure(kafka, admin)
    alter(admin, kafka.prefix + topic, key, value)
    assert [row.state for row in ensure(kafka, admin)] == [THERE] * 6


def test_too_few_copies_are_refused(kafka: Kafka, admin: AdminClient) -> None:
    ensure(kafka, admin)
    with pytest.raises(KafkaProblem, match=r"has 1 copies, .kafka. replication_factor is 3"):
        ensure(kafka.model_copy(update={"replication_factor": 3}), admin)


def test_more_copies_than_brokers_are_refused_by_the_broker(kafka: Kafka, admin: AdminClient) -> None:
    with pytest.raises(KafkaProblem, match=r"topic .*bars cannot be created: .*[Rr]eplication factor"):
        ensure(kafka.model_copy(update={"replication_factor": 3}), admin)


@pytest.mark.parametrize(("copies", "most"), [(1, "1"), (2, "2"), (3, "2"), (5, "3")])
def test_most_copies_have_a_record_before_it_is_acknowledged(copies: int, most: str) -> None:
    kafka = section(replication_factor=copies)
    assert {topics._config(kafka, spec)["min.insync.replicas"] for spec in wanted(kafka)} == {most}
