"""Small sessions for the simulation, each with what brings some kinds of bugs to light."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from account_fixtures import BULL, BULL3, MICRO, PLAIN_PRICES, at, make_config, make_sessions, strategy
from days import commands_of

from flows.simulation.scenario import Market, Scenario
from schemas.codes import ControlAction, ControlRefusal, Verdict

LENGTH = 40
SECOND = 10**9
PLAN = (BULL, BULL3, -BULL, 0, -BULL3, BULL3)
FAULTS = {
    kind: Decimal("0.1")
    for kind in (
        "reject",
        "partial",
        "delay",
        "lose",
        "duplicate",
        "fill_after_cancel",
        "unknown",
        "vanish",
    )
}


def scene(
    name: str,
    seed: int = 0,
    *,
    every: int = 3,
    volume: int = 100_000,
    fall: float = 0.0,
    slow: bool = False,
    commands: tuple[tuple[int, ControlAction, ControlRefusal], ...] = (),
    **changes: Any,
) -> tuple[str, Scenario]:
    """Two strategies change their minds every so many minutes. `fall`: of prices, a minute; `slow`: some bars
    come later than others, some again.
    """
    shape = (LENGTH, 4)
    steps = np.arange(LENGTH)
    plain = np.array(PLAIN_PRICES) * MICRO
    close = (plain * (1.0 - fall) ** (steps[:, None] + 1)).astype(np.int64)
    opened = (plain * (1.0 - fall) ** steps[:, None]).astype(np.int64)
    values = np.zeros((*shape, 2), np.int64)
    values[:, 0, 0] = np.take(PLAN, steps // every, mode="wrap")
    values[:, 0, 1] = np.take(PLAN, (steps + 1) // every, mode="wrap")
    verdicts = np.full(values.shape, Verdict.ABSENT, np.uint8)
    verdicts[:, 0] = np.where(values[:, 0] == 0, Verdict.NEUTRAL, Verdict.PASSED)
    delay, again = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    if slow:
        delay[4::5, 3] = 2
        again[3::7, 1] = 3
    full, everywhere = np.full(shape, volume, np.int64), np.ones(shape, np.int64)
    times = np.array([at(0, minute) for minute in range(1, LENGTH + 1)])
    settings: dict[str, Any] = {
        "strategies": [strategy("first", "0.5"), strategy("second", "0.5")],
        "gates__conflict__two_of_one_side": "allow",
        "gates__cash__buffer_share": 0,
        **{f"families__0__{side}__{k}__weight": 1 for side in ("bull", "bear") for k in (0, 1)},
    }
    command_ns = np.array([at(0, minute) + SECOND for minute, _, _ in commands], np.int64)
    none = np.zeros(0, np.int64)
    return name, Scenario(
        seed=seed,
        config=make_config(**settings | changes),
        sessions=make_sessions(LENGTH),
        market=Market(times, opened, close, full, everywhere, delay, again, values, verdicts),
        ticks_ns=np.arange(at(0, 0), at(0, LENGTH) + 1, 20 * SECOND),
        command_ns=command_ns,
        commands=commands_of([(action, refusal) for _, action, refusal in commands], command_ns),
        foreign_ns=none,
        foreign=none,
        cuts=(300, 600),
        latency_ns=0,
    )


def scenes() -> Iterator[tuple[str, Scenario]]:
    """In the order in which they are tried."""
    none, forged = ControlRefusal.NONE, ControlRefusal.FORGED
    yield scene("calm")
    yield scene("slow feed", slow=True)
    yield scene("thin market", volume=200)
    yield scene("prices fall", fall=0.01, breakers__daily_loss__share=Decimal("0.02"))
    yield scene("killed", commands=((10, ControlAction.KILL, none), (12, ControlAction.RESUME, forged)))
    yield scene("few messages", gates__messages__burst=2, gates__messages__per_minute=2)
    for seed in range(20):
        faults = {**FAULTS, "seed": seed, "delay_seconds": 30}
        yield scene(f"faults {seed}", seed, every=4, venue__faults=faults)
