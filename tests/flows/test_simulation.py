"""The simulation: sessions at random, every statement asked after every event."""

import os

import numba
import numpy as np
import pytest

from flows.simulation.again import replay
from flows.simulation.run import Simulator
from flows.simulation.scenario import make_scenario
from flows.simulation.shadow import Statement

pytestmark = pytest.mark.skipif(
    "NUMBA_BOUNDSCHECK" in os.environ, reason="played without bounds checks, by a command of its own"
)
SEEDS = range(100) if not numba.config.DISABLE_JIT else range(2)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator()


def test_nothing_is_found_and_nearly_every_statement_is_put_to_the_test(simulator: Simulator) -> None:
    tested = np.zeros(len(Statement), np.int64)
    for seed in SEEDS:
        played = simulator.play(make_scenario(seed))
        assert played.finding is None, seed
        assert replay(played) is None, seed
        tested += played.shadow.tested[: len(Statement)]
    asked = {statement for statement in Statement if tested[statement]}
    assert asked >= {Statement.P1, Statement.O1, Statement.O2, Statement.O9, Statement.O10, Statement.D4}


def test_the_same_seed_is_the_same_scenario(simulator: Simulator) -> None:
    first = [table.tobytes() for table in simulator.play(make_scenario(3)).outputs()]
    simulator.play(make_scenario(4))
    assert [table.tobytes() for table in simulator.play(make_scenario(3)).outputs()] == first


def test_a_changed_state_is_found_when_the_journal_is_applied_again(simulator: Simulator) -> None:
    played = simulator.play(make_scenario(1))
    assert replay(played) is None
    played.state.account[0].cash += 1
    finding = replay(played)
    assert finding is not None
    assert finding.statement == Statement.D2
