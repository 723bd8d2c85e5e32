"""Settings of clients: what a file may say, what is told, and that secrets are not."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import strategies as st
from kafka_broker import KafkaBroker, guarded_broker

from connectors.kafka import client
from connectors.kafka.client import (
    REFUSED,
    KafkaProblem,
    bootstrap_servers,
    check_broker,
    client_settings,
    read_properties,
)
from deploy.kafka.broker import free_port
from schemas.config import Kafka

RIGHT, WRONG = "right-horse-battery", "wrong-donkey-staple"


def kafka(servers: str = "nowhere:9092", properties: Path | str = "") -> Kafka:
    return Kafka(
        bootstrap_servers=servers,
        properties=str(properties),
        account_partition=0,
        account_partitions=1,
        bars_partitions=1,
        replication_factor=1,
    )


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_properties(text: str) -> Path:
        path = tmp_path / "kafka.properties"
        path.write_text(text, encoding="utf-8")
        return path

    return write_properties


@pytest.mark.usefixtures("no_variable")
def test_settings_name_servers_and_purpose() -> None:
    settings = client_settings(kafka("one:1,two:2"), "live")
    assert settings["bootstrap.servers"] == "one:1,two:2"
    assert settings["client.id"] == "sluice-live"


def test_servers_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "three:3")
    assert bootstrap_servers(kafka("one:1")) == "three:3"
    assert client_settings(kafka("one:1"), "live")["bootstrap.servers"] == "three:3"


def test_a_file_of_settings_is_read(write: Callable[[str], Path]) -> None:
    path = write(
        "# ours\n\n security.protocol = SASL_SSL\nsasl.mechanism=PLAIN\n"
        "sasl.username=me\nsasl.password=a=b#c \n"
    )
    settings = client_settings(kafka(properties=path), "live")
    assert settings["security.protocol"] == "SASL_SSL"
    assert settings["sasl.password"] == "a=b#c"


@pytest.mark.parametrize("key", REFUSED)
def test_a_setting_that_would_break_a_promise_is_refused(key: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(KafkaProblem, match=r"kafka.properties, line 2: ") as told:
        read_properties(write(f"# first\n{key}=hunter2"))
    assert f"{key} may not be set here: {REFUSED[key]}" in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hunter2", "line 1: write it as key=value"),
        ("=hunter2", "line 1: write it as key=value"),
        ("linger.ms=1\nlinger.ms=hunter2", "line 2: linger.ms is there twice"),
        ("sasl.pasword=hunter2", "sasl.pasword is not a setting that librdkafka knows"),
        ("security.protocol=hunter2", "the value of security.protocol is not one that librdkafka takes"),
        ("linger.ms=hunter2", "the value of queue.buffering.max.ms is not one that librdkafka takes"),
        ("error_cb=hunter2", "a key is not one of a file"),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.password=hunter2",
            "sasl.username and sasl.password must be set",
        ),
        ("security.protocol=SSL\nssl.ca.location=/nowhere/hunter2", "ssl.ca.location"),
        ("security.protocol=SSL\nssl.key.pem=hunter2", "not in PEM format"),
        ("ssl.truststore.location=hunter2", "ssl.ca.location"),
    ],
)
def test_a_bad_file_is_told_without_its_values(text: str, problem: str, write: Callable[[str], Path]) -> None:
    with pytest.raises(KafkaProblem) as told:
        client_settings(kafka(properties=write(text)), "live")
    assert "kafka.properties" in str(told.value)
    assert problem in str(told.value)
    assert "hunter2" not in str(told.value)


@given(secret=st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=4, max_size=20))
def test_no_secret_is_told(secret: str) -> None:
    settings = {"sasl.password": secret, "security.protocol": "SSL", "retries": 3, "linger.ms": "5"}
    told = client._without_values(f"SSL, 5 in 50: {secret} is 3", settings)
    assert told == "SSL, … in 50: … is 3"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(KafkaProblem, match=r"nosuch, \[kafka\] properties: cannot be read: No such file"):
        client_settings(kafka(properties=tmp_path / "nosuch"), "live")
    (tmp_path / "binary").write_bytes(b"\xff\xfe=\xff")
    with pytest.raises(KafkaProblem, match=r"binary, \[kafka\] properties: is not a text"):
        client_settings(kafka(properties=tmp_path / "binary"), "live")


@pytest.mark.usefixtures("no_variable")
def test_servers_that_do_not_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0)
    servers = f"127.0.0.1:{free_port()}"
    with pytest.raises(KafkaProblem) as told:
        check_broker(client_settings(kafka(servers), "live"))
    assert f"no Kafka broker answers at {servers} ([kafka] bootstrap_servers)" in str(told.value)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", servers)
    with pytest.raises(KafkaProblem, match=r"\(KAFKA_BOOTSTRAP_SERVERS\)"):
        check_broker(client_settings(kafka(), "live"))


def test_a_broker_that_answers_is_no_problem(broker: KafkaBroker) -> None:
    check_broker(client_settings(kafka(broker.bootstrap), "live"))


@pytest.mark.usefixtures("prefix")
def test_loud_while_no_broker_is_there_and_once_it_is_back(
    broker: KafkaBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REMIND_SECONDS", 0.0)
    caplog.set_level(logging.DEBUG, "sluice.kafka")
    consumer = Consumer({**client_settings(kafka(broker.bootstrap), "live"), "group.id": "unused"})
    consumer.list_topics(timeout=10)

    def wait_for(text: str, times: int) -> None:
        while sum(text in line for line in caplog.messages) < times:
            consumer.poll(0.1)

    broker.stop()
    wait_for("can be reached: ", 2)
    broker.start()
    wait_for("reached again after", 1)
    consumer.close()
    away = [record for record in caplog.records if "no broker of" in record.message]
    assert {(record.name, record.levelname) for record in away} == {("sluice.kafka", "ERROR")}
    assert f"sluice-live: no broker of {broker.bootstrap}" in away[0].message
    assert not [record for record in caplog.records if "FAIL" in record.message]


@pytest.fixture(scope="module")
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a broker that lets in only who knows the password."""
    request.getfixturevalue("own_broker_possible")
    guarded, address = guarded_broker(
        tmp_path_factory.mktemp("locked"),
        "SASL_PLAINTEXT",
        {
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": (
                f'org.apache.kafka.common.security.plain.PlainLoginModule required user_sluice="{RIGHT}";'
            ),
        },
    )
    guarded.start()
    yield address
    guarded.stop()


@pytest.mark.usefixtures("no_variable")
def test_the_right_password_is_let_in(locked: str, write: Callable[[str], Path]) -> None:
    settings = client_settings(kafka(locked, write(login(RIGHT))), "live")
    check_broker(settings)
    assert AdminClient(settings).list_topics(timeout=10).brokers


@pytest.mark.usefixtures("no_variable")
def test_a_wrong_password_is_told_and_never_shown(
    locked: str,
    write: Callable[[str], Path],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = client_settings(kafka(locked, write(login(WRONG) + "debug=all\n")), "live")
    with pytest.raises(KafkaProblem) as told:
        check_broker(settings)
    consumer = Consumer({**settings, "group.id": "unused"})
    while not any("can be reached" in line for line in caplog.messages):
        consumer.poll(0.1)
    consumer.close()
    out, err = capfd.readouterr()
    for text in (str(told.value), *caplog.messages):
        assert WRONG not in text
    assert WRONG not in out + err
    assert f"{locked} ([kafka] bootstrap_servers) does not let us in: " in str(told.value)
    assert "Authentication failed" in str(told.value)
    assert "see the file of [kafka] properties" in str(told.value)


def login(password: str) -> str:
    return (
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=sluice\n"
        f"sasl.password={password}\n"
    )
