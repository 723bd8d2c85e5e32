"""What the nets say of the account that is imported here: `python nets.py SEED... DAY...`.

A seed is a session of the simulation, a day one of those below, which goes through the account's machine with
the paper venue inside. What leaves either goes through the audit. Printed is one line of JSON: a list of
[net, statement, where, text].
"""

import json
import sys
from typing import Any

import numpy as np
from account_fixtures import BULL, BULL3, QQQ, Row, a_busy_day, at, journal, make_config, make_sessions, minutes

from flows.auditor import Auditor, AuditBatch
from flows.auditor.machine import recounted
from flows.simulation.again import replay
from flows.simulation.run import Simulator
from flows.simulation.scenario import make_scenario
from operators.account_machine import Account, JournalError
from operators.account_rules import account_rules
from operators.account_state import COMMAND, records
from schemas.batches import AccountBatch, JournalBatch
from schemas.codes import ControlAction, ControlRefusal
from schemas.config import Config
from schemas.records import MAX_INT
from schemas.sessions import Sessions

Told = list[tuple[str, str, str, str]]
TABLES = ("orders", "executions", "decisions", "alerts", "equity")


def told_by_seed(seed: int) -> Told:
    """A simulated session, its journal again, and the audit of what left it."""
    played = Simulator().play(make_scenario(seed))
    where = f"seed {seed}"
    told: Told = []
    found = played.finding or replay(played)
    if found:
        told.append(("simulation", found.statement.name, where, str(found)))
    orders, executions, decisions, equity, alerts = played.outputs()
    batch = AuditBatch(orders, executions, decisions, alerts, equity)
    scenario = played.scenario
    cash = int(played.state.account[0].cash)
    return told + audited(scenario.config, scenario.sessions, cash, batch, where)


def audited(config: Config, sessions: Sessions, cash: int, batch: AuditBatch, where: str) -> Told:
    findings = recounted(Auditor.of(config, sessions, closing_cash=cash), batch)
    return [
        ("audit", key, where, str(finding.first))
        for key, finding in findings.items()
        if not finding.held
    ]


# --- days


def command(action: ControlAction, time_ns: int, keys: int, refusal: int = ControlRefusal.NONE) -> Row:
    row = records(COMMAND, 1)[0]
    row.action, row.command_id, row.expires_ns, row.keys, row.refusal = action, time_ns, MAX_INT, keys, refusal
    row.breaker = row.strategy = row.instrument = row.limit = -1
    return Row(time_ns, -1, command=row)


def busy() -> tuple[Config, Sessions, list[Row]]:
    """Three sessions in which sides and tiers change; bars are empty or missing."""
    return make_config(), make_sessions(30, 30, 30), a_busy_day()


DAYS = {"busy": busy}


def told_by_day(name: str) -> Told:
    """A day through the machine, cut in three: between them the state is dumped and loaded, and rows that were
    applied before come again.
    """
    config, sessions, rows = DAYS[name]()
    rules = account_rules(config, sessions, paper=True)
    events, values, verdicts, reports, commands = journal(rows, len(config.strategies))
    machine = Account(config, rules)
    parts: list[AccountBatch] = []
    cuts = [0, *(k for k in range(1, len(rows)) if rows[k].time_ns != rows[k - 1].time_ns), len(rows)]
    marks = [cuts[len(cuts) * k // 3] for k in range(3)] + [len(rows)]
    for k in range(3):
        first, last = marks[max(k - 1, 0)], marks[k + 1]
        batch = JournalBatch(
            first, events[first:last], values[first:last], verdicts[first:last], reports, commands, k == 2
        )
        try:
            parts += machine.step(batch)
        except JournalError as error:
            return [("machine", "D3", name, str(error))]
        snapshot = machine.dump()
        machine = Account(config, rules)
        machine.load(snapshot)
    tables = {table: np.concatenate([getattr(part, table) for part in parts]) for table in TABLES}
    cash = int(machine.state.account[0].cash)
    return audited(config, sessions, cash, AuditBatch(**tables), name)


def main(names: list[str]) -> None:
    told: Told = []
    for name in names:
        told += told_by_seed(int(name)) if name.isdigit() else told_by_day(name)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
