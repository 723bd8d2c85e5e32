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

from schemas.codes import ExecutionKind, OrderKind, Side
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
    # Worked out once and small beside the bars; every question is then asked of it in one go.
    flow = _events(sent, told, config).collect().lazy()
    families = _sides(config)
    cash, flat, opened, exact, wrong, *sides = (
        frame.row(0, named=True)
        for frame in pl.collect_all(
            [
                _cash(flow),
                _flatness(flow, config, sessions),
                _openings(sent),
                _exactness(flow),
                _misfills(sent, told),
                *(_exposures(flow, *both) for both in families),
            ]
        )
    )
    start = micro(config.account.cash)
    low = start if cash["low"] is None else cash["low"]
    ends = start if cash["last"] is None else cash["last"]
    differ = exact["claims"] + wrong["fills"]
    return {
        "P1": Finding(
            cash["breaches"],
            f"lowest cash less open buys at their worst: {low / MICRO:,.2f} over {cash['events']:,} events",
        ),
        "P2": Finding(
            sum(side["breaches"] for side in sides),
            f"{len(families)} families, {sum(side['changes'] for side in sides):,} changes of side, "
            f"both sides at once {sum(side['breaches'] for side in sides):,} times",
        ),
        "P3": Finding(
            flat["not_flat"] + flat["late"],
            f"{flat['traded']:,} sessions with orders: {flat['not_flat']} not flat at the close, "
            f"{flat['late']} with a fill in the last {config.gates.session.flat_by_seconds} s",
        ),
        "P4": Finding(
            opened["twice"],
            f"{opened['openings']:,} openings, {opened['twice']} bars with more than one in an instrument",
        ),
        "P5": Finding(
            exact["short"] + differ + (ends != closing_cash),
            f"{exact['short']} events short, {differ} reports that differ, cash recounted "
            f"{ends / MICRO:,.2f}, account {closing_cash / MICRO:,.2f}",
        ),
    }


def _frame(rows: NDArray[Any]) -> pl.LazyFrame:
    assert rows.dtype.names is not None
    return pl.LazyFrame({name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names})


def _events(sent: pl.LazyFrame, told: pl.LazyFrame, config: Config) -> pl.LazyFrame:
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
        .with_columns(is_fill=pl.col("kind") == int(ExecutionKind.FILL), cash_after="cash")
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
        claimed_cash=pl.lit(None, pl.Int64),
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
        claimed_cash="cash_after",
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


def _cash(flow: pl.LazyFrame) -> pl.LazyFrame:
    free, cash = pl.col("free"), pl.col("cash_now")
    return flow.select(
        events=pl.len(),
        low=pl.min_horizontal(free.min(), cash.min()),
        last=cash.last(),
        breaches=((free < 0) | (cash < 0)).sum(),
    )


def _sides(config: Config) -> list[tuple[list[int], list[int]]]:
    """Instruments of the bull and the bear side of every family."""
    index = {symbol: i for i, symbol in enumerate(config.instruments)}
    return [
        ([index[tier.instrument] for tier in family.bull], [index[tier.instrument] for tier in family.bear])
        for family in config.families
    ]


def _exposures(flow: pl.LazyFrame, bull: list[int], bear: list[int]) -> pl.LazyFrame:
    """Exposure is what is held and what open buys could add, so every subset of open orders is covered."""

    def total(side: list[int]) -> pl.Expr:
        each = (pl.when(pl.col("instrument") == i).then(pl.col("exposure")).otherwise(0) for i in side)
        return pl.sum_horizontal(pl.lit(0, pl.Int64), *(one.cum_sum().clip(0) for one in each))

    both = flow.filter(pl.col("instrument").is_in([*bull, *bear])).select(bull=total(bull), bear=total(bear))
    side = pl.col("bull").sign() - pl.col("bear").sign()
    held = both.with_columns(side=side).filter(pl.col("side") != 0)
    changes = held.select(changes=(pl.col("side") != pl.col("side").shift(1)).sum())
    breaches = both.select(breaches=((pl.col("bull") > 0) & (pl.col("bear") > 0)).sum())
    return pl.concat([changes, breaches], how="horizontal")


def _flatness(flow: pl.LazyFrame, config: Config, sessions: Sessions) -> pl.LazyFrame:
    """Nothing held and nothing open at each close at which anything had happened, and the last fill in time.

    What is open when the close comes counts: an expiry at the close is the venue's end of day, too late here.
    """
    closes = pl.Series("close", sessions.close_ns)
    ends = pl.LazyFrame({"session": np.arange(len(sessions)), "close": closes})
    dated = flow.join_asof(ends, left_on="time", right_on="close", strategy="forward", coalesce=False)
    open_ = (pl.col("bought") + pl.col("sold")).sum()
    left = (
        dated.filter(pl.col("time") < pl.col("close"))
        .group_by("session", "instrument")
        .agg(position=pl.col("position").sum(), open=open_)
        .sort("session")
        .with_columns(pl.col("position", "open").cum_sum().over("instrument"))
        .filter((pl.col("position") != 0) | (pl.col("open") != 0))
    )
    early = config.gates.session.flat_by_seconds * NS
    late = dated.filter((pl.col("position") != 0) & (pl.col("time") > pl.col("close") - early))
    return pl.concat(
        [
            left.select(not_flat=pl.col("session").n_unique()),
            late.select(late=pl.col("session").n_unique()),
            dated.select(traded=pl.col("session").n_unique()),
        ],
        how="horizontal",
    )


def _openings(sent: pl.LazyFrame) -> pl.LazyFrame:
    """Every buy opens or adds, whatever it is said to be for."""
    entries = sent.filter(pl.col("side") == int(Side.BUY)).group_by("instrument", "time_ns").len()
    return entries.select(openings=pl.col("len").sum(), twice=(pl.col("len") > 1).sum())


def _exactness(flow: pl.LazyFrame) -> pl.LazyFrame:
    """What is held covers open sells, and is what the account says it is after each report."""
    return flow.select(
        short=(pl.col("total") < pl.col("open_sells")).sum(),
        claims=(
            (pl.col("claimed") != pl.col("total")) | (pl.col("claimed_cash") != pl.col("cash_now"))
        ).sum(),
    )


def _misfills(sent: pl.LazyFrame, told: pl.LazyFrame) -> pl.LazyFrame:
    """Fills of no order, beyond its quantity or its limit, or that do not add up to what was reported."""
    fills = told.filter(pl.col("kind") == int(ExecutionKind.FILL))
    orders = sent.select(*ORDER_KEY, "side", "limit_price", ordered="quantity")
    price, limit = pl.col("price"), pl.col("limit_price")
    worse = pl.when(pl.col("side") == int(Side.BUY)).then(price > limit).otherwise(price < limit)
    sums = (
        fills.drop("side")
        .join(orders, on=ORDER_KEY, how="left")
        .group_by(ORDER_KEY)
        .agg(
            pl.col("quantity").sum(),
            pl.col("cumulative").max(),
            pl.col("ordered").first(),
            beyond=((limit > 0) & worse).any(),
        )
    )
    adds_up = (pl.col("quantity") == pl.col("cumulative")) & (pl.col("quantity") <= pl.col("ordered"))
    return sums.select(fills=(~adds_up.fill_null(False) | pl.col("beyond").fill_null(False)).sum())
