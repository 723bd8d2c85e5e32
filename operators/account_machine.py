"""The account stage as a machine: journal batches in, rows of every output out. Key: account. State: one
int64 vector, and that of the paper venue, where it is inside the stage.

Always true: the state names the last row of the journal it holds. Rows before that are not applied again, and
a gap stops the stage.
"""

from typing import Any

import numpy as np

from operators.account import apply_events
from operators.account_rules import initial_state
from operators.account_state import ACCOUNT, REPORT, Rules, new_output, records, state_of
from operators.journal import JournalError
from operators.paper_venue import new_venue, venue_of, venue_rules
from schemas.batches import AccountBatch, JournalBatch
from schemas.codes import Breaker, HaltLevel, Reason
from schemas.config import Config

TABLES = 5


class Account:
    name = "account"
    version = 2

    def __init__(self, config: Config, rules: Rules):
        self.config = config
        self.rules = rules
        self.state = initial_state(config, rules)
        self.venue = new_venue(config)
        self.terms = venue_rules(config)
        self.inbox = records(REPORT, 1)

    def step(self, event: JournalBatch) -> list[AccountBatch]:
        events = event.events.view(np.recarray)
        reports, commands = event.reports.view(np.recarray), event.commands.view(np.recarray)
        parts: list[list[Any]] = [[] for _ in range(TABLES)]
        row = self._first(event)
        while True:
            # Fresh buffers, so that what is handed on need not be copied; pages that stay unused cost
            # nothing.
            out = new_output(len(self.rules.instruments), len(events))
            row = apply_events(
                events,
                event.values,
                event.verdicts,
                reports,
                commands,
                row,
                self.state,
                self.rules,
                out,
                self.venue,
                self.terms,
                self.inbox,
            )
            for k in range(TABLES):
                parts[k].append(out[k][: out.counts[k]].view(np.ndarray))
            if row == len(events):
                break
        if self.state.account[0].overflow:
            raise JournalError(
                f"{self.state.account[0].overflow} rows of output did not fit one event; this is a bound of "
                f"the account stage (rows_per_group), please report it"
            )
        orders, executions, decisions, equity, alerts = (
            rows[0] if len(rows) == 1 else np.concatenate(rows) for rows in parts
        )
        level = HaltLevel(self.state.account[0].level)
        figures = self.figures() if event.final else None
        return [AccountBatch(orders, executions, decisions, equity, alerts, level, event.final, figures)]

    def _first(self, event: JournalBatch) -> int:
        """The first row of the batch that was not applied before."""
        applied = int(self.state.account[0].offset)
        if event.offset > applied:
            raise JournalError(
                f"account {self.config.account.id!r}: the journal goes on at row {event.offset:,}, but only "
                f"{applied:,} rows were applied; rows are missing. Start anew with an empty recovery "
                f"directory."
            )
        return min(applied - event.offset, len(event.events))

    def figures(self) -> dict[str, Any]:
        """The account record as plain numbers, and what an operator wants to know of the rest."""
        row = self.state.account[0]
        assert ACCOUNT.names is not None
        return {name: row[name].tolist() for name in ACCOUNT.names} | {"state": self._status()}

    def _status(self) -> dict[str, Any]:
        """What restrains the account, and what it holds, by name."""
        config, state, rules = self.config, self.state, self.rules
        names = [s.name for s in config.strategies]
        places = [(Breaker(k), "", "") for k in range(3)]
        places += [(Breaker(k), name, "") for name in names for k in range(3, 6)]
        places += [(Breaker.EXIT_FAILURE, "", symbol) for symbol in config.instruments]
        places += [
            (Breaker.REPEATED_EXECUTION, [*names, ""][h.strategy], config.instruments[h.instrument])
            for h in rules.holdings
        ]
        rows = zip(places, state.breakers, strict=True)
        assert state.limits.dtype.names is not None
        return {
            "time_ns": int(state.account[0].time_ns),
            "level": HaltLevel(state.account[0].level).name.lower(),
            "flatten": bool(state.account[0].flattening),
            "breakers": [
                {
                    "breaker": breaker.name.lower(),
                    "strategy": strategy,
                    "instrument": instrument,
                    "until_ns": int(row.until_ns),
                    "observed": int(row.observed),
                    "limit": int(row.limit),
                }
                for (breaker, strategy, instrument), row in rows
                if row.tripped
            ],
            "trips": {
                breaker.name.lower(): sum(
                    int(row.trips)
                    for place, row in zip(places, state.breakers, strict=True)
                    if place[0] == breaker
                )
                for breaker in Breaker
            },
            "blocked": {
                symbol: Reason(row.blocked).name.lower()
                for symbol, row in zip(config.instruments, state.positions, strict=True)
                if row.blocked
            },
            "positions": {
                symbol: int(row.quantity)
                for symbol, row in zip(config.instruments, state.positions, strict=True)
                if row.quantity
            },
            "changed_limits": {
                name: int(state.limits[0][name])
                for name in state.limits.dtype.names
                if state.limits[0][name] != rules.limits[0][name]
            },
            "strategies": [
                {
                    "strategy": names[holding.strategy] if holding.strategy >= 0 else "",
                    "instrument": config.instruments[holding.instrument],
                    "realised": int(row.realised),
                    "unrealised": int(row.quantity * state.positions[holding.instrument].mark - row.book),
                    "fees": int(row.fees),
                }
                for holding, row in zip(rules.holdings, state.holdings, strict=True)
                if row.fees or row.realised or row.quantity
            ],
        }

    def dump(self) -> dict[str, Any]:
        return {"words": self.state.words.tobytes(), "venue": self.venue.words.tobytes()}

    def load(self, data: dict[str, Any]) -> None:
        self.state = state_of(np.frombuffer(data["words"], np.int64).copy(), self.rules)
        words = np.frombuffer(data["venue"], np.int64).copy()
        self.venue = venue_of(words, len(self.rules.instruments))
