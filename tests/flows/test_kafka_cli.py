"""`sluice topics`: what is created and shown, and what an operator is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka_broker import KafkaBroker, create_topic
from typer.testing import CliRunner

from connectors.kafka.client import KafkaProblem
from flows.kafka_cli import topics_app

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "deploy" / "demo.toml").read_text(encoding="utf-8")
NAMES = ["bars", "journal", "orders", "decisions", "alerts", "dead-letters"]


@pytest.fixture
def config(tmp_path: Path, broker: KafkaBroker, prefix: str) -> Path:
    path = tmp_path / "live.toml"
    section = f"""
[kafka]
bootstrap_servers = "{broker.bootstrap}"
prefix = "{prefix}"
account_partition = 0
account_partitions = 2
bars_partitions = 3
replication_factor = 1
"""
    path.write_text(DEMO + section, encoding="utf-8")
    return path


@pytest.fixture
def topics(config: Path) -> Callable[..., tuple[int, str]]:
    def topics_command(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(topics_app, [*words, "--config", str(config)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return topics_command


def states(output: str) -> list[str]:
    return [row["state"] for row in json.loads(output.splitlines()[-1])["topics"]]


def test_topics_are_listed_missing_created_and_there(topics: Callable[..., tuple[int, str]]) -> None:
    for words, code, state in (
        (("list",), 1, "missing"),
        (("ensure",), 0, "created"),
        (("ensure",), 0, "there"),
        (("list",), 0, "there"),
    ):
        told = topics(*words, "--json")
        assert told[0] == code
        assert states(told[1]) == [state] * len(NAMES)


def test_a_table_names_topics_and_how_long_they_are_kept(
    topics: Callable[..., tuple[int, str]], prefix: str
) -> None:
    code, told = topics("ensure")
    assert code == 0
    assert all(prefix + name in told for name in NAMES)
    assert told.count("for ever") == 4
    assert "400 days" in told
    assert "90 days" in told


def test_a_topic_of_another_shape_is_shown_and_not_touched(
    topics: Callable[..., tuple[int, str]], broker: KafkaBroker, prefix: str
) -> None:
    create_topic(broker.bootstrap, f"{prefix}journal", 7)
    code, told = topics("list", "--json")
    assert code == 1
    assert states(told) == ["missing", "different", "missing", "missing", "missing", "missing"]
    assert "has 7 partitions, must have 2; set [kafka] account_partitions" in " ".join(told.split())
    with pytest.raises(KafkaProblem, match="journal has 7 partitions"):
        topics("ensure")
    assert states(topics("list", "--json")[1]).count("missing") == 5


def test_a_configuration_without_kafka_is_told(tmp_path: Path) -> None:
    config = tmp_path / "demo.toml"
    config.write_text(DEMO, encoding="utf-8")
    result = CliRunner().invoke(topics_app, ["list", "--config", str(config)])
    assert isinstance(result.exception, KafkaProblem)
    assert str(result.exception) == f"{config} has no section [kafka], which says where the topics are"
