"""Small sessions for the simulation. In each, an account with some bug breaks a statement; one without breaks
none. What is found must not depend on chance: a fault of the venue happens every time or never, and where an
outcome is unknown, each of many requests has even chances to have arrived.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from account_fixtures import BULL, BULL3, PLAIN_PRICES, at, command, make_config, make_sessions, money
from days import ALL_CAPITAL

from flows.simulation.scenario import Market, Scenario
from operators.account_state import COMMAND, records
from schemas.codes import ControlAction, ControlRefusal, Verdict
from schemas.config import NS

MINUTES = 30
STAY = 3
PLAN = (BULL, BULL3, -BULL, 0, -BULL3, BULL3)
"""What two strategies want, one after the other, each for `STAY` minutes; the second is a minute ahead."""


def scene(
    name: str,
    *,
    volume: int = 100_000,
    fall: float = 0.0,
    slow: bool = False,
    commands: Sequence[tuple[int, ControlAction, ControlRefusal]] = (),
    **changes: Any,
) -> tuple[str, Scenario]:
    """`volume`: of each bar. `fall`: of prices, a share a minute. `slow`: some bars come later than others,
    some again. `commands`: each a second after the end of a minute. `changes`: of the configuration.
    """
    shape = (MINUTES, len(PLAIN_PRICES))
    steps = np.arange(MINUTES)
    prices = ((1.0 - fall) ** steps[:, None] * [money(price) for price in PLAIN_PRICES]).astype(np.int64)
    values = np.zeros((*shape, 2), np.int64)
    for s in range(2):
        values[:, 0, s] = np.take(PLAN, (steps + s) // STAY, mode="wrap")
    verdicts = np.full(values.shape, Verdict.ABSENT, np.uint8)
    verdicts[:, 0] = np.where(values[:, 0] == 0, Verdict.NEUTRAL, Verdict.PASSED)
    delay, again = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    if slow:
        delay[4::5, 3] = 2
        again[3::7, 1] = 3
    full, always = np.full(shape, volume, np.int64), np.ones(shape, np.int64)
    times = np.array([at(0, minute) for minute in range(1, MINUTES + 1)])
    issued = records(COMMAND, len(commands))
    for k, (minute, action, refusal) in enumerate(commands):
        issued[k] = command(action, minute, refusal=refusal)
    none = np.zeros(0, np.int64)
    return name, Scenario(
        seed=0,
        config=make_config(**ALL_CAPITAL | changes),
        sessions=make_sessions(MINUTES),
        market=Market(times, prices, prices, full, always, delay, again, values, verdicts),
        ticks_ns=np.arange(at(0, 0), at(0, MINUTES) + 1, 20 * NS),
        command_ns=np.array([at(0, minute) + NS for minute, _, _ in commands], np.int64),
        commands=issued,
        foreign_ns=none,
        foreign=none,
        cuts=(),
        latency_ns=0,
    )


def faulty(*faults: str) -> dict[str, Any]:
    """A venue with these faults, as good as every time."""
    return {"seed": 0, **dict.fromkeys(faults, Decimal("0.999999"))}


def scenes() -> Iterator[tuple[str, Scenario]]:
    valid, forged = ControlRefusal.NONE, ControlRefusal.FORGED
    kill, resume = ControlAction.KILL, ControlAction.RESUME
    yield scene("the feed is slow", slow=True)
    yield scene("the market is thin", volume=200)
    yield scene("prices fall", fall=0.01, breakers__daily_loss__share=Decimal("0.02"))
    yield scene("a kill", commands=((10, kill, valid), (12, resume, forged), (14, resume, valid)))
    yield scene("few messages", gates__messages__burst=2, gates__messages__per_minute=2)
    yield scene("all is rejected", venue__faults=faulty("reject"))
    yield scene("outcomes are unknown", venue__faults=faulty("reject", "unknown"))
    yield scene("reports are lost", venue__faults=faulty("lose"))
    yield scene("reports come twice", venue__faults=faulty("duplicate"))
    yield scene("orders fill after their cancel", volume=200, venue__faults=faulty("fill_after_cancel"))
