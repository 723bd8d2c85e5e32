"""Recounts the five integrity principles from what left the system: orders and executions, and nothing else.

Shares no code with gates, ledger or order life cycle. In: the two tables, the configuration and the calendar.
Out: per principle whether it held and on what evidence. Time runs as the account saw it: at one event time
its executions come before its orders.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.codes import ExecutionKind, Intent, OrderKind, Side
from schemas.config import NS, Config, micro
from schemas.records import MICRO
from schemas.sessions import Sessions

ORDER_KEY = ["instrument", "order_ns", "attempt"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One principle: how many breaches, and what was looked at."""

    breaches: int
    evidence: str

    @property
    def held(self) -> bool:
        return self.breaches == 0


def audit(
    orders: NDArray[Any], executions: NDArray[Any], closing_cash: int, config: Config, sessions: Sessions
) -> dict[str, Finding]:
    """Findings `P1` to `P5`. `closing_cash`: the cash the account says it ends with, millionths."""
    sent = _frame(orders).filter(pl.col("kind") == int(OrderKind.NEW))
    told = _frame(executions)
    flow = _events(sent, told, config)
    return {
        "P1": _no_negative_cash(flow, config),
        "P2": _no_conflict(flow, config),
        "P3": _flat_at_close(flow, config, sessions),
        "P4": _one_opening_a_bar(sent),
        "P5": _no_short_and_exact(flow, told, closing_cash, config),
    }


def _frame(rows: NDArray[Any]) -> pl.DataFrame:
    assert rows.dtype.names is not None
    return pl.DataFrame({name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names})


def _events(sent: pl.DataFrame, told: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Every order sent and every report on it, in time, with what each did to position, open quantity and
    cash.

    `bought` and `sold`: change of the open quantity of buys and sells. `worst`: change of the cash that open
    buys could take.
    """
    buy = int(Side.BUY)
    venue = config.venue
    unit = micro(venue.commission_per_unit)
    share = micro(venue.commission_share)
    limit = pl.col("limit_price")
    worst_each = limit + unit + (limit * share + (MICRO - 1)) // MICRO

    terms = sent.select(*ORDER_KEY, "quantity", worst_each.alias("each"))
    reports = (
        told.join(terms.rename({"quantity": "ordered"}), on=ORDER_KEY, how="left", maintain_order="left")
        .with_columns(is_fill=pl.col("kind") == int(ExecutionKind.FILL))
        .with_columns(
            done=pl.when("is_fill")
            .then(pl.col("quantity"))
            .otherwise(pl.col("ordered") - pl.col("cumulative"))  # the rest of it ends unfilled
        )
    )
    bought = pl.col("side") == buy
    a = sent.select(
        time="time_ns",
        order=pl.lit(1, pl.Int8),
        number="sequence",
        instrument="instrument",
        position=pl.lit(0, pl.Int64),
        bought=pl.when(bought).then(pl.col("quantity")).otherwise(0),
        sold=pl.when(bought).then(0).otherwise(pl.col("quantity")),
        cash=pl.lit(0, pl.Int64),
        worst=pl.when(bought).then(pl.col("quantity") * worst_each).otherwise(0),
        claimed=pl.lit(None, pl.Int64),
    )
    signed = pl.when(bought).then(pl.col("quantity")).otherwise(-pl.col("quantity"))
    b = reports.select(
        time="known_ns",
        order=pl.lit(0, pl.Int8),
        number="number",
        instrument="instrument",
        position=pl.when("is_fill").then(signed).otherwise(0),
        bought=pl.when(bought).then(-pl.col("done")).otherwise(0),
        sold=pl.when(bought).then(0).otherwise(-pl.col("done")),
        cash=pl.when("is_fill").then(-signed * pl.col("price") - pl.col("fee")).otherwise(0),
        worst=pl.when(bought).then(-pl.col("done") * pl.col("each")).otherwise(0),
        claimed="position",
    )
    # a venue's end-of-day expiry comes after the orders of the same moment
    return (
        pl.concat([a, b])
        .sort("time", "order", "number", maintain_order=True)
        .with_columns(
            total=pl.col("position").cum_sum().over("instrument"),
            open_sells=pl.col("sold").cum_sum().over("instrument"),
            free=(pl.col("cash") - pl.col("worst")).cum_sum() + micro(config.account.cash),
            cash_now=pl.col("cash").cum_sum() + micro(config.account.cash),
            exposure=pl.col("position") + pl.col("bought"),
        )
    )


def _no_negative_cash(flow: pl.DataFrame, config: Config) -> Finding:
    low = flow.select(pl.min_horizontal("free", "cash_now").min()).item()
    low = micro(config.account.cash) if low is None else low
    breaches = flow.filter((pl.col("free") < 0) | (pl.col("cash_now") < 0)).height
    return Finding(
        breaches, f"lowest cash less open buys at their worst: {low / MICRO:,.2f} over {flow.height:,} events"
    )


def _no_conflict(flow: pl.DataFrame, config: Config) -> Finding:
    """Exposure counts what is held and what open buys could add, so every subset of open orders is
    covered.
    """
    index = {symbol: i for i, symbol in enumerate(config.instruments)}
    breaches = 0
    flips = 0
    for family in config.families:
        bull = [index[tier.instrument] for tier in family.bull]
        bear = [index[tier.instrument] for tier in family.bear]
        both = flow.filter(pl.col("instrument").is_in([*bull, *bear])).select(
            bull=pl.when(pl.col("instrument").is_in(bull)).then(pl.col("exposure")).otherwise(0).cum_sum(),
            bear=pl.when(pl.col("instrument").is_in(bear)).then(pl.col("exposure")).otherwise(0).cum_sum(),
        )
        breaches += both.filter((pl.col("bull") > 0) & (pl.col("bear") > 0)).height
        side = both.select(pl.col("bull").sign() - pl.col("bear").sign()).to_series()
        sides = side.filter(side != 0)
        flips += int((sides != sides.shift(1)).sum() or 0)
    return Finding(
        breaches, f"{len(config.families)} families, {flips:,} changes of side, never both at once"
    )


def _flat_at_close(flow: pl.DataFrame, config: Config, sessions: Sessions) -> Finding:
    """Nothing held and nothing open at each close at which anything had happened, and the last fill in
    time.
    """
    if flow.is_empty():
        return Finding(0, "nothing was ever held")
    early = config.gates.session.flat_by_seconds * NS
    time = flow["time"].to_numpy()
    session = np.searchsorted(sessions.close_ns, time, side="left")
    dated = flow.with_columns(session=pl.Series(session))
    # what is open when the close comes: an expiry at the close itself is the venue's end of day, too late
    # for the principle
    close = pl.Series(sessions.close_ns[np.minimum(session, len(sessions) - 1)])
    before = dated.filter(pl.col("time") < close)
    held = before.group_by("session").agg(
        pl.col("position").sum(), (pl.col("bought") + pl.col("sold")).sum().alias("open")
    )
    held = held.sort("session").with_columns(pl.col("position").cum_sum(), pl.col("open").cum_sum())
    not_flat = 0
    changes = before.group_by("session", "instrument").agg(
        position=pl.col("position").sum(), open=(pl.col("bought") + pl.col("sold")).sum()
    )
    wide = changes.sort("session").with_columns(
        position=pl.col("position").cum_sum().over("instrument"),
        open=pl.col("open").cum_sum().over("instrument"),
    )
    not_flat = wide.filter((pl.col("position") != 0) | (pl.col("open") != 0))["session"].n_unique()
    late = dated.filter((pl.col("position") != 0) & (pl.col("time") > close - early))["session"].n_unique()
    traded = dated["session"].n_unique()
    return Finding(
        not_flat + late,
        f"{traded:,} sessions with orders: {not_flat} not flat at the close, {late} with a fill in the last "
        f"{config.gates.session.flat_by_seconds} s",
    )


def _one_opening_a_bar(sent: pl.DataFrame) -> Finding:
    entries = sent.filter(pl.col("intent") == int(Intent.ENTRY))
    twice = entries.group_by("instrument", "time_ns").len().filter(pl.col("len") > 1).height
    return Finding(twice, f"{entries.height:,} openings, {twice} bars with more than one in an instrument")


def _no_short_and_exact(flow: pl.DataFrame, told: pl.DataFrame, closing_cash: int, config: Config) -> Finding:
    short = flow.filter(pl.col("total") < pl.col("open_sells")).height
    claims = flow.filter(pl.col("claimed").is_not_null() & (pl.col("claimed") != pl.col("total"))).height
    over = (
        told.filter(pl.col("kind") == int(ExecutionKind.FILL))
        .group_by(ORDER_KEY)
        .agg(pl.col("quantity").sum(), pl.col("cumulative").max())
        .filter(pl.col("quantity") != pl.col("cumulative"))
        .height
    )
    cash = micro(config.account.cash) if flow.is_empty() else flow["cash_now"][-1]
    off = int(cash != closing_cash)
    return Finding(
        short + claims + over + off,
        f"{short} events short, {claims + over} quantities that differ, cash recounted {cash / MICRO:,.2f}, "
        f"account {closing_cash / MICRO:,.2f}",
    )
