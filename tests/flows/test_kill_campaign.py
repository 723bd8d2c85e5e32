"""A few deaths of live trading; `make kill-campaign` has hundreds."""

from pathlib import Path

from kafka_broker import KafkaBroker
from kill_campaign import campaign
from rich.console import Console

KILLS = 10


def test_whatever_dies_nothing_is_lost_doubled_or_different(
    broker: KafkaBroker, prefix: str, tmp_path: Path
) -> None:
    outcome = campaign(tmp_path, broker.bootstrap, prefix, KILLS, 1, Console(), last_bars=60, compiled=False)
    assert outcome.differences == []
    assert outcome.kills.total() == KILLS
    assert min(outcome.records[name] for name in ("orders", "decisions", "reports")) > 20
