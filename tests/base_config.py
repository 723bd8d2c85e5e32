"""The configuration that tests start from: one leveraged family, every gate at its default, breakers wide."""

from copy import deepcopy
from datetime import date
from decimal import Decimal
from typing import Any

BASE: dict[str, Any] = {
    "instruments": ["QQQ", "TQQQ", "PSQ", "SQQQ"],
    "account": {"id": "test", "currency": "USD", "cash": 100_000},
    "calendar": {"exchange": "XNYS", "first": date(2020, 1, 1), "last": date(2027, 12, 31)},
    "bars": {
        "interval_seconds": 60,
        "jump_limit": Decimal("0.2"),
        "max_gap_bars": 60,
        "max_price": 1_000_000,
        "max_volume": 10**12,
        "other_symbols": "refuse",
    },
    "families": [
        {
            "name": "QQQ",
            "hysteresis": Decimal("0.05"),
            "bull": [
                {"probability": Decimal("0.60"), "instrument": "QQQ", "weight": 1},
                {"probability": Decimal("0.75"), "instrument": "TQQQ", "weight": 1},
            ],
            "bear": [
                {"probability": Decimal("0.60"), "instrument": "PSQ", "weight": 1},
                {"probability": Decimal("0.75"), "instrument": "SQQQ", "weight": 1},
            ],
        }
    ],
    "allocation": {"min_weight_change": Decimal("0.1")},
    "gates": {
        "session": {
            "entries_stop_minutes": 15,
            "cancel_entries_minutes": 10,
            "exits_begin_minutes": 5,
            "reprice_minutes": 3,
            "force_minutes": 2,
            "flat_by_seconds": 60,
        },
        "freshness": {"max_age_seconds": 90},
        "conflict": {"two_of_one_side": "refuse"},
        "frequency": {
            "openings_per_window": 5,
            "window_minutes": 10,
            "openings_per_day": 60,
            "release": "next_session",
        },
        "size": {
            "max_position_value": 100_000,
            "max_position_share": 1,
            "max_positions": 10,
            "max_volume_share": Decimal("0.05"),
            "min_order_value": 100,
        },
        "cash": {"buffer_share": Decimal("0.05"), "collar": Decimal("0.02")},
        "messages": {"burst": 1000, "per_minute": 1000, "reserved_share": Decimal("0.5")},
    },
    # Wide: a test that is about a breaker makes it narrow.
    "breakers": {
        "daily_loss": {"share": 1, "release": "next_session"},
        "rapid_loss": {"share": 1, "window_minutes": 15, "pause_minutes": 30},
        "drawdown": {"share": 1, "factor": Decimal("0.5"), "release_share": 1},
        "consecutive_losses": {"count": 1_000_000, "pause_minutes": 240},
        "strategy_loss": {"share": 1, "pause_minutes": 1440},
        "exit_failure": {"attempts": 3, "no_progress_seconds": 120, "instruments_to_kill": 2},
        "unusual_trading": {"slow_at": 1000, "stop_at": 1000},
    },
    "orders": {
        "entry_lifetime_bars": 3,
        "exit_collar": Decimal("0.02"),
        "retry_seconds": 5,
        "answer_seconds": 30,
        "query_seconds": 10,
        "absence_answers": 3,
        "absence_seconds": 60,
    },
    "venue": {
        "half_spread": Decimal("0.00005"),
        "slippage": Decimal("0.00005"),
        "commission_per_unit": Decimal("0.005"),
        "commission_share": 0,
        "participation": Decimal("0.1"),
    },
}


def base_with(data: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A copy of the base, or of `data`, with some keys changed. `gates__cash__collar=...` is the key
    gates.cash.collar; a number is a place in a list; None removes the key.
    """
    data = deepcopy(BASE if data is None else data)
    for path, value in changes.items():
        *sections, key = path.split("__")
        section: Any = data
        for name in sections:
            section = section[int(name) if isinstance(section, list) else name]
        if value is None:
            del section[key]
        else:
            section[key] = value
    return data
