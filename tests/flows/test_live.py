"""Live trading with real processes on a real broker. A session is published in lockstep: the next bar, or
tick, comes when all processes have dealt with the one before it.
"""

import base64
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from base_config import base_with
from kafka_broker import KafkaBroker
from live_fixtures import Deployment, Process, Said, moments_of, record_days
from replay_fixtures import write_toml
from typer.testing import CliRunner

from connectors.control_files import KILL
from connectors.metrics import Figures, serve_metrics
from flows.control_cli import PASSPHRASE, control_app
from schemas.codecs import decode, encode
from schemas.codes import (
    AlertKind,
    ControlAction,
    ControlRefusal,
    DeadLetter,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderKind,
    Outcome,
    Side,
)
from schemas.config import Metrics
from schemas.records import Alert, Bar, Decision, MarketSlice, Order, Refusal, Report, Tick
from schemas.topics import ALERTS, BARS, DEAD_LETTERS, DECISIONS, JOURNAL, ORDERS

MINUTE = 60_000_000_000
LAST = 32  # moments of a session, to behind its close; entries stop 15 minutes before that
FAULTS = {
    "seed": 4,
    "reject": Decimal("0.1"),
    "partial": Decimal("0.2"),
    "duplicate": Decimal("0.2"),
    "unknown": Decimal("0.1"),
}
A_BAD_VENUE = {"venue__faults": FAULTS}
"""So that there are alerts, too."""
PATIENT: dict[str, Any] = {"strategies__0__kind": "constant", "strategies__0__parameters": {"weight": 1}}
"""Buys, and holds."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_days(tmp_path_factory.mktemp("live") / "recording", 1, seed=1)


@pytest.fixture(scope="module")
def undisturbed(broker: KafkaBroker, session: Path, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What `sluice live` and `sluice paper` say of the session."""
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    with Deployment(tmp_path_factory.mktemp("whole"), broker.bootstrap, prefix, **A_BAD_VENUE) as whole:
        whole.live()
        whole.paper()
        whole.play(moments_of(session, whole.config, LAST))
        said = whole.said()
        whole.delete_topics()
    assert len(said.said["orders"]) > 20
    assert len(said.said["alerts"]) > 2
    assert said.repeated_slices == 0
    return said


@pytest.fixture
def start(broker: KafkaBroker, prefix: str, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes the deployment of a test; takes changes of its configuration."""
    made: list[Deployment] = []

    def make(**changes: Any) -> Deployment:
        made.append(Deployment(tmp_path, broker.bootstrap, prefix, **changes))
        return made[-1]

    yield make
    for deployment in made:
        deployment.close()


Start = Callable[..., Deployment]


# --- the same in every shape


def test_two_workers_under_bytewax_run_say_the_same(start: Start, session: Path, undisturbed: Said) -> None:
    trading = start(**A_BAD_VENUE)
    trading.live(bytewax=True, workers=2)
    trading.paper(bytewax=True)
    trading.play(moments_of(session, trading.config, LAST))
    assert [process.end() for process in trading.processes] == [
        (0, process.said) for process in trading.processes
    ]
    assert undisturbed.differences(trading.said()) == []


def test_shards_say_the_same(start: Start, session: Path, undisturbed: Said) -> None:
    trading = start(**A_BAD_VENUE)
    account = trading.live("account", shard="account")
    trading.paper()
    trading.live("market-0", shard="market:0")
    trading.live("market-1-2", shard="market:1-2", bytewax=True)
    trading.play(moments_of(session, trading.config, LAST))
    assert undisturbed.differences(trading.said()) == []
    figures = account.figures()
    assert figures["sluice_bars_total",] == 0
    assert {name for name, *place in figures if place[1:] == [BARS]} == set()
    assert [process.end()[0] for process in trading.processes] == [0, 0, 0, 0]


def test_a_session_that_goes_on_in_other_shapes_says_the_same(
    start: Start, session: Path, undisturbed: Said
) -> None:
    trading = start(**A_BAD_VENUE)
    told = moments_of(session, trading.config, LAST)
    venue = trading.paper()

    def part(first: int, last: int, *processes: Process) -> None:
        trading.play(told[first:last])
        for process in processes:
            assert process.end()[0] == 0, process.said

    part(0, 6, trading.live())
    part(6, 12, trading.live(bytewax=True))
    # Shards read their topics from the beginning.
    shards = [trading.live(shard.partition(":")[0], shard=shard) for shard in ("market", "account")]
    part(12, 18, *shards)
    # Goes on from a snapshot that is long behind.
    part(18, 24, trading.live(bytewax=True, workers=2), venue)
    # The recovery directories are lost.
    part(24, LAST, trading.live("anew"), trading.paper("paper-anew"))
    said = trading.said()
    assert undisturbed.differences(said) == []
    assert said.repeated_slices > 20


# --- the broker is away


IMPATIENT = "import connectors.kafka.sinks as s; s.TRANSACTION_SECONDS = 6"


def test_a_broker_that_was_away_for_longer_than_any_time_out_changes_nothing(
    start: Start, broker: KafkaBroker, session: Path, undisturbed: Said
) -> None:
    trading = start(**A_BAD_VENUE)
    told = moments_of(session, trading.config, LAST)
    processes = {"live": trading.live(first=IMPATIENT), "paper": trading.paper(first=IMPATIENT)}
    trading.play(told[:8])
    trading.publisher.bars(told[8])
    broker.kill()
    time.sleep(9)
    for process in processes.values():
        assert "can be reached" in process.said
        assert "Traceback" not in process.said
    broker.start()
    time.sleep(1)
    for kind, process in processes.items():
        if not process.is_running:
            assert process.said.count("started again, it continues") == 1
            trading.run(kind, kind)
    trading.settle()
    trading.publisher.tick(told[8])
    trading.settle()
    trading.play(told[9:])
    assert undisturbed.differences(trading.said()) == []


# --- two at once


def test_nothing_of_a_copy_that_was_taken_for_dead_gets_through(
    start: Start, session: Path, undisturbed: Said
) -> None:
    trading = start(**A_BAD_VENUE)
    told = moments_of(session, trading.config, LAST)
    old = trading.live()
    trading.paper()
    trading.play(told[:8])
    trading.publisher.bars(told[8])
    old.freeze()
    trading.live("copy", copy_of="live")
    trading.settle()
    trading.publisher.tick(told[8])
    trading.settle()
    trading.play(told[9:14])
    old.thaw()
    code, said = old.ended()
    assert code != 0
    assert "another copy with transactional id" in said
    assert "Traceback" not in said
    trading.play(told[14:])
    assert undisturbed.differences(trading.said()) == []


# --- what cannot be run


def failed(process: Process, *words: str) -> None:
    """It ended with a message for people that has these words."""
    code, said = process.ended()
    text = " ".join(said.split())
    assert code not in (0, -9), said
    assert [word for word in words if word not in text] == [], said
    assert "Traceback" not in said


OTHER_CODE = "import operators.shell; operators.shell.CODE_HASH = 'other'"
OTHER_VERSION = "from operators.journal import Journal; Journal.version = 2"


def test_a_snapshot_is_used_by_one_process_with_the_same_code_and_configuration_alone(
    start: Start, session: Path
) -> None:
    trading = start()
    first = trading.live()
    for bytewax in (False, True):
        second = trading.live(bytewax=bytewax, wait=False)
        failed(second, "another run holds the recovery directory", "give this run another")
    trading.play(moments_of(session, trading.config, LAST)[:2])
    code, said = first.end()
    assert (code, said.count("stopped; the last snapshot is in")) == (0, 1)

    other = write_toml(trading.folder / "other.toml", base_with(trading.data, account__cash=5_000))
    whole = "start anew with an empty recovery directory"
    changes: list[dict[str, Any]] = [
        {"config": other},
        {"first": OTHER_CODE},
        {"first": OTHER_VERSION},
        {"shard": "market"},
    ]
    for bytewax in (False, True):
        changed = [
            trading.live(f"live-{bytewax}-{k}", bytewax=bytewax, wait=False, copy_of="live", **how)
            for k, how in enumerate(changes)
        ]
        failed(changed[0], "configuration", whole)
        failed(changed[1], "was written with code", "'other'", whole)
        failed(changed[2], "'journal'", "was written with version 1, this run has 2", whole)
        failed(changed[3], "live live market", whole)


@pytest.mark.parametrize("bytewax", [False, True])
def test_what_is_missing_is_said(start: Start, bytewax: bool) -> None:
    trading = start()
    none = trading.folder / "none.toml"
    cases: list[tuple[Process, list[str]]] = []

    def case(name: str, data: dict[str, Any], *words: str, **how: Any) -> None:
        config = write_toml(trading.folder / f"{name}.toml", data)
        process = trading.run(
            how.pop("kind", "live"), name, bytewax=bytewax, config=config, wait=False, **how
        )
        cases.append((process, list(words)))

    data, kafka = trading.data, trading.data["kafka"]
    case("live", without(data, "live"), "section [live] is missing", "deploy/live.toml")
    case("kafka", without(data, "kafka"), "section [kafka] is missing", "deploy/live.toml")
    case("shard", data, "shard 'market:0-3'", "bars_partitions", shard="market:0-3")
    case("topics", data | {"kafka": kafka | {"prefix": "none."}}, "none.bars", "sluice topics ensure")
    case("paper", data | {"kafka": kafka | {"prefix": "none."}}, "sluice topics ensure", kind="paper")
    nobody = kafka | {"bootstrap_servers": "127.0.0.1:9"}
    case(
        "broker",
        data | {"kafka": nobody},
        "no Kafka broker answers at 127.0.0.1:9",
        "[kafka] bootstrap_servers",
    )
    absent = trading.run("live", "absent", bytewax=bytewax, config=none, wait=False)
    cases.append((absent, [str(none)]))
    for process, words in cases:
        failed(process, *words)


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


# --- stopped and started


@pytest.mark.parametrize("bytewax", [False, True])
def test_a_stopped_process_reads_nothing_again(start: Start, session: Path, bytewax: bool) -> None:
    trading = start()
    told = moments_of(session, trading.config, LAST)
    live, paper = trading.live(bytewax=bytewax), trading.paper(bytewax=bytewax)
    trading.play(told[:4])
    before = {process: places(process) for process in (live, paper)}
    written = [trading.messages(topic) for topic in (JOURNAL, ORDERS, DECISIONS)]
    for process in (live, paper):
        code, said = process.end()
        assert code == 0, said
    again = trading.live(bytewax=bytewax), trading.paper(bytewax=bytewax)
    trading.settle()
    for process, older in zip(again, before.values(), strict=True):
        assert places(process) == older
        assert sum(v for (name, *_), v in process.figures().items() if name == "sluice_written_total") == 0
    assert again[0].figures()["sluice_bars_total",] == 0
    assert [trading.messages(topic) for topic in (JOURNAL, ORDERS, DECISIONS)] == written


def places(process: Process) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in process.figures().items() if key[0] == "sluice_position"}


# --- poison


def test_bars_that_are_none_are_kept_aside_and_trading_goes_on(
    start: Start, session: Path, undisturbed: Said
) -> None:
    trading = start(**A_BAD_VENUE)
    told = moments_of(session, trading.config, LAST)
    live = trading.live()
    trading.paper()
    trading.play(told[:3])
    symbol, bar = told[3].bars[0]
    stranger = encode(Bar(symbol="ABC", start_ns=1, end_ns=2, open=1, high=1, low=1, close=1, volume=1))
    poison = [
        (b"\xff\xfe\x00 no record", b"QQQ", DeadLetter.MALFORMED, "QQQ"),
        (b"", b"QQQ", DeadLetter.MALFORMED, "QQQ"),
        (bar, b"another", DeadLetter.WRONG_KEY, symbol),
        (stranger, b"ABC", DeadLetter.UNKNOWN_SYMBOL, "ABC"),
        (b"[" * 70_000, b"\xff", DeadLetter.OVERSIZE, "\ufffd"),
    ]
    wanted = []
    for value, key, reason, name in poison:
        offset = trading.produce(BARS, 2, value, key)
        wanted.append((BARS, 2, offset, reason, name, value[:40_000]))
    trading.settle()
    letters = trading.records(DEAD_LETTERS, Refusal, 0)
    assert [
        (r.topic, r.partition, r.offset, r.reason, r.symbol, base64.b64decode(r.record)) for r in letters
    ] == wanted
    assert live.figures()["sluice_written_total", DEAD_LETTERS] == len(poison)
    trading.play(told[3:])
    said = trading.said()
    assert undisturbed.differences(said) == []


def test_a_journal_record_that_is_none_halts_the_account(start: Start, session: Path) -> None:
    trading = start()
    told = moments_of(session, trading.config, LAST)
    live = trading.live()
    trading.paper()
    trading.play(told[:4])
    offset = trading.produce(JOURNAL, 1, b"\x00 may have been a fill", b"live")
    trading.settle()
    assert halts(trading) == [(HaltLevel.ACTIVE, HaltLevel.HALTED)]
    assert live.figures()["sluice_halt_level",] == HaltLevel.HALTED
    (letter,) = trading.records(DEAD_LETTERS, Refusal, 0)
    assert (letter.topic, letter.partition, letter.offset) == (JOURNAL, 1, offset)
    assert base64.b64decode(letter.record) == b"\x00 may have been a fill"

    assert live.end()[0] == 0
    trading.produce(JOURNAL, 1, b"\x00 may have been a fill", b"live")  # the first thing that it will read
    live = trading.live()
    trading.settle()
    refused = [a for a in trading.records(ALERTS, Alert) if a.kind == AlertKind.COMMAND_REFUSED]
    assert [alert.limit for alert in refused] == [ControlRefusal.MALFORMED] * 2
    assert len(trading.records(DEAD_LETTERS, Refusal, 0)) == 2
    halted = trading.records(ALERTS, Alert)[0].time_ns
    trading.play(told[4:12])
    assert entries(trading, halted) == []
    assert live.figures()["sluice_halt_level",] == HaltLevel.HALTED


@pytest.mark.parametrize("value", [b"\x00", None])
def test_a_journal_may_begin_with_what_is_no_record(start: Start, session: Path, value: bytes | None) -> None:
    trading = start()
    trading.produce(JOURNAL, 1, value, b"live")
    trading.live()
    trading.paper()
    trading.settle()
    assert halts(trading) == [(HaltLevel.ACTIVE, HaltLevel.HALTED)]
    assert len(trading.records(DEAD_LETTERS, Refusal, 0)) == 1
    trading.play(moments_of(session, trading.config, LAST)[:3])
    assert trading.records(ORDERS, Order) == []


def halts(trading: Deployment) -> list[tuple[int, int]]:
    """Changes of the halt level, by its alerts."""
    found = [alert for alert in trading.records(ALERTS, Alert) if alert.kind == AlertKind.HALT_LEVEL]
    return [(alert.observed, alert.limit) for alert in found]


def entries(trading: Deployment, from_ns: int) -> list[Order]:
    orders = trading.records(ORDERS, Order)
    return [o for o in orders if (o.kind, o.intent) == (OrderKind.NEW, Intent.ENTRY) and o.time_ns >= from_ns]


# --- operators


def test_a_kill_file_sells_everything_at_once_and_for_good(
    start: Start, session: Path, tmp_path: Path
) -> None:
    trading = start(**PATIENT, venue__participation=Decimal("0.01"))  # an entry takes several bars
    told = moments_of(session, trading.config, LAST)
    control = tmp_path / "control"
    control.mkdir()
    live = trading.live(control=control)
    trading.paper()
    for played in range(8):
        trading.play(told[played : played + 1])
        if (held := holdings(trading)) and open_entries(trading):
            break
    else:
        raise AssertionError("nothing is held while an entry still works")
    before = len(trading.records(ORDERS, Order))
    resting = open_entries(trading)
    (control / KILL).touch()
    live.until(lambda: len(trading.messages(ALERTS)) == 2)
    trading.settle()
    level, command = sorted(trading.records(ALERTS, Alert), key=lambda alert: alert.kind)
    assert (level.kind, level.limit) == (AlertKind.HALT_LEVEL, HaltLevel.KILLED)
    assert (command.kind, command.limit) == (AlertKind.COMMAND, ControlAction.KILL)
    killed = trading.records(ORDERS, Order)[before:]
    assert {(o.kind, o.client_order_id) for o in killed} >= {(OrderKind.CANCEL, name) for name in resting}
    sold = {o.instrument: o.quantity for o in killed if o.kind == OrderKind.NEW and o.side == Side.SELL}
    assert {name: sold.get(name) for name in held} == held
    assert {o.time_ns for o in killed} == {level.time_ns}

    trading.play(told[played + 1 : played + 5])
    assert holdings(trading) == {}
    assert live.end()[0] == 0
    live = trading.live(control=control, bytewax=True)
    time.sleep(2.5)  # two looks at the folder
    trading.settle()
    trading.play(told[played + 5 : played + 8])
    assert live.figures()["sluice_halt_level",] == HaltLevel.KILLED
    assert entries(trading, level.time_ns) == []
    assert len(trading.messages(ALERTS)) == 2


def holdings(trading: Deployment) -> dict[str, int]:
    """Lots by instrument, by the venue's fills."""
    held: dict[str, int] = {}
    for report in trading.records(JOURNAL, Report):
        if report.kind == ExecutionKind.FILL:
            sign = 1 if report.side == Side.BUY else -1
            held[report.instrument] = held.get(report.instrument, 0) + sign * report.quantity
    return {name: lots for name, lots in held.items() if lots}


def open_entries(trading: Deployment) -> set[str]:
    """Entries that the venue may still fill."""
    over = {ExecutionKind.CANCELLED, ExecutionKind.EXPIRED, ExecutionKind.REJECTED}
    left = {o.client_order_id: o.quantity for o in entries(trading, 0)}
    for report in trading.records(JOURNAL, Report):
        if report.client_order_id in left:
            ended = report.kind in over or report.cumulative >= left[report.client_order_id]
            if ended:
                del left[report.client_order_id]
    return set(left)


def test_operators_halt_and_resume_a_live_account(start: Start, session: Path, tmp_path: Path) -> None:
    keys = {name: keygen(tmp_path, name) for name in ("alice", "bob")}
    trading = start(control={"keys": keys})
    told = moments_of(session, trading.config, LAST)
    control = tmp_path / "control"
    control.mkdir()
    live = trading.live(control=control)
    trading.paper()
    trading.play(told[:4])

    common = ["--config", trading.config_path, "--reason", "a test", "--key", tmp_path / "alice.pem"]
    operate("halt", control, *common)
    live.until(lambda: live.figures()["sluice_halt_level",] == HaltLevel.HALTED)
    halted = told[3].time_ns
    trading.settle()
    trading.play(told[4:8])
    assert [o for o in entries(trading, halted) if o.time_ns > halted + MINUTE // 2] == []

    assert live.end()[0] == 0
    live = trading.live(control=control)  # reads the command again
    operate("resume", control, *common, "--key", tmp_path / "bob.pem")
    live.until(
        lambda: live.figures()["sluice_halt_level",] == HaltLevel.ACTIVE and len(commands(trading)) == 2
    )
    trading.settle()
    trading.play(told[8:12])
    assert len(entries(trading, told[8].time_ns)) > 0

    assert live.end()[0] == 0
    trading.live(control=control)
    time.sleep(2.5)  # two looks at the folder
    trading.settle()
    assert commands(trading) == [ControlAction.HALT, ControlAction.RESUME]
    assert halts(trading) == [(HaltLevel.ACTIVE, HaltLevel.HALTED), (HaltLevel.HALTED, HaltLevel.ACTIVE)]
    assert len(trading.messages(ALERTS)) == 4


def commands(trading: Deployment) -> list[int]:
    """What operators have asked for and got, by alerts."""
    return [a.limit for a in trading.records(ALERTS, Alert) if a.kind == AlertKind.COMMAND]


def operate(*arguments: object) -> str:
    """Run a command of operators."""
    result = CliRunner(env={"COLUMNS": "150", PASSPHRASE: "secret"}).invoke(
        control_app, [str(a) for a in arguments]
    )
    assert result.exit_code == 0, result
    return result.output


def keygen(folder: Path, name: str) -> str:
    """Make a key; returns its public part."""
    line = operate("keygen", name, "--folder", folder).splitlines()[-1]
    return line.partition('"')[2].partition('"')[0]


# --- the end of the day


def test_a_dead_feed_is_sold_by_the_clock_alone(start: Start, session: Path) -> None:
    """The test is the gateway: a paper venue fills at bars, and there are none."""
    trading = start(**PATIENT)
    told = moments_of(session, trading.config, LAST)
    close_ns = told[-2].time_ns
    gateway = Gateway(trading)
    trading.live()
    for moment in told:
        trading.play([moment], bars=moment.time_ns <= close_ns - 5 * MINUTE)
        gateway.answer(moment.time_ns)
        if moment.time_ns == close_ns - 6 * MINUTE:
            assert holdings(trading) != {}
        if moment.time_ns == close_ns - MINUTE:
            assert holdings(trading) == {}
    assert len(gateway.exits) == 3
    assert gateway.exits[-1].time_ns < close_ns - MINUTE
    assert AlertKind.NOT_FLAT not in {alert.kind for alert in trading.records(ALERTS, Alert)}


class Gateway:
    """Refuses the first two exits, and fills every other order at its reference price."""

    def __init__(self, trading: Deployment):
        self.trading = trading
        self.asked: list[Order] = []

    def answer(self, time_ns: int) -> None:
        while news := self.trading.records(ORDERS, Order)[len(self.asked) :]:
            for order in news:
                self.asked.append(order)
                refuse = order.intent == Intent.EXIT and len(self.exits) <= 2
                if order.kind == OrderKind.NEW:
                    self._report(order, time_ns, ExecutionKind.REJECTED if refuse else ExecutionKind.FILL)
            self.trading.settle()

    @property
    def exits(self) -> list[Order]:
        return [o for o in self.asked if (o.kind, o.intent) == (OrderKind.NEW, Intent.EXIT)]

    def _report(self, order: Order, time_ns: int, kind: ExecutionKind) -> None:
        filled = order.quantity if kind == ExecutionKind.FILL else 0
        price = order.reference_price if filled else Decimal(0)
        report = Report(
            kind=kind,
            time_ns=time_ns,
            execution_id=len(self.asked),
            reference_id=0,
            client_order_id=order.client_order_id,
            instrument=order.instrument,
            order_ns=order.order_ns,
            intent=order.intent,
            attempt=order.attempt,
            side=order.side,
            quantity=filled,
            price=price,
            reference_price=price,
            fee=Decimal(0),
            cumulative=filled,
        )
        self.trading.produce(JOURNAL, 1, encode(report), b"live")


# --- the clock and the figures


def test_the_wall_clock_ticks_into_the_journal_and_no_publisher_is_needed(start: Start) -> None:
    trading = start(live__clock="wall")
    began = time.time_ns()
    live = trading.live(shard="account")
    live.until(lambda: len(trading.messages(JOURNAL)) >= 3)
    ticks = [decode(Tick, value) for value in trading.messages(JOURNAL)]
    times = [tick.time_ns for tick in ticks if isinstance(tick, Tick)]
    assert len(times) == len(ticks)
    assert times == sorted(set(times))
    assert {at % 1_000_000_000 for at in times} == {0}
    assert began <= times[0] <= times[-1] <= time.time_ns()


def test_figures_are_those_of_the_topics(start: Start, session: Path) -> None:
    trading = start()
    told = moments_of(session, trading.config, LAST)
    live = trading.live()
    trading.paper()
    trading.play(told[:6] + told[-16:-12])
    trading.produce(BARS, 0, b"poison", b"QQQ")
    trading.settle()
    time.sleep(1.1)  # ends of partitions are looked at every second
    found = live.figures()
    bars = sum(len(moment.bars) for moment in told[:6] + told[-16:-12])
    orders, decisions = trading.records(ORDERS, Order), trading.records(DECISIONS, Decision)
    refused = [d.reason.name.lower() for d in decisions if d.outcome == Outcome.REFUSED]
    assert "entries_stopped" in refused
    assert found["sluice_bars_total",] == bars
    assert found["sluice_last_bar_seconds",] == told[-13].time_ns / 1e9
    assert found["sluice_written_total", ORDERS] == len(orders) > 5
    assert found["sluice_written_total", DECISIONS] == len(decisions)
    assert found["sluice_written_total", JOURNAL] == len(trading.records(JOURNAL, MarketSlice))
    assert found["sluice_written_total", DEAD_LETTERS] == 1
    counted = {
        labels[0]: value for (name, *labels), value in found.items() if name == "sluice_refusals_total"
    }
    assert counted == {reason: refused.count(reason) for reason in set(refused)}
    assert found["sluice_halt_level",] == HaltLevel.ACTIVE
    assert found["sluice_position", "1", JOURNAL] == trading.ends()[JOURNAL]
    lags = [value for (name, *_), value in found.items() if name == "sluice_lag_records"]
    assert lags == [0, 0, 0, 0]
    live.until(lambda: live.figures()["sluice_epochs_total",] > found["sluice_epochs_total",])
    later = live.figures()
    assert later["sluice_polls_total",] > found["sluice_polls_total",] > 0
    assert 0 < later["sluice_longest_epoch_stall_seconds",] <= later["sluice_epoch_stall_seconds_total",] < 60
    assert 0 < found["sluice_newest_record_age_seconds",] < 600


def test_figures_are_served_on_this_machine_alone_and_say_what_is_not_read_yet() -> None:
    source: Any = SimpleNamespace(
        polls=7,
        newest_ms=0,
        positions={(BARS, 3): 5},
        high_watermarks={(BARS, 3): 9},
        epochs=3,
        stalled=0.5,
        longest_stall=0.25,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serve_metrics(Metrics(port=port), source, Figures()):
        found = Process.figures(SimpleNamespace(url=f"http://127.0.0.1:{port}"))  # type: ignore[arg-type]
        with socket.socket() as elsewhere:
            assert elsewhere.connect_ex(("127.0.0.2", port)) != 0
    assert found["sluice_lag_records", "3", BARS] == 4
    assert found["sluice_position", "3", BARS] == 5
    assert found["sluice_polls_total",] == 7
    assert found["sluice_epochs_total",] == 3
    assert found["sluice_epoch_stall_seconds_total",] == 0.5
    assert found["sluice_longest_epoch_stall_seconds",] == 0.25
