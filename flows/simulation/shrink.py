"""Make a scenario that breaks a statement smaller, while it still breaks the same one.

Greedy: of all that could be taken away, whatever can be is, largest first, until nothing more can. The same
scenario always shrinks to the same one.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.simulation.run import Finding
from flows.simulation.scenario import FAULTS, NEVER, Int64s, Market, Scenario
from schemas.codes import Verdict
from schemas.config import MINUTE_NS, Config
from schemas.sessions import Sessions

Check = Callable[[Scenario], Finding | None]

MOST_TRIES = 2_000
MOST_PIECES = 64  # that the events are cut into
END_NS = 2**62


def shrink(scenario: Scenario, found: Finding, check: Check) -> tuple[Scenario, Finding]:
    """The smallest scenario that could be made, with its finding. `check` plays one."""
    ways = (_shorter, _quieter, _kinder, _plainer)
    way = in_vain = 0
    left = MOST_TRIES
    while in_vain < len(ways) and left > 0:
        way, in_vain = (way + 1) % len(ways), in_vain + 1
        for candidate in islice(ways[way - 1](scenario, found), left):
            left -= 1
            again = check(candidate)
            if again is not None and again.statement == found.statement:
                scenario, found = candidate, again
                way, in_vain = way - 1, 0  # the same way once more
                break
    return scenario, found


def describe(scenario: Scenario) -> list[tuple[str, str]]:
    """What is in a scenario, for people."""
    config, market = scenario.config, scenario.market
    faults = config.venue.faults
    shares = {name: getattr(faults, name) for name in FAULTS if faults is not None}
    seen = int((market.delay < NEVER).sum())
    lengths = (scenario.sessions.close_ns - scenario.sessions.open_ns) // MINUTE_NS
    return [
        ("sessions", ", ".join(f"{minutes} min" for minutes in lengths.tolist())),
        ("instruments", f"{' '.join(config.instruments)}; families: {_families(config) or 'none'}"),
        ("strategies", ", ".join(f"{s.name} reads {' '.join(s.signals)}" for s in config.strategies)),
        ("bars", f"{int(market.traded.sum())} of the venue, {seen} seen by the account"),
        ("signals", f"{int((market.verdicts != Verdict.ABSENT).sum())}"),
        ("ticks", f"{len(scenario.ticks_ns)}"),
        ("commands", f"{len(scenario.commands)}"),
        ("reports from nowhere", f"{len(scenario.foreign)}"),
        ("faults", ", ".join(f"{name} {share}" for name, share in shares.items() if share) or "none"),
        (
            "answers take",
            f"{scenario.latency_ns / 1e6:g} ms" if scenario.latency_ns else "until the next event",
        ),
    ]


def _families(config: Config) -> str:
    return "; ".join(
        f"{' '.join(t.instrument for t in family.bull)} against {' '.join(t.instrument for t in family.bear)}"
        for family in config.families
    )


# --- what could be taken away


def _shorter(scenario: Scenario, found: Finding) -> Iterator[Scenario]:
    """Without a session, without what comes after the finding, without a piece of what happens."""
    times = _times(scenario)
    for candidate in (*_fewer_sessions(scenario), *_without_pieces(scenario, times, found)):
        if len(_times(candidate)) < len(times):
            yield candidate


def _times(scenario: Scenario) -> Int64s:
    parts = (scenario.market.time_ns, scenario.ticks_ns, scenario.command_ns, scenario.foreign_ns)
    return np.unique(np.concatenate(parts))


def _fewer_sessions(scenario: Scenario) -> Iterator[Scenario]:
    sessions = scenario.sessions
    if len(sessions) == 1:
        return
    ends = [*sessions.open_ns[1:].tolist(), END_NS]
    for s, (open_ns, end_ns) in enumerate(zip(sessions.open_ns.tolist(), ends, strict=True)):
        bars = scenario.market.time_ns
        if ((bars < open_ns) | (bars >= end_ns)).any():
            kept = np.arange(len(sessions)) != s
            fewer = Sessions(sessions.exchange, sessions.open_ns[kept], sessions.close_ns[kept])
            yield replace(_without(scenario, open_ns, end_ns), sessions=fewer)


def _without_pieces(scenario: Scenario, times: Int64s, found: Finding) -> Iterator[Scenario]:
    if found.time_ns > 0:
        yield _without(scenario, found.time_ns + 1, END_NS)
    pieces = 2
    while pieces <= min(len(times), MOST_PIECES):
        starts = [int(times[k * len(times) // pieces]) for k in range(pieces)]
        for first_ns, end_ns in zip(starts, [*starts[1:], END_NS], strict=True):
            yield _without(scenario, first_ns, end_ns)
        pieces *= 2


def _without(scenario: Scenario, first_ns: int, end_ns: int) -> Scenario:
    """Nothing happens from `first_ns` until before `end_ns`. One bar always stays."""

    def kept(times: Int64s) -> NDArray[np.bool_]:
        return (times < first_ns) | (times >= end_ns)

    bars = kept(scenario.market.time_ns)
    bars[0] |= not bars.any()
    columns: list[Any] = [np.ascontiguousarray(column[bars]) for column in scenario.market]
    commands, foreign = kept(scenario.command_ns), kept(scenario.foreign_ns)
    return replace(
        scenario,
        market=Market(*columns),
        ticks_ns=scenario.ticks_ns[kept(scenario.ticks_ns)],
        command_ns=scenario.command_ns[commands],
        commands=scenario.commands[commands],
        foreign_ns=scenario.foreign_ns[foreign],
        foreign=scenario.foreign[foreign],
    )


def _quieter(scenario: Scenario, _: Finding) -> Iterator[Scenario]:
    """Without strangers, commands, ticks, and the signals or bars of an instrument."""
    for k in range(len(scenario.foreign)):
        kept = np.arange(len(scenario.foreign)) != k
        yield replace(scenario, foreign_ns=scenario.foreign_ns[kept], foreign=scenario.foreign[kept])
    for k in range(len(scenario.commands)):
        kept = np.arange(len(scenario.commands)) != k
        yield replace(scenario, command_ns=scenario.command_ns[kept], commands=scenario.commands[kept])
    if len(scenario.ticks_ns):
        yield replace(scenario, ticks_ns=scenario.ticks_ns[:0])
        if len(scenario.ticks_ns) > 1:
            yield replace(scenario, ticks_ns=scenario.ticks_ns[::2])
    market = scenario.market
    for i in range(market.traded.shape[1]):
        if market.traded[:, i].any():
            traded, delay = market.traded.copy(), market.delay.copy()
            traded[:, i], delay[:, i] = 0, NEVER
            yield replace(scenario, market=market._replace(traded=traded, delay=delay))
        if (market.verdicts[:, i] != Verdict.ABSENT).any():
            verdicts = market.verdicts.copy()
            verdicts[:, i] = Verdict.ABSENT
            yield replace(scenario, market=market._replace(verdicts=verdicts))


def _kinder(scenario: Scenario, _: Finding) -> Iterator[Scenario]:
    """Without faults of the venue, all of them or one kind."""
    faults = scenario.config.venue.faults
    if faults is None:
        return
    fewer = [faults.model_copy(update={name: Decimal(0)}) for name in FAULTS if getattr(faults, name)]
    for changed in (None, *fewer):
        venue = scenario.config.venue.model_copy(update={"faults": changed})
        yield replace(scenario, config=scenario.config.model_copy(update={"venue": venue}))


def _plainer(scenario: Scenario, _: Finding) -> Iterator[Scenario]:
    """With bars that are on time and come once, prices and volumes that stand still, one crash."""
    market = scenario.market
    late = (market.delay > 0) & (market.delay < NEVER)
    if late.any():
        yield replace(scenario, market=market._replace(delay=np.where(late, 0, market.delay)))
    if market.again.any():
        yield replace(scenario, market=market._replace(again=np.zeros_like(market.again)))
    for name in ("open", "close", "volume"):
        column = getattr(market, name)
        still = np.ascontiguousarray(np.broadcast_to(column[0], column.shape))
        if not np.array_equal(still, column):
            yield replace(scenario, market=market._replace(**{name: still}))
    if scenario.latency_ns:
        yield replace(scenario, latency_ns=0)
    if len(scenario.cuts) > 1:
        yield from (replace(scenario, cuts=(cut,)) for cut in scenario.cuts)
