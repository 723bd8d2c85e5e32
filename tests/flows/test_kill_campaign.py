"""A few deaths of live trading; `make kill-campaign` has hundreds."""

from pathlib import Path

import pytest
from kafka_broker import KafkaBroker
from kill_campaign import campaign
from rich.console import Console

KILLS = 10


def test_whatever_dies_nothing_is_lost_doubled_or_different(
    broker: KafkaBroker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # the processes inherit it: no compilation at start-up
    outcome = campaign(tmp_path, broker.bootstrap, prefix, KILLS, 1, Console(), last_bars=60)
    assert outcome.differences == []
    assert outcome.kills.total() == KILLS
    assert min(outcome.records[name] for name in ("orders", "decisions", "reports")) > 20
