"""The account stage as a machine: journal batches in, rows of every output out. Key: account. State: one
int64 vector.
"""

from typing import Any

import numpy as np

from operators.account import apply_events
from operators.account_rules import initial_state
from operators.account_state import ACCOUNT, Rules, new_output, state_of
from schemas.batches import AccountBatch, JournalBatch
from schemas.config import Config


class Account:
    name = "account"
    version = 1

    def __init__(self, config: Config, rules: Rules):
        self.rules = rules
        self.state = initial_state(config, rules)

    def step(self, event: JournalBatch) -> list[AccountBatch]:
        events = event.events.view(np.recarray)
        parts: list[list[Any]] = [[], [], [], []]
        row = 0
        while True:
            # Fresh buffers, so that what is handed on need not be copied; pages that stay unused cost
            # nothing.
            out = new_output(len(self.rules.instruments), len(events))
            row = apply_events(events, event.values, event.verdicts, row, self.state, self.rules, out)
            for k in range(4):
                parts[k].append(out[k][: out.counts[k]].view(np.ndarray))
            if row == len(events):
                break
        orders, executions, decisions, equity = (
            rows[0] if len(rows) == 1 else np.concatenate(rows) for rows in parts
        )
        figures = self.figures() if event.final else None
        return [AccountBatch(orders, executions, decisions, equity, event.final, figures)]

    def figures(self) -> dict[str, Any]:
        """The account record as plain numbers."""
        row = self.state.account[0]
        assert ACCOUNT.names is not None
        return {name: row[name].tolist() for name in ACCOUNT.names}

    def dump(self) -> dict[str, Any]:
        return {"words": self.state.words.tobytes()}

    def load(self, data: dict[str, Any]) -> None:
        self.state = state_of(np.frombuffer(data["words"], np.int64).copy(), self.rules)
