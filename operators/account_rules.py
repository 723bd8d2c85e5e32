"""The configuration as the arrays that the account's kernels read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from operators.account_state import (
    BUCKETS,
    FAMILY_RULE,
    HOLDING_RULE,
    INSTRUMENT_RULE,
    LIMITS,
    SLEEVE_RULE,
    STRATEGY_RULE,
    TIER_RULE,
    Rules,
    State,
    records,
    state_of,
    state_words,
)
from schemas.config import MINUTE_NS, NS, Config, micro
from schemas.records import MICRO
from schemas.sessions import Sessions

NO_STRATEGY = -1


def account_rules(config: Config, sessions: Sessions, *, paper: bool) -> Rules:
    """Arrays of the configuration. `paper`: the paper venue runs inside the account stage."""
    index = {symbol: i for i, symbol in enumerate(config.instruments)}
    families = {family.name: f for f, family in enumerate(config.families)}

    tiers: list[tuple[int, ...]] = []
    family_rows: list[tuple[int, ...]] = []
    side: dict[int, tuple[int, int]] = {}
    for f, family in enumerate(config.families):
        first = len(tiers)
        for sign, steps in ((1, family.bull), (-1, family.bear)):
            for level, tier in enumerate(steps, start=1):
                i = index[tier.instrument]
                side[i] = (f, sign)
                tiers.append((f, sign * level, _score(tier.probability), i, micro(tier.weight)))
        family_rows.append((first, len(tiers), 2 * micro(family.hysteresis)))

    sleeves = sorted(
        (
            index[symbol],
            s,
            families.get(strategy.family or "", -1),
            micro(strategy.capital_share) // len(strategy.signals),
        )
        for s, strategy in enumerate(config.strategies)
        for symbol in strategy.signals
    )
    members = sorted(side, key=lambda i: (side[i][0], i))
    held: list[set[int]] = [set() for _ in config.instruments]
    for s, strategy in enumerate(config.strategies):
        family_index = families.get(strategy.family or "", -1)
        for i in range(len(config.instruments)):
            if side.get(i, (-2, 0))[0] == family_index or (
                family_index < 0 and config.instruments[i] in strategy.signals
            ):
                held[i].add(s)
    holdings: list[tuple[int, int]] = []
    instrument_rows = []
    for i in range(len(config.instruments)):
        family_of, sign = side.get(i, (-1, 0))
        first_holding = len(holdings)
        holdings += [(s, i) for s in sorted(held[i])] + [(NO_STRATEGY, i)]
        mine = [k for k, row in enumerate(sleeves) if row[0] == i]
        kin = [k for k, m in enumerate(members) if i in side and side[m][0] == family_of]
        instrument_rows.append(
            (
                family_of,
                sign,
                mine[0] if mine else 0,
                mine[-1] + 1 if mine else 0,
                *((kin[0], kin[-1] + 1) if kin else (0, 0)),
                first_holding,
                len(holdings),
            )
        )

    return Rules(
        limits=_filled(LIMITS, [_limits(config, paper)]),
        instruments=_filled(INSTRUMENT_RULE, instrument_rows),
        holdings=_filled(HOLDING_RULE, holdings),
        strategies=_filled(STRATEGY_RULE, [(micro(s.capital_share),) for s in config.strategies]),
        sleeves=_filled(SLEEVE_RULE, [(s, i, f, share) for i, s, f, share in sleeves]),
        families=_filled(FAMILY_RULE, family_rows),
        tiers=_filled(TIER_RULE, tiers),
        members=np.array(members, np.int64),
        session_open_ns=sessions.open_ns,
        session_close_ns=sessions.close_ns,
    )


def initial_state(config: Config, rules: Rules) -> State:
    """The account before its first event: cash and nothing else."""
    state = state_of(np.zeros(state_words(rules), np.int64), rules)
    account = state.account[0]
    account.session = -1
    cash = micro(config.account.cash)
    account.cash = account.equity = account.min_free_cash = cash
    account.session_equity = account.peak_equity = account.drawdown_peak = cash
    state.limits[0] = rules.limits[0]
    account.tokens = rules.limits[0].message_burst * MINUTE_NS
    state.strategies["facing"] = -1
    state.seen[:] = account.newest_execution = -1
    return state


def _score(probability: Any) -> int:
    """A probability as a score in millionths: 0.5 is 0, 1 is 1,000,000."""
    return 2 * micro(probability) - MICRO


def _limits(config: Config, paper: bool) -> tuple[int, ...]:
    gates, breakers, orders, venue = config.gates, config.breakers, config.orders, config.venue
    values = {
        "paper": int(paper),
        "interval_ns": config.interval_ns,
        "min_weight_change": micro(config.allocation.min_weight_change),
        "entries_stop_ns": gates.session.entries_stop_minutes * MINUTE_NS,
        "cancel_entries_ns": gates.session.cancel_entries_minutes * MINUTE_NS,
        "exits_begin_ns": gates.session.exits_begin_minutes * MINUTE_NS,
        "reprice_ns": gates.session.reprice_minutes * MINUTE_NS,
        "force_ns": gates.session.force_minutes * MINUTE_NS,
        "flat_by_ns": gates.session.flat_by_seconds * NS,
        "max_age_ns": gates.freshness.max_age_seconds * NS,
        "one_of_one_side": int(gates.conflict.two_of_one_side == "refuse"),
        "openings_per_window": gates.frequency.openings_per_window,
        "window_ns": gates.frequency.window_minutes * MINUTE_NS,
        "openings_per_day": gates.frequency.openings_per_day,
        "release_next_session": int(gates.frequency.release == "next_session"),
        "max_position_value": micro(gates.size.max_position_value),
        "max_position_share": micro(gates.size.max_position_share),
        "max_positions": gates.size.max_positions,
        "max_volume_share": micro(gates.size.max_volume_share),
        "min_order_value": micro(gates.size.min_order_value),
        "buffer_share": micro(gates.cash.buffer_share),
        "collar": micro(gates.cash.collar),
        "message_burst": gates.messages.burst,
        "messages_per_minute": gates.messages.per_minute,
        "message_reserve": int(gates.messages.burst * gates.messages.reserved_share),
        "daily_loss": micro(breakers.daily_loss.share),
        "daily_loss_next_session": int(breakers.daily_loss.release == "next_session"),
        "rapid_loss": micro(breakers.rapid_loss.share),
        "rapid_bucket_ns": breakers.rapid_loss.window_minutes * MINUTE_NS // BUCKETS,
        "rapid_pause_ns": breakers.rapid_loss.pause_minutes * MINUTE_NS,
        "drawdown": micro(breakers.drawdown.share),
        "drawdown_factor": micro(breakers.drawdown.factor),
        "drawdown_release": micro(breakers.drawdown.release_share),
        "losses_in_a_row": breakers.consecutive_losses.count,
        "losses_pause_ns": breakers.consecutive_losses.pause_minutes * MINUTE_NS,
        "strategy_loss": micro(breakers.strategy_loss.share),
        "strategy_pause_ns": breakers.strategy_loss.pause_minutes * MINUTE_NS,
        "exit_attempts": breakers.exit_failure.attempts,
        "no_progress_ns": breakers.exit_failure.no_progress_seconds * NS,
        "kill_at_failures": breakers.exit_failure.instruments_to_kill,
        "slow_at": micro(breakers.unusual_trading.slow_at),
        "stop_at": micro(breakers.unusual_trading.stop_at),
        "entry_lifetime_bars": orders.entry_lifetime_bars,
        "exit_collar": micro(orders.exit_collar),
        "retry_ns": orders.retry_seconds * NS,
        "answer_ns": orders.answer_seconds * NS,
        "query_ns": orders.query_seconds * NS,
        "absence_answers": orders.absence_answers,
        "absence_ns": orders.absence_seconds * NS,
        "half_spread": micro(venue.half_spread),
        "slippage": micro(venue.slippage),
        "commission_per_unit": micro(venue.commission_per_unit),
        "commission_share": micro(venue.commission_share),
        "participation": micro(venue.participation),
    }
    assert LIMITS.names is not None
    return tuple(values[name] for name in LIMITS.names)


def _filled(dtype: np.dtype[Any], rows: Sequence[tuple[int, ...]]) -> Any:
    """Records from rows; one empty row where there are none, since a kernel's arrays have one type
    whatever the configuration.
    """
    table = records(dtype, len(rows))
    for k, row in enumerate(rows):
        table[k] = row
    return table
