"""The pure parts of the live benchmark and of the soak: what they make of what they have measured."""

from dataclasses import replace

import pytest

from flows.bench_live import SYMBOLS, changed, compared, configured, symbols
from flows.soak import PATIENT, SERVICES, Sample, line, verdicts
from schemas.config import parse_config, read_toml

STEADY = [
    Sample(
        seconds=10.0 * k,
        memory_mb=(300.0, 200.0),
        polls=(5_000.0 * k, 9_000.0 * k),
        lag=(12.0, 30.0),
        store_mb=10.0,
        bars=10_000.0 * k,
        orders=50.0 * k,
    )
    for k in range(13)
]


def failed(samples: list[Sample]) -> list[str]:
    return [verdict.statement for verdict in verdicts(samples) if not verdict.held]


def test_the_floor_is_the_sum_of_its_two_hops() -> None:
    figures = compared([6.0, 8.0, 10.0], [1.0, 2.0, 3.0], [3.0, 3.0, 3.0])
    assert figures["order"] == {"p50": 8.0, "p99": 9.96, "max": 10.0, "n": 3}
    assert figures["floor"] == {"p50": 5.0, "p99": 5.98, "max": 6.0, "n": 3}
    assert figures["ratio"] == {"p50": 1.6, "p99": 1.67}
    assert figures["reached"]


@pytest.mark.parametrize("orders", [[8.1, 8.1, 8.1], [4.0] * 50 + [13.0] * 2])
def test_either_aim_can_be_missed_alone(orders: list[float]) -> None:
    assert not compared(orders, [1.0], [3.0])["reached"]


def test_what_stays_as_it_is_passes() -> None:
    assert failed(STEADY) == []


@pytest.mark.parametrize("k", range(len(SERVICES)))
def test_memory_that_grows_fails(k: int) -> None:
    growing = [
        replace(s, memory_mb=tuple(mb + (s.seconds if j == k else 0) for j, mb in enumerate(s.memory_mb)))
        for s in STEADY
    ]
    assert failed(growing) == [f"memory of {SERVICES[k]} is flat"]


def test_memory_may_grow_while_it_settles() -> None:
    assert failed([replace(s, memory_mb=(min(s.seconds, 40.0), 200.0)) for s in STEADY]) == []


@pytest.mark.parametrize("k", range(len(SERVICES)))
@pytest.mark.parametrize("slower", [0.5, 1.5])
def test_polls_that_change_fail(k: int, slower: float) -> None:
    bend = STEADY[8].polls[k]
    changing = [
        replace(
            s,
            polls=tuple(
                p if j != k or p < bend else bend + (p - bend) * slower for j, p in enumerate(s.polls)
            ),
        )
        for s in STEADY
    ]
    assert failed(changing) == [f"polls of {SERVICES[k]} are flat"]


def test_one_long_backlog_fails() -> None:
    behind = [replace(s, lag=(0.0, 6_000.0)) if s.seconds == 60 else s for s in STEADY]
    assert failed(behind) == ["never more than 5,000 records behind"]


def test_snapshots_that_grow_fail() -> None:
    assert failed([replace(s, store_mb=1 + s.seconds) for s in STEADY]) == ["snapshots do not grow"]


def test_an_account_that_stops_trading_fails() -> None:
    assert failed([replace(s, orders=min(s.orders, 400.0)) for s in STEADY]) == ["the account trades"]


def test_a_line_has_the_rates_of_its_minute() -> None:
    words = line(2, STEADY[6:]).split()
    assert words == ["2", "1,000", "5.0", "300.0", "200.0", "500", "900", "12", "30", "10.00"]


def test_a_value_changes_where_it_stands() -> None:
    assert changed("a = 1  # one\nba = 1\n", a=["x"]) == 'a = ["x"]\nba = 1\n'


@pytest.mark.parametrize("text", ["b = 1", "a = 1\na = 2"])
def test_a_key_that_does_not_stand_once_is_not_changed(text: str) -> None:
    with pytest.raises(ValueError, match="a stands on"):
        changed(text, a=3)


@pytest.mark.parametrize("changes", [{}, PATIENT])
def test_the_configurations_are_valid(changes: dict[str, int]) -> None:
    names = symbols(SYMBOLS)
    text = configured("127.0.0.1:1", instruments=names, signals=names[::5], **changes)
    config = read_toml(text, "bench", parse_config)
    assert len(config.instruments) == SYMBOLS
    assert config.kafka is not None
    assert config.kafka.bootstrap_servers == "127.0.0.1:1"
