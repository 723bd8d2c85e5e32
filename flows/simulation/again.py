"""The journal of a scenario through the account stage again: at once, in cuts, and through crashes.

Only whole groups of one time are cut, as everywhere. The account of the replay is the machine that runs in
the graph; what it gives is compared byte by byte with what the simulation saw.
"""

from typing import Any

import numpy as np

from flows.simulation.run import Finding, Played
from flows.simulation.shadow import NONE, Statement
from operators.account_machine import TABLES, Account
from operators.journal import JournalError
from schemas.batches import AccountBatch, JournalBatch


class Replay:
    """The journal of what was played, to be applied piece by piece."""

    def __init__(self, played: Played):
        self.played = played
        self.outputs = played.outputs()
        self.words = played.state.words
        times = played.journal.events[: played.rows]["time_ns"]
        self.starts = np.flatnonzero(np.diff(times, prepend=NONE))

    def account(self) -> Account:
        return Account(self.played.scenario.config, self.played.rules)

    def batch(self, first: int, last: int) -> JournalBatch:
        journal = self.played.journal
        return JournalBatch(
            first,
            journal.events[first:last],
            journal.values[first:last],
            journal.verdicts[first:last],
            journal.reports[: journal.counts[1]],
            self.played.scenario.commands,
            False,
        )

    def cuts(self) -> list[int]:
        """Rows at which a group begins, where the scenario wants crashes."""
        wanted = [cut * self.played.rows // 1000 for cut in self.played.scenario.cuts]
        return [int(self.starts[np.searchsorted(self.starts, row, side="right") - 1]) for row in wanted]

    def at_once(self) -> Finding | None:
        account = self.account()
        found = self._compare(account.step(self.batch(0, self.played.rows)), "at once")
        return found or self._compare_state(account, "at once")

    def through_crashes(self) -> Finding | None:
        """At each cut the process dies; it comes back with the snapshot of the cut before, and reads again
        from the start of the journal.
        """
        account = self.account()
        kept: list[AccountBatch] = []
        snapshot, done = account.dump(), 0
        for cut in [*self.cuts(), self.played.rows]:
            kept.append(account.step(self.batch(done, cut))[0])
            account = self.account()
            account.load(snapshot)
            found = self._again(account, kept[-1], cut)
            if found:
                return found
            snapshot, done = account.dump(), cut
        return self._compare(kept, "through crashes") or self._compare_state(account, "through crashes")

    def _again(self, account: Account, before: AccountBatch, cut: int) -> Finding | None:
        """What was applied after the snapshot, again: the same outputs, and nothing of what was in it."""
        again = account.step(self.batch(0, cut))[0]
        for name, rows, expected in zip(NAMES, tables(again), tables(before), strict=True):
            if rows.tobytes() != expected.tobytes():
                return self._finding(Statement.D3, cut, len(rows), len(expected), f"{name} after a crash")
        return None

    def with_a_gap(self) -> Finding | None:
        """Rows are missing: the account must stop."""
        if len(self.starts) < 2:
            return None
        account = self.account()
        try:
            account.step(self.batch(int(self.starts[1]), self.played.rows))
        except JournalError:
            return None
        return self._finding(Statement.D3, 0, int(self.starts[1]), 0, "a gap was applied")

    def _compare(self, parts: list[AccountBatch], how: str) -> Finding | None:
        for k, name in enumerate(NAMES):
            rows = np.concatenate([tables(part)[k] for part in parts])
            expected = self.outputs[k]
            if rows.tobytes() != expected.tobytes():
                return self._finding(Statement.D2, 0, len(rows), len(expected), f"{name}, {how}")
        return None

    def _compare_state(self, account: Account, how: str) -> Finding | None:
        differ = np.flatnonzero(account.state.words != self.words)
        if len(differ):
            k = int(differ[0])
            now, before = int(account.state.words[k]), int(self.words[k])
            return self._finding(Statement.D2, k, now, before, f"word {k} of the state, {how}")
        return None

    def _finding(self, statement: Statement, event: int, observed: int, limit: int, note: str) -> Finding:
        return Finding(statement, event, 0, NONE, observed, limit, note)


NAMES = ("orders", "executions", "decisions", "equity", "alerts")


def tables(batch: AccountBatch) -> tuple[Any, ...]:
    return batch.orders, batch.executions, batch.decisions, batch.equity, batch.alerts


def replay(played: Played) -> Finding | None:
    """Apply the journal again in every way; the first difference, if there is one."""
    again = Replay(played)
    try:
        found = again.at_once() or again.through_crashes() or again.with_a_gap()
    except JournalError as error:
        found = Finding(Statement.D3, 0, 0, NONE, 0, 0, str(error))
    for statement in (Statement.D2, Statement.D3):
        played.shadow.tested[statement] += 1
    return found


assert len(NAMES) == TABLES
