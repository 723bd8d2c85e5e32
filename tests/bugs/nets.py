"""What the nets say of the account that is imported here.

The days of `days.py` go through the account, and what leaves it through the audit; the sessions of
`scenes.py` go through the simulation. Printed is JSON: a list of [net, statement, where, text].
"""

import json

from days import DESK_DAYS, MACHINE_DAYS, Left, at_desk, through_machine
from scenes import scenes

from flows.auditor.machine import recounted
from flows.simulation.run import Simulator
from operators.journal import JournalError

Told = list[tuple[str, str, str, str]]


def audited(left: Left, where: str) -> Told:
    """What the audit finds on a whole day."""
    findings = recounted(*left)
    return [("audit", key, where, str(found.first)) for key, found in findings.items() if not found.held]


def told_by_days() -> Told:
    told: Told = []
    for day in MACHINE_DAYS:
        try:
            told += audited(through_machine(day), day.__name__)
        except JournalError as error:
            told.append(("machine", "D3", day.__name__, str(error)))
    for own, changes in DESK_DAYS.items():
        told += audited(at_desk(own, **changes), own.__name__)
    return told


def told_by_scenes() -> Told:
    simulator = Simulator()
    findings = [(name, simulator.play(scenario).finding) for name, scenario in scenes()]
    return [("simulation", found.statement.name, name, str(found)) for name, found in findings if found]


if __name__ == "__main__":
    print(json.dumps(told_by_days() + told_by_scenes()))
