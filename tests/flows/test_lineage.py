"""`sluice explain`: what it says of a bar is what the replay did at it."""

import base64
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import typer
from click.testing import Result as Invoked
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from replay_fixtures import MINUTE, UNLIMITED, write_toml
from rich.console import Console
from typer.testing import CliRunner

from connectors.calendars import load_sessions
from connectors.config_file import load_config
from connectors.control_files import append_command
from connectors.recording import BAR_SCHEMA, create_recording, write_bars
from connectors.synthetic import Family, generate
from flows import lineage
from flows.explain_cli import explain_command, parse_time
from flows.explain_words import ALLOWED, REDUCED, REFUSED, TRIPPED, Units
from flows.explanation import Explanation, explain
from flows.lineage import LineageError, open_result
from flows.replay import prepare
from flows.run import run
from operators import account as account_stage
from operators.control import sign_command
from schemas.codecs import encode
from schemas.codes import GATES, Breaker, Reason, Stage
from schemas.commands import Command
from schemas.config import parse_config

Configuration = Callable[..., dict[str, Any]]

NEW_YORK = ZoneInfo("America/New_York")
DAY, NEXT_DAY = "2024-11-29", "2024-12-02"  # the first is a half day, to 13:00
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))


def at(clock: str, day: str = DAY) -> int:
    """A time of New York in ns."""
    return parse_time(f"{day} {clock}", NEW_YORK)


def between(symbol: str, first: str, last: str, day: str = DAY) -> pl.Expr:
    """Bars of `symbol` that end from `first` to `last`."""
    end_ns = pl.col("end_ns").to_physical()
    return (pl.col("symbol") == symbol) & end_ns.is_between(at(first, day), at(last, day))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half day and a whole one. PSQ has a gap from 10:31 to 10:40, no number at 11:00, and comes twice at
    11:05; on the next day, TQQQ begins at 09:36 and has nothing more from 15:50 on.
    """
    folder = tmp_path_factory.mktemp("lineage") / "recording"
    sessions = load_sessions("XNYS", date(2024, 11, 1), date(2024, 12, 31))
    create_recording(folder, MINUTE, "synthetic, for explanations")
    for frame in generate(sessions, [FAMILY], date(2024, 11, 29), 2, seed=11):
        gaps = between("PSQ", "10:31", "10:40") | between("TQQQ", "09:31", "09:35", NEXT_DAY)
        gaps |= between("TQQQ", "15:50", "16:00", NEXT_DAY)
        bad = pl.when(between("PSQ", "11:00", "11:00")).then(float("nan")).otherwise(pl.col("close"))
        twice = frame.filter(between("PSQ", "11:05", "11:05"))
        rows = pl.concat([frame.filter(~gaps).with_columns(close=bad), twice])
        write_bars(folder, rows.sort("start_ns", maintain_order=True).select(list(BAR_SCHEMA)))
    return folder


def replayed(recording: Path, configuration: dict[str, Any], folder: Path, **more: Any) -> Path:
    """The folder of a result, whose configuration is a file beside it."""
    path = write_toml(folder / "config.toml", configuration)
    ready = prepare(recording, load_config(path), folder / "out", config_path=path, **more)
    assert run(ready, Console(quiet=True), quiet=True) is not None
    return folder / "out"


@pytest.fixture(scope="module")
def toggle(recording: Path, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with orders on many bars."""
    return replayed(recording, configuration("toggle", **UNLIMITED), tmp_path_factory.mktemp("toggle"))


def explained(out: Path, symbol: str, time_ns: int) -> Explanation:
    return explain(open_result(out), symbol, time_ns, NEW_YORK, lambda _done, _days: None)


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(out / f"{name}.parquet").with_columns(
        pl.col(pl.Categorical).cast(pl.String), pl.col(pl.Datetime).to_physical()
    )


def of(rows: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return rows.select(columns).rows()


# --- agreement with the result


def bar_ends(seed: int, out: Path) -> Iterator[tuple[str, int]]:
    """Fifty bars at random, and fifty at which something was decided."""
    chance = random.Random(seed)
    ends = [at("09:30") + k * MINUTE for k in range(1, 211)]
    ends += [at("09:30", NEXT_DAY) + k * MINUTE for k in range(1, 21)]
    decided = table(out, "decisions").filter((pl.col("instrument") != "") & pl.col("time_ns").is_in(ends))
    for _ in range(50):
        yield chance.choice(("QQQ", "TQQQ", "PSQ", "SQQQ")), chance.choice(ends)
        yield chance.choice(of(decided, "instrument", "time_ns"))


def test_a_hundred_bars_are_explained_as_they_were_decided(
    toggle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "WINDOW_ROWS", 1)
    monkeypatch.setattr(lineage, "WINDOW_ROWS_A_SYMBOL", 1)  # every day a window of its own
    tables = {name: table(toggle, name) for name in ("orders", "decisions", "executions")}
    ordered = 0
    for symbol, time_ns in bar_ends(3, toggle):
        said = explained(toggle, symbol, time_ns)
        mine = pl.col("instrument") == symbol
        orders = tables["orders"].filter(mine & (pl.col("time_ns") == time_ns))
        decisions = tables["decisions"].filter(mine & (pl.col("time_ns") == time_ns))
        came = tables["executions"].filter(mine & (pl.col("known_ns") == time_ns))
        followed = tables["executions"].filter(
            pl.col("client_order_id").is_in(orders["client_order_id"].implode())
        )

        assert said.differences == []
        columns = ("client_order_id", "kind", "side", "quantity", "sequence")
        assert [tuple(row[name] for name in columns) for row in said.orders] == of(orders, *columns)
        columns = ("stage", "outcome", "reason", "target", "approved", "position", "observed", "limit")
        assert [tuple(row[name] for name in columns) for row in said.decisions if row["instrument"]] == of(
            decisions, *columns
        )
        columns = ("number", "kind", "quantity", "position")
        assert [tuple(row[name] for name in columns) for row in said.executions] == of(came, *columns)
        assert [tuple(row[name] for name in columns) for row in said.followed] == of(followed, *columns)
        assert said.sentence.startswith("No order") == orders.is_empty()
        ordered += not orders.is_empty()
        assert_gates_lead_to(said, decisions)
    assert 20 < ordered < 80


def assert_gates_lead_to(said: Explanation, decisions: pl.DataFrame) -> None:
    """The gates end in the decision: the first that refused, or the last that reduced, is the one named."""
    asked = [gate for gate in said.gates if gate.asked]
    entries = decisions.filter(pl.col("outcome") != "approved").rows(named=True)
    if not said.gates:
        assert entries == []
        return
    assert [gate.stage for gate in said.gates] == [stage.name.lower() for stage in GATES]
    assert asked == said.gates[: len(asked)]
    for before, after in pairwise(asked):
        assert after.wanted == before.allowed > 0
    for row in entries:
        deciding = [gate for gate in asked if gate.verdict != "allowed"][-1]
        assert (deciding.stage, deciding.reason) == (row["stage"], row["reason"])
        assert (deciding.observed, deciding.limit) == (row["observed"], row["limit"])
        assert asked[-1].allowed == row["approved"] - row["position"]


def test_the_bar_is_the_one_of_the_recording(toggle: Path, recording: Path) -> None:
    said = explained(toggle, "TQQQ", at("11:31"))
    bars = pl.read_parquet(recording / "topic=bars" / f"day={DAY}" / "*.parquet")
    (bar,) = bars.filter(between("TQQQ", "11:31", "11:31")).rows(named=True)
    assert said.bar is not None
    assert said.absent == ""
    assert (said.bar.start, said.bar.end) == (f"{DAY} 11:30:00-05:00", f"{DAY} 11:31:00-05:00")
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(said.bar, name) == bar[name]


def test_indicators_have_the_names_and_the_values_the_strategy_reads(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    out = replayed(recording, configuration("ema_cross"), tmp_path)
    (signal,) = explained(out, "TQQQ", at("12:00")).signals
    bars = pl.read_parquet(recording / "topic=bars" / f"day={DAY}" / "*.parquet")
    closes = bars.filter(between("QQQ", "09:31", "12:00")).sort("end_ns")["close"].to_list()

    def ema(n: int) -> float:
        value = sum(closes[:n]) / n
        for close in closes[n:]:
            value += (close - value) * 2 / (n + 1)
        return float(value)

    assert signal.features == pytest.approx({"ema(n=10, seed=1)": ema(10), "ema(n=30, seed=1)": ema(30)})
    assert signal.raw == (1.0 if ema(10) > ema(30) else -1.0)
    assert (signal.strategy, signal.reads, signal.trades, signal.moves) == (
        "ema_cross",
        "QQQ",
        "family QQQ",
        True,
    )


def test_a_strategy_that_warms_up_has_pending_indicators(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    out = replayed(recording, configuration("ema_cross"), tmp_path)
    said = explained(out, "TQQQ", at("09:45"))
    assert said.sentence == "No order: the strategy is warming up"
    (signal,) = said.signals
    assert signal.features["ema(n=10, seed=1)"] is not None
    assert (signal.features["ema(n=30, seed=1)"], signal.raw, signal.verdict) == (None, None, "pending")


# --- gates that refuse

LOSING = {"breakers__consecutive_losses": {"count": 1, "pause_minutes": 10}}
FEW_MESSAGES = {"gates__messages": {"burst": 2, "per_minute": 1, "reserved_share": Decimal("0.5")}}
THREE_AT_ONCE = {
    "families": [],
    "strategies__0__family": None,
    "strategies__0__signals": ["QQQ", "TQQQ", "PSQ"],
}
SMALL = {"gates__size__max_position_value": 1_000, "gates__size__min_order_value": 1_000}
FAULTS = ("reject", "partial", "delay", "lose", "duplicate", "fill_after_cancel", "unknown", "vanish", "bust")
BAD_VENUE = {"venue__faults": {"seed": 2, **dict.fromkeys(FAULTS, Decimal("0.05"))}}


@pytest.mark.parametrize(
    ("strategy", "changes", "stage", "words"),
    [
        ("toggle", UNLIMITED, "session", r"\d+ min left, entries stop at 15 min"),
        ("constant", {}, "freshness", r"the last bar is 68 h 31 min old, at most 90 s is allowed"),
        ("sigor", {}, "conflict", r"[\d,]+ of the family's other side are held or could fill"),
        (
            "toggle",
            {"gates__frequency__openings_per_day": 3},
            "frequency",
            r"openings: 3, another one is allowed below 3",
        ),
        ("toggle", SMALL, "size", r"[\d,]+ wanted, the largest position leaves room for \d+"),
        (
            "toggle",
            {"gates__size__min_order_value": 99_000},
            "cash",
            r"costs [\d,.]+ USD at worst, 9\d,[\d.]+ USD is free",
        ),
        ("toggle", UNLIMITED | LOSING, "breakers", r"losses in a row: 1, the limit is 1"),
        ("constant", THREE_AT_ONCE | FEW_MESSAGES, "messages", r"messages left: 1, needed: 2"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_refusal_names_the_gate_and_its_numbers(
    strategy: str,
    changes: dict[str, Any],
    stage: str,
    words: str,
    recording: Path,
    configuration: Configuration,
    tmp_path: Path,
) -> None:
    out = replayed(recording, configuration(strategy, **changes), tmp_path)
    refused = table(out, "decisions").filter((pl.col("outcome") == "refused") & (pl.col("stage") == stage))
    assert not refused.is_empty(), table(out, "decisions")["stage"].value_counts()
    row = refused.row(0, named=True)
    said = explained(out, row["instrument"], row["time_ns"])
    assert said.differences == []
    assert re.fullmatch(f"No order: refused by the {stage} gate: {words}.*", said.sentence), said.sentence
    names = [gate.stage for gate in said.gates]
    assert [gate.stage for gate in said.gates if not gate.asked] == names[names.index(stage) + 1 :]
    (deciding,) = (gate for gate in said.gates if gate.stage == stage)
    assert (deciding.verdict, deciding.allowed) == ("refused", 0)
    assert (deciding.observed, deciding.limit) == (row["observed"], row["limit"])


def test_a_bad_venue_is_explained_as_it_was(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    out = replayed(recording, configuration("toggle", **UNLIMITED | BAD_VENUE), tmp_path)
    alerts = table(out, "alerts").filter(pl.col("instrument") == "TQQQ")
    assert len(alerts) > 5
    for time_ns in alerts["time_ns"].unique().sort().head(12):
        said = explained(out, "TQQQ", time_ns)
        assert said.differences == []
        assert [row["kind"] for row in said.alerts] == of_kind(alerts, time_ns)


def of_kind(alerts: pl.DataFrame, time_ns: int) -> list[str]:
    return alerts.filter(pl.col("time_ns") == time_ns)["kind"].to_list()


# --- commands


def commanded(recording: Path, configuration: Configuration, folder: Path, **clocks: str) -> Path:
    """A result with commands, each given at its time."""
    key = Ed25519PrivateKey.from_private_bytes(b"alice".ljust(32))
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    control = folder / "control"
    control.mkdir()
    for action, clock in clocks.items():
        fields = {"account": "test", "command_id": at(clock), "action": action, "expires_ns": at("13:00")}
        names = dict.fromkeys(("breaker", "strategy", "instrument", "limit"), "")
        command = Command.model_validate(
            {**fields, **names, "issuer": "alice", "reason": "a test", "value": "0", "signatures": []}
        )
        append_command(control, encode(sign_command(command, "alice", key)))
    data = configuration("toggle", **UNLIMITED, control={"keys": {"alice": public}})
    return replayed(recording, data, folder, control=control)


def test_commands_are_run_again(recording: Path, configuration: Configuration, tmp_path: Path) -> None:
    out = commanded(recording, configuration, tmp_path, reduce="10:30:17", halt="11:30")
    before = explained(out, "TQQQ", at("10:31"))
    assert before.account.level == "reducing"
    assert [(row["table"], row["kind"]) for row in before.earlier] == [
        ("alerts", "halt_level"),
        ("alerts", "command"),
    ]
    assert before.earlier[0]["time_ns"] == f"{DAY} 10:30:17-05:00"

    refused = table(out, "decisions").filter(pl.col("stage") == "halt_level", pl.col("outcome") == "refused")
    said = explained(out, "TQQQ", refused["time_ns"][0])
    assert said.sentence == "No order: refused by the halt level gate: the account only reduces"

    halted = [explained(out, "TQQQ", at(f"11:{minute}")) for minute in range(31, 39)]
    assert {said.account.level for said in halted} == {"halted"}
    assert "No order: the account is halted, so signals do not count; 0 held" in {
        said.sentence for said in halted
    }


def test_a_killed_account_says_so(recording: Path, configuration: Configuration, tmp_path: Path) -> None:
    out = commanded(recording, configuration, tmp_path, kill="10:00")
    sentences = {explained(out, "TQQQ", at(f"10:{minute}")).sentence for minute in range(10, 18)}
    why = "a command or a kill sells everything"
    assert f"No order: nothing is held and nothing may be opened: {why}" in sentences


# --- bars without an order


def test_a_quiet_bar(recording: Path, configuration: Configuration, tmp_path: Path) -> None:
    out = replayed(recording, configuration("constant"), tmp_path)
    said = explained(out, "TQQQ", at("11:31"))
    held = table(out, "executions").filter(pl.col("known_ns") <= at("11:31"))["position"][-1]
    assert said.sentence == f"No order: the position is its target, {held:,}"
    assert (said.gates, said.decisions, said.orders) == ([], [], [])
    assert said.allocation.sleeves[0].tier == "bull 2, from probability 0.75: TQQQ"
    other = explained(out, "SQQQ", at("11:31"))
    assert other.sentence == "No order: the signal passed, +1.000, and chose TQQQ"


def test_the_signal_filter_says_what_it_compared(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    changes = {"strategies__0__filter__min_score": Decimal("0.9")}
    out = replayed(recording, configuration("sigor", **changes), tmp_path)
    result = open_result(out)
    verdicts = {}
    for minute in range(61, 120):
        time_ns = at("09:30") + minute * MINUTE
        (signal,) = explain(result, "TQQQ", time_ns, NEW_YORK, lambda _done, _days: None).signals
        verdicts[signal.verdict] = signal
        if len(verdicts) > 1 and "refused_noise" in verdicts:
            break
    noise = verdicts["refused_noise"]
    assert noise.score is not None
    assert abs(noise.score) <= noise.floor
    assert noise.floor >= 0.9
    assert (
        noise.words
        == f"the filter refused the signal as noise: {abs(noise.score):.3f} is not above {noise.floor:.3f}"
    )


def test_a_cool_down_says_how_long(toggle: Path) -> None:
    waits = {}
    for minute in range(20, 40):
        (signal,) = explained(toggle, "QQQ", at("09:30") + minute * MINUTE).signals
        if signal.verdict == "refused_cooldown":
            waits[minute] = signal
    assert waits
    for signal in waits.values():
        assert 1 <= signal.wait <= 4
        assert signal.words.startswith("the filter refused the signal in the cool-down, ")
        assert f"{signal.wait} bar" in signal.words


def test_a_bar_that_is_a_dead_letter(toggle: Path) -> None:
    said = explained(toggle, "PSQ", at("11:00"))
    assert said.bar is None
    assert said.sentence == (
        "No order: there is no bar of PSQ at 11:00: it was refused and is a dead letter: not finite"
    )
    (letter,) = said.dead_letters
    assert (letter["symbol"], letter["reason"], letter["close"]) == ("PSQ", "not_finite", "nan")


def test_a_bar_that_came_twice_has_a_dead_letter_beside_it(toggle: Path) -> None:
    said = explained(toggle, "PSQ", at("11:05"))
    assert said.bar is not None
    assert [letter["reason"] for letter in said.dead_letters] == ["duplicate"]


def test_a_gap(toggle: Path) -> None:
    said = explained(toggle, "PSQ", at("10:35"))
    assert said.bar is None
    assert said.absent == "the recording has a gap: the last one ended at 10:30, the next one at 10:41"
    assert said.sentence == f"No order: there is no bar of PSQ at 10:35: {said.absent}"


def test_an_exit_that_the_clock_asked_for(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    out = replayed(recording, configuration("constant"), tmp_path)
    said = explained(out, "TQQQ", at("15:55", NEXT_DAY))
    assert said.bar is None
    assert "the last one ended at 15:49" in said.absent
    # A price six minutes old sets no limit.
    assert re.fullmatch(r"Order: sell [\d,]+ TQQQ,? at the market, because the end of the day", said.sentence)
    assert said.allocation.stage == "session"
    assert said.account.day_phase == "exits"
    assert said.account.to_close == "5 min"


def test_outside_the_session(toggle: Path) -> None:
    said = explained(toggle, "TQQQ", at("18:00"))
    assert said.sentence == ("No order: there is no bar of TQQQ at 18:00: this time lies outside the session")
    assert (said.bar, said.decisions, said.gates) == (None, [], [])


def test_a_time_within_a_bar_is_that_bar(toggle: Path) -> None:
    said = explained(toggle, "TQQQ", at("11:30:20"))
    assert said.time_ns == at("11:31")
    assert said.note == "11:30:20 is no bar end; the bar that contains it ends at 11:31"
    assert explained(toggle, "TQQQ", at("11:31")).note == ""
    assert explained(toggle, "TQQQ", at("09:30")).time_ns == at("09:31")


def test_the_close_shows_the_hash_of_the_state(toggle: Path) -> None:
    said = explained(toggle, "TQQQ", at("13:00"))
    assert [row["reason"] for row in said.decisions if not row["instrument"]] == ["state_hash"]
    assert said.differences == []


def test_an_instrument_that_no_strategy_trades(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    data = configuration("constant", families=[])
    data["strategies"][0].pop("family")
    out = replayed(recording, data, tmp_path)
    assert explained(out, "SQQQ", at("11:31")).sentence == "No order: no strategy trades SQQQ"


# --- what cannot be explained


def test_an_unknown_instrument(toggle: Path) -> None:
    with pytest.raises(LineageError, match=r"'SPY' is no instrument.*QQQ, TQQQ, PSQ, SQQQ"):
        explained(toggle, "SPY", at("11:31"))


@pytest.mark.parametrize("day", ["2024-11-27", "2024-12-03", "1970-01-05"])
def test_a_day_that_was_not_replayed(toggle: Path, day: str) -> None:
    with pytest.raises(LineageError, match=r"covers 2024-11-29 to 2024-12-02"):
        explained(toggle, "TQQQ", at("11:31", day))


def test_a_folder_without_a_result(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match=r"no finished replay"):
        open_result(tmp_path)
    (tmp_path / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(LineageError, match=r"cannot be read"):
        open_result(tmp_path)
    (tmp_path / "summary.json").write_text('{"recording": "r"}', encoding="utf-8")
    with pytest.raises(LineageError, match=r"does not say what it was made from"):
        open_result(tmp_path)


def test_a_changed_configuration_is_refused(
    toggle: Path, configuration: Configuration, tmp_path: Path
) -> None:
    other = write_toml(tmp_path / "other.toml", configuration("toggle"))
    with pytest.raises(LineageError, match=r"other\.toml is not the configuration of .*--config"):
        open_result(toggle, config=other)


def test_a_changed_recording_is_refused(toggle: Path, tmp_path: Path) -> None:
    out = shutil.copytree(toggle, tmp_path / "out")
    made = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    for known in (open_result(toggle).bars.identity, "0" * 64):
        (out / "summary.json").write_text(json.dumps(made | {"recording_hash": known}), encoding="utf-8")
        if known.startswith("0" * 12):
            with pytest.raises(LineageError, match=r"does not hold the bars of .*--recording"):
                open_result(out)
        else:
            assert open_result(out).bars.identity == known


def test_a_moved_configuration_and_a_moved_recording_are_asked_for(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    there = shutil.copytree(recording, tmp_path / "there")
    out = replayed(there, configuration("constant"), tmp_path)
    moved_config = (tmp_path / "config.toml").rename(tmp_path / "moved.toml")
    with pytest.raises(LineageError, match=r"config\.toml.* is not there.*--config"):
        open_result(out)
    moved = there.rename(tmp_path / "elsewhere")
    with pytest.raises(LineageError, match=r"there.* is not there.*--recording"):
        open_result(out, config=moved_config)
    result = open_result(out, moved, moved_config)
    assert explain(result, "TQQQ", at("11:31"), NEW_YORK, lambda _done, _days: None).differences == []


def test_a_result_without_a_place_for_its_configuration_asks_for_it(
    recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    data = configuration("constant")
    ready = prepare(recording, parse_config(data), tmp_path / "out")
    assert run(ready, Console(quiet=True), quiet=True) is not None
    with pytest.raises(LineageError, match=r"does not say where its configuration is.*--config"):
        open_result(tmp_path / "out")
    assert open_result(tmp_path / "out", config=write_toml(tmp_path / "c.toml", data)).commands[0].size == 0


# --- the command


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(explain_command)
    return app


def invoked(app: typer.Typer, *words: str | Path) -> Invoked:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_page_shows_everything_from_the_bar_to_the_executions(app: typer.Typer, toggle: Path) -> None:
    entries = table(toggle, "orders").filter(pl.col("intent") == "entry")
    order = entries.row(0, named=True)
    clock = datetime.fromtimestamp(order["time_ns"] / 1e9, NEW_YORK).strftime("%Y-%m-%d %H:%M")
    ended = invoked(app, toggle, "--symbol", order["instrument"], "--at", clock)
    assert ended.exit_code == 0, ended
    places = [
        ended.stdout.index(title)
        for title in ("Order: buy", "Bar", "Signal of toggle", "Allocation", "Gates", "Decisions", "Orders")
    ]
    assert places == sorted(places)
    assert ended.stdout.count(order["client_order_id"]) >= 2  # the order and its fill
    for stage in GATES:
        assert stage.name.lower().replace("_", " ") in ended.stdout


def test_json_is_one_object_with_all_of_it(app: typer.Typer, toggle: Path) -> None:
    ended = invoked(app, toggle, "-s", "TQQQ", "-t", "2024-11-29T16:31Z", "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout) == asdict(explained(toggle, "TQQQ", at("11:31")))


def test_a_result_that_says_something_else_is_shown_and_refused(
    app: typer.Typer, toggle: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(toggle, tmp_path / "out")
    decisions = pl.read_parquet(out / "decisions.parquet")
    row = decisions.with_row_index().filter(pl.col("outcome").cast(pl.String) == "refused").row(0, named=True)
    changed = pl.when(pl.col("sequence") == row["sequence"]).then(pl.col("observed") + 1)
    decisions.with_columns(observed=changed.otherwise(pl.col("observed"))).write_parquet(
        out / "decisions.parquet"
    )
    time = row["time_ns"].isoformat()
    ended = invoked(app, out, "-s", row["instrument"], "-t", time, "--json")
    assert isinstance(ended.exception, LineageError)
    assert "was made by other code, other bars or other commands" in str(ended.exception)
    (difference,) = json.loads(ended.stdout)["differences"]
    assert difference.startswith("decisions: ")


# --- times and words


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-03-11 10:31", "2025-03-11T14:31"),
        ("2025-03-11T10:31:30", "2025-03-11T14:31:30"),
        ("2025-03-11T14:31Z", "2025-03-11T14:31"),
        ("2025-03-11 15:31+01:00", "2025-03-11T14:31"),
        ("2025-01-11 10:31", "2025-01-11T15:31"),
    ],
)
def test_times(text: str, utc: str) -> None:
    assert parse_time(text, NEW_YORK) == np.datetime64(utc, "ns").astype(np.int64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "is no time"),
        ("2025-03-11", "without a time"),
        ("0001-01-01 00:00", "no time of a replay"),
        ("9999-12-31 23:59", "no time of a replay"),
        ("2025-03-09 02:30", "does not exist in America/New_York"),
        ("2025-11-02 01:30", "comes twice in America/New_York"),
    ],
)
def test_times_that_mean_no_moment(text: str, words: str) -> None:
    with pytest.raises(LineageError, match=words):
        parse_time(text, NEW_YORK)


def test_everything_that_can_be_said_has_words() -> None:
    unsaid = {Reason.NONE, Reason.STATE_HASH, Reason.UNKNOWN_OUTCOME, Reason.MISSING_FILL}
    assert set(Reason) - set(REFUSED) - set(REDUCED) == unsaid
    assert set(ALLOWED) == set(GATES)
    assert set(TRIPPED) == set(Breaker)


@pytest.mark.parametrize(
    ("ns", "words"),
    [
        (0, "0 s"),
        (90 * 10**9, "90 s"),
        (2 * MINUTE, "2 min"),
        (14 * MINUTE + 5 * 10**9, "14 min 5 s"),
        (119 * MINUTE, "119 min"),
        (150 * MINUTE, "2 h 30 min"),
    ],
)
def test_lengths_of_time(ns: int, words: str) -> None:
    units = Units("USD", str)
    assert units.span(ns) == words
    assert units.gate(Stage.SESSION, Reason.NONE, ns, MINUTE) == f"{words} left, entries stop at 60 s"


def test_openings_that_are_spaced_out_have_a_time() -> None:
    now = at("11:31")
    said = Units("USD", str).gate(Stage.BREAKERS, Reason.UNUSUAL_TRADING, now, now + MINUTE)
    assert said == f"openings of the strategy are spaced out, the next one not before {now + MINUTE}"


def test_watching_leaves_the_program_as_it_is(toggle: Path) -> None:
    before = account_stage.decide_entries, account_stage.desired, account_stage.judge_entry
    explained(toggle, "TQQQ", at("11:31"))
    assert (account_stage.decide_entries, account_stage.desired, account_stage.judge_entry) == before
