"""Replay of the topic of bars: the same result as replay of the recording that was published into it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient
from kafka_broker import KafkaBroker, wait_until
from replay_fixtures import Result, assert_same, last_json, replay, sluice, write_toml
from rich.console import Console

from connectors.calendars import load_sessions
from connectors.kafka.client import KafkaProblem, client_settings
from connectors.kafka.topics import ensure
from connectors.recording import BarRecording
from flows.process import USER_ERRORS
from flows.publish import Moment, Publisher, moments
from flows.replay import prepare_topic
from flows.run import run
from schemas.config import Config, ConfigError, parse_config
from schemas.topics import BARS

Configuration = Callable[..., dict[str, Any]]
SMALL = {"batch_bars": 40, "window_rows": 1}
DEADLINE = 60.0


def with_kafka(data: dict[str, Any], broker: KafkaBroker, prefix: str) -> dict[str, Any]:
    kafka = {"bootstrap_servers": broker.bootstrap, "prefix": prefix, "account_partition": 0}
    numbers = {"account_partitions": 1, "bars_partitions": 3, "replication_factor": 1}
    return {**data, "kafka": kafka | numbers}


def create(config: Config) -> None:
    assert config.kafka is not None
    ensure(config.kafka, AdminClient(client_settings(config.kafka, "test")))


def published(recording: Path, config: Config) -> None:
    """All bars of the recording, in the order in which they would have come."""
    assert config.kafka is not None
    calendar = config.calendar
    sessions = load_sessions(calendar.exchange, calendar.first, calendar.last)
    publisher = Publisher(client_settings(config.kafka, "test"), config, config.kafka, 0)
    told = moments(BarRecording(recording, config.instruments), sessions)
    publisher.bars(Moment(0, [bar for moment in told for bar in moment.bars], ticks=False))


def replay_topic(data: dict[str, Any], out: Path, recovery: Path | None = None, **more: Any) -> Result:
    workers = more.pop("workers", 1)
    ready = prepare_topic(parse_config(data), out, **more)
    summary = run(
        ready, Console(quiet=True), quiet=True, recovery=recovery, snapshot_seconds=0, workers=workers
    )
    assert summary is not None
    return Result(summary, out)


def interrupted(data: dict[str, Any], out: Path, recovery: Path, rows: int) -> None:
    """A run that is stopped once it has handed on so many bars."""
    ready = prepare_topic(parse_config(data), out, **SMALL)

    def stop() -> None:
        deadline = time.monotonic() + DEADLINE
        while ready.progress.rows < rows and time.monotonic() < deadline:
            time.sleep(0.001)
        ready.progress.stop.set()

    thread = threading.Thread(target=stop)
    thread.start()
    assert run(ready, Console(quiet=True), quiet=True, recovery=recovery, snapshot_seconds=0) is None
    thread.join()
    assert ready.progress.rows >= rows


@pytest.fixture
def data(configuration: Configuration, broker: KafkaBroker, prefix: str) -> dict[str, Any]:
    """A configuration whose topics are there, and empty."""
    made = with_kafka(configuration("toggle"), broker, prefix)
    create(parse_config(made))
    return made


@pytest.fixture(scope="module")
def dirty(
    configuration: Configuration, broker: KafkaBroker, dirty_recording: Path
) -> Iterator[dict[str, Any]]:
    """A configuration whose topic of bars holds the dirty recording."""
    made = with_kafka(configuration("toggle"), broker, f"test-dirty-{time.time_ns()}.")
    config = parse_config(made)
    create(config)
    published(dirty_recording, config)
    yield made
    assert config.kafka is not None
    admin = AdminClient(client_settings(config.kafka, "test"))
    mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(config.kafka.prefix)]
    for deleted in admin.delete_topics(mine).values():
        deleted.result()


@pytest.fixture(scope="module")
def of_recording(dirty: dict[str, Any], dirty_recording: Path, tmp_path_factory: Any) -> Result:
    return replay(dirty_recording, dirty, tmp_path_factory.mktemp("recording") / "out")


@pytest.mark.parametrize(
    "cuts", [{}, {"window_rows": 1}, {"batch_bars": 7, "window_rows": 3000}, {"workers": 2, "window_rows": 1}]
)
def test_a_topic_gives_the_same_tables_and_digest_as_its_recording(
    cuts: dict[str, int], dirty: dict[str, Any], of_recording: Result, tmp_path: Path
) -> None:
    result = replay_topic(dirty, tmp_path / "out", **cuts)
    assert_same(of_recording, result)
    own = {"origin", "recording", "recording_hash", "topic", "seconds", "bars_per_second"}
    one, other = ({k: v for k, v in r.summary.items() if k not in own} for r in (of_recording, result))
    assert one == other
    assert result.summary["orders"] > 20
    assert result.summary["recording"] is None


def test_what_is_no_bar_is_refused_for_the_same_reason_with_its_bytes(
    dirty: dict[str, Any], of_recording: Result, tmp_path: Path
) -> None:
    """A recording keeps fields, a topic bytes: what does not decode has no fields there."""
    letters = [r.table("dead_letters") for r in (of_recording, replay_topic(dirty, tmp_path / "out"))]
    counts = [table.group_by("symbol", "reason").len().sort("symbol", "reason") for table in letters]
    assert counts[0].equals(counts[1])
    decoded = {"not_finite", "unknown_symbol"}
    split = [table.filter(pl.col("reason").is_in(decoded)) for table in letters]
    assert split[1].height == 10
    assert all(raw.startswith(b'{"type":"bar"') for raw in split[1]["raw"])
    rest = [table.filter(~pl.col("reason").is_in(decoded)) for table in letters]
    assert rest[0].height > 20
    assert rest[0].equals(rest[1])


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes_though_the_topic_has_grown(
    data: dict[str, Any], clean_recording: Path, tmp_path: Path
) -> None:
    config = parse_config(data)
    published(clean_recording, config)
    whole = replay_topic(data, tmp_path / "whole", **SMALL)
    assert_same(replay(clean_recording, data, tmp_path / "recording"), whole)
    out, recovery = tmp_path / "out", tmp_path / "recovery"
    interrupted(data, out, recovery, 1500)
    published(clean_recording, config)
    interrupted(data, out, recovery, 1500)
    result = replay_topic(data, out, recovery, **SMALL)
    assert_same(whole, result)
    for key in ("bars", "dead_letters", "topic", "origin"):
        assert result.summary[key] == whole.summary[key]


def test_another_topic_other_windows_and_a_recording_are_refused(
    data: dict[str, Any], clean_recording: Path, broker: KafkaBroker, tmp_path: Path
) -> None:
    config = parse_config(data)
    assert config.kafka is not None
    published(clean_recording, config)
    out, recovery = tmp_path / "out", tmp_path / "recovery"
    interrupted(data, out, recovery, 1500)
    with pytest.raises(KafkaProblem, match="window_rows 1, now 2"):
        replay_topic(data, out, recovery, batch_bars=40, window_rows=2)
    with pytest.raises(USER_ERRORS, match="batch_bars 40, now 0"):
        replay_topic(data, out, recovery, window_rows=1)
    ended = sluice("replay", clean_recording, "-c", write_toml(tmp_path / "c.toml", data), "-r", recovery)
    assert ended.code == 2
    assert "written for another recording" in ended.stderr

    admin, name = AdminClient({"bootstrap.servers": broker.bootstrap}), config.kafka.prefix + BARS
    admin.delete_topics([name])[name].result()
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics)
    create(config)
    published(clean_recording, config)
    with pytest.raises(KafkaProblem, match="written for another topic"):
        replay_topic(data, out, recovery, **SMALL)


def test_the_command_replays_a_topic(dirty: dict[str, Any], of_recording: Result, tmp_path: Path) -> None:
    config = write_toml(tmp_path / "config.toml", dirty)
    ended = sluice("replay", "--topic", "-c", config, "-o", tmp_path / "out", "--json")
    assert ended.code == 0, ended.stderr
    assert last_json(ended)["digest"] == of_recording.summary["digest"]
    assert "topic test-dirty" in ended.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a recording to replay, or --topic"),
        (("a-recording", "--topic"), "one of the two"),
        (("--topic", "--first", "2024-11-26"), "a topic is replayed from its beginning"),
        (("--topic",), "section [kafka] is missing"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    words: tuple[str, ...], told: str, configuration: Configuration, tmp_path: Path
) -> None:
    ended = sluice("replay", *words, "-c", write_toml(tmp_path / "config.toml", configuration()))
    assert ended.code == 2
    assert told in ended.stderr


def test_an_empty_topic_and_a_missing_one_are_told(
    data: dict[str, Any], configuration: Configuration, broker: KafkaBroker, tmp_path: Path
) -> None:
    with pytest.raises(KafkaProblem, match="holds no bars"):
        prepare_topic(parse_config(data), tmp_path / "out")
    elsewhere = parse_config(with_kafka(configuration(), broker, "nowhere."))
    with pytest.raises(KafkaProblem, match=r"topic nowhere.bars cannot be read.*\[kafka\] prefix"):
        prepare_topic(elsewhere, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"section \[kafka\] is missing"):
        prepare_topic(parse_config(configuration()), tmp_path / "out")
