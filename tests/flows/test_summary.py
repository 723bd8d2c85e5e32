import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replay_fixtures import TABLES, Result, last_json, replay, sluice, write_toml

from schemas.codes import AlertKind, Breaker, Intent, OrderKind, Outcome, Reason, Side, Stage
from schemas.config import parse_config

Configuration = Callable[..., dict[str, Any]]

TIME = pa.timestamp("ns", "UTC")
MONEY = pa.decimal128(18, 6)
TEXT = pa.dictionary(pa.int32(), pa.string())
COUNT = pa.int64()

SCHEMAS: dict[str, dict[str, pa.DataType]] = {
    "orders": {
        "sequence": COUNT,
        "time_ns": TIME,
        "kind": TEXT,
        "client_order_id": pa.string(),
        "instrument": TEXT,
        "strategy": TEXT,
        "order_ns": TIME,
        "intent": TEXT,
        "attempt": COUNT,
        "side": TEXT,
        "quantity": COUNT,
        "limit_price": MONEY,
        "reference_price": MONEY,
        "expires_ns": TIME,
        "decision": COUNT,
    },
    "executions": {
        "number": COUNT,
        "execution_id": COUNT,
        "reference_id": COUNT,
        "time_ns": TIME,
        "known_ns": TIME,
        "kind": TEXT,
        "client_order_id": pa.string(),
        "instrument": TEXT,
        "order_ns": TIME,
        "intent": TEXT,
        "attempt": COUNT,
        "side": TEXT,
        "quantity": COUNT,
        "price": MONEY,
        "reference_price": MONEY,
        "fee": MONEY,
        "cumulative": COUNT,
        "leaves": COUNT,
        "late": COUNT,
        "position": COUNT,
        "cash": MONEY,
    },
    "decisions": {
        "sequence": COUNT,
        "time_ns": TIME,
        "instrument": TEXT,
        "strategy": TEXT,
        "stage": TEXT,
        "outcome": TEXT,
        "reason": TEXT,
        "target": COUNT,
        "approved": COUNT,
        "position": COUNT,
        "reference_price": MONEY,
        "observed": COUNT,
        "limit": COUNT,
    },
    "alerts": {
        "sequence": COUNT,
        "time_ns": TIME,
        "kind": TEXT,
        "breaker": TEXT,
        "instrument": TEXT,
        "strategy": TEXT,
        "observed": COUNT,
        "limit": COUNT,
    },
    "equity": {
        "time_ns": TIME,
        "cash": MONEY,
        "position_value": MONEY,
        "equity": MONEY,
        "realised_pnl": MONEY,
        "fees": MONEY,
        "costs": MONEY,
    },
}
INSTRUMENTS = ["QQQ", "TQQQ", "PSQ", "SQQQ"]
CODES = {
    "breaker": Breaker,
    "intent": Intent,
    "side": Side,
    "stage": Stage,
    "outcome": Outcome,
    "reason": Reason,
}


@pytest.fixture(scope="module")
def result(
    dirty_recording: Path, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    return replay(dirty_recording, configuration(), tmp_path_factory.mktemp("summary") / "out")


def test_summary_has_every_figure(result: Result) -> None:
    written = json.loads((result.out / "summary.json").read_text(encoding="utf-8"))
    assert written == result.summary
    counts = ("bars", "orders", "fills")
    figures = ("fills_per_480_bars", "pnl", "max_drawdown", "seconds", "bars_per_second")
    assert all(type(written[key]) is int and written[key] > 0 for key in counts)
    assert all(isinstance(written[key], int | float) for key in figures)
    assert list(written["principles"]) == ["P1", "P2", "P3", "P4", "P5"]
    for row in written["principles"].values():
        assert row["held"] is True
        assert row["breaches"] == 0
        assert row["evidence"]
    assert len(written["digest"]) == len(written["config_hash"]) == 64
    assert written["funnel"]["bars"] == written["bars"]


def test_config_hash_is_the_hash_of_the_configuration_used(
    result: Result, configuration: Configuration
) -> None:
    assert result.summary["config_hash"] == parse_config(configuration()).hash
    assert result.summary["config_hash"] != parse_config(configuration(account__cash=1)).hash


def test_bars_and_dead_letters_add_up_to_the_rows_of_the_recording(
    result: Result, dirty_recording: Path
) -> None:
    rows = sum(pq.read_metadata(path).num_rows for path in dirty_recording.rglob("*.parquet"))
    assert result.summary["bars"] + sum(result.summary["dead_letters"].values()) == rows
    letters = result.table("dead_letters")
    assert dict(letters["reason"].value_counts().iter_rows()) == result.summary["dead_letters"]


def test_funnel_narrows_and_accounts_for_what_it_loses(result: Result) -> None:
    funnel = result.summary["funnel"]
    assert funnel["signals"] == funnel["passed_filter"] + sum(funnel["refused_by_filter"].values())
    assert funnel["bars"] > funnel["signals"] > funnel["passed_filter"] > funnel["targets"] > 0
    decisions = result.table("decisions")
    refused = decisions.filter(pl.col("outcome") == "refused").group_by("stage").len()
    assert dict(refused.iter_rows()) == funnel["refused_by_gate"]
    assert funnel["orders"] == result.table("orders").filter(pl.col("kind") == "new").height
    assert funnel["fills"] == result.table("executions").filter(pl.col("kind") == "fill").height


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_documented_types_in_arrow_and_polars(name: str, result: Result) -> None:
    schema = pq.read_table(result.out / f"{name}.parquet").schema
    assert {field.name: field.type for field in schema} == SCHEMAS[name]
    frame = result.table(name)
    assert frame.height > 0 or name == "alerts"  # a calm run has none
    assert frame.null_count().sum_horizontal().item() == 0
    for column, kind in SCHEMAS[name].items():
        expected = {
            TIME: pl.Datetime("ns", "UTC"),
            MONEY: pl.Decimal(18, 6),
            COUNT: pl.Int64(),
            pa.string(): pl.String(),
        }.get(kind)
        given = frame.schema[column]
        assert given == expected if expected else given in (pl.Categorical, pl.Enum), column


def test_client_order_ids_are_unique_and_made_of_their_parts(result: Result) -> None:
    orders = result.table("orders").filter(pl.col("kind") == "new")
    assert not orders["client_order_id"].is_duplicated().any()
    assert (orders["time_ns"] == orders["order_ns"]).all()
    made = orders.select(
        pl.format(
            "test-{}-{}-{}-{}",
            pl.col("instrument").cast(pl.String),
            pl.col("order_ns").dt.timestamp("ns"),
            pl.col("intent").cast(pl.String),
            "attempt",
        )
    ).to_series()
    assert (orders["client_order_id"] == made).all()
    cancels = result.table("orders").filter(pl.col("kind") == "cancel")
    assert cancels["client_order_id"].is_in(orders["client_order_id"].implode()).all()


def test_sequence_is_contiguous_over_orders_and_decisions(result: Result) -> None:
    numbers = pl.concat([result.table(name)["sequence"] for name in ("orders", "decisions")]).sort()
    assert numbers.to_list() == list(range(len(numbers)))
    executions = result.table("executions")["number"]
    assert executions.to_list() == list(range(len(executions)))


def test_every_order_has_one_decision_that_approved_it(result: Result) -> None:
    orders, decisions = result.table("orders"), result.table("decisions")
    assert not orders["decision"].is_duplicated().any()
    both = orders.join(decisions, left_on="decision", right_on="sequence", how="left", suffix="_decided")
    assert both["outcome"].cast(pl.String).is_in(["approved", "reduced"]).all()
    assert (both["instrument"].cast(pl.String) == both["instrument_decided"].cast(pl.String)).all()
    assert (both["time_ns"] == both["time_ns_decided"]).all()
    assert (both["sequence"] == both["decision"] + 1).all()
    sized = both.filter(pl.col("kind") == "new")
    assert (sized["quantity"] == (sized["approved"] - sized["position"]).abs()).all()
    acted = decisions.filter(pl.col("outcome").cast(pl.String).is_in(["approved", "reduced"]))
    assert acted.height == orders.height


def test_profit_and_drawdown_follow_from_the_equity_table(result: Result) -> None:
    start = peak = Decimal(100_000)
    deepest = Decimal(0)
    rows = result.table("equity")
    for row in rows.iter_rows(named=True):
        assert row["equity"] == row["cash"] + row["position_value"]
        peak = max(peak, row["equity"])
        deepest = max(deepest, peak - row["equity"])
    last = rows.row(-1, named=True)
    assert result.summary["pnl"] == float(last["equity"] - start)
    assert result.summary["max_drawdown"] == float(deepest)
    assert result.summary["fees"] == float(last["fees"])
    assert result.summary["spread_and_slippage"] == float(last["costs"])
    assert last["realised_pnl"] - last["fees"] == last["equity"] - start  # flat at the end
    costs = last["fees"] + last["costs"]
    assert result.summary["pnl_before_costs"] == float(last["equity"] - start + costs)
    assert result.summary["fills_per_480_bars"] == round(480 * result.summary["fills"] / rows.height, 2)


def test_digest_follows_from_the_canonical_form_of_the_tables(result: Result) -> None:
    total = hashlib.sha256()
    for name in ("orders", "decisions", "alerts"):
        columns = [column for column in SCHEMAS[name] if column != "client_order_id"]
        header = [name, columns, "test", INSTRUMENTS, ["sigor"]]
        total.update(json.dumps(header).encode())
        for row in result.table(name).iter_rows(named=True):
            for column in columns:
                kinds = AlertKind if name == "alerts" else OrderKind
                total.update(_canonical(column, row[column], kinds).to_bytes(8, "little", signed=True))
    assert total.hexdigest() == result.summary["digest"]


def _canonical(column: str, value: Any, kinds: type[IntEnum]) -> int:
    match value:
        case datetime():
            since = value - datetime(1970, 1, 1, tzinfo=UTC)
            return (since.days * 86_400 + since.seconds) * 10**9
        case Decimal():
            return int(value * 1_000_000)
        case str() if column == "instrument":
            return INSTRUMENTS.index(value) if value else -1
        case str() if column == "strategy":
            return 0 if value else -1
        case str():
            return int((CODES | {"kind": kinds})[column][value.upper()])
    return int(value)


def test_json_is_the_last_line_and_says_what_the_file_says(
    dirty_recording: Path, configuration: Configuration, result: Result, tmp_path: Path
) -> None:
    config = write_toml(tmp_path / "config.toml", configuration())
    ended = sluice("replay", dirty_recording, "-c", config, "-o", tmp_path / "out", "--json")
    assert (ended.code, ended.stderr) == (0, "")
    figures = last_json(ended)
    assert figures == json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    of_this_run = ("seconds", "bars_per_second", "config")
    assert {k: v for k, v in figures.items() if k not in of_this_run} == {
        k: v for k, v in result.summary.items() if k not in of_this_run
    }


def test_a_clean_recording_leaves_no_dead_letters(
    clean_recording: Path, dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    replay(dirty_recording, configuration(), tmp_path / "out")
    assert (tmp_path / "out" / "dead_letters.parquet").exists()
    clean = replay(clean_recording, configuration(), tmp_path / "out")
    assert clean.summary["dead_letters"] == {}
    assert not (tmp_path / "out" / "dead_letters.parquet").exists()
    assert clean.summary["bars"] == 4 * (3 * 390 + 210)
