"""The journal as it stands in its topic, put into the order of event time.

In: records of one account, in the order of the topic. Out: aligned rows for whoever applies them. State: what
waits, and the place in the topic.

| record | passes |
|---|---|
| slice | when all instruments have reported its time or a later one, or a tick is the grace later |
| tick | with the slices of its time; alone, where nothing else says its time |
| report, command | at once and alone, at the time reached so far |
| repetition: a slice of a time its instrument has reported, a tick of a time reached, a command | never |

Always true: what passes together depends on the records alone, not on how they were polled, so the same
topic gives the same batches. A batch is sorted by time, then instrument, ticks last; a slice that is later
than its batch is a batch of its own.
"""

from typing import Any

import numpy as np

from operators.account_state import COMMAND, EVENT, REPORT
from schemas.batches import JournalBatch, JournalRows
from schemas.codes import EventKind, Verdict

MOST_WAITING = 1 << 20
COMMANDS_KNOWN = 64  # a control folder is read again after a restart
NOT_REPORTED = -1


class JournalError(RuntimeError):
    """The journal cannot be applied; the account stops rather than guess."""


class Journal:
    name = "journal"
    version = 1

    def __init__(self, instruments: int, strategies: int, grace_ns: int):
        self.strategies = strategies
        self.grace_ns = grace_ns
        self.next_offset = 0
        self.seen_ns = [NOT_REPORTED] * instruments
        self.tick_ns = NOT_REPORTED
        self.reached_ns = 0
        self.passed = 0
        self.commands: list[bytes] = []
        self.waiting: tuple[Any, ...] = _no_rows(0, strategies)

    def step(self, event: JournalRows) -> list[JournalBatch]:
        out: list[JournalBatch] = []
        keep: list[int] = []
        columns = (event.events[name].tolist() for name in ("kind", "time_ns", "instrument", "detail"))
        for k, (offset, kind, time_ns, instrument, detail) in enumerate(
            zip(event.offsets.tolist(), *columns, strict=True)
        ):
            if not self._is_next(offset):
                continue
            if kind == EventKind.CONTROL and self._is_known(event.commands[detail].tobytes()):
                continue
            if kind in (EventKind.EXECUTION, EventKind.CONTROL):
                self._wait(event, keep)
                keep = []
                out.append(self._at_once(event, kind, detail))
                continue
            if kind == EventKind.TICK:
                if time_ns <= max(self.tick_ns, self.reached_ns):
                    continue
                self.tick_ns = time_ns
            else:
                if time_ns <= self.seen_ns[instrument]:
                    continue
                self.seen_ns[instrument] = time_ns
            keep.append(k)
            horizon = max(min(self.seen_ns), self.tick_ns - self.grace_ns)
            if horizon > self.reached_ns or time_ns <= self.reached_ns:
                self.reached_ns = max(self.reached_ns, horizon)
                self._wait(event, keep)
                keep = []
                out += self._pass()
        self._wait(event, keep)
        return out

    def _is_next(self, offset: int) -> bool:
        """Was this record not applied before? Raises `JournalError` where records are missing."""
        if offset > self.next_offset:
            raise JournalError(
                f"the journal goes on at offset {offset:,}, but only what stands before "
                f"{self.next_offset:,} was read; records are missing. Start anew with an empty recovery "
                f"directory and the whole journal"
            )
        if offset < self.next_offset:
            return False
        self.next_offset += 1
        return True

    def _is_known(self, command: bytes) -> bool:
        if command in self.commands:
            return True
        self.commands = [*self.commands, command][-COMMANDS_KNOWN:]
        return False

    def _wait(self, event: JournalRows, rows: list[int]) -> None:
        if rows:
            events, values, verdicts = self.waiting
            self.waiting = (
                np.concatenate([events, event.events[rows]]),
                np.concatenate([values, event.values[rows]]),
                np.concatenate([verdicts, event.verdicts[rows]]),
            )
            if len(self.waiting[0]) > MOST_WAITING:
                raise JournalError(
                    f"{MOST_WAITING:,} records wait for an instrument that does not report; the journal "
                    f"has no ticks that would end the wait: see live.clock"
                )

    def _pass(self) -> list[JournalBatch]:
        """What waits up to the time reached."""
        events, _, _ = self.waiting
        ready = events["time_ns"] <= self.reached_ns
        chosen = np.flatnonzero(ready)
        order = chosen[np.lexsort((_rank(events[chosen]), events["time_ns"][chosen]))]
        times = events["time_ns"][order]
        said = np.concatenate([[False], times[1:] == times[:-1]]) & (events["kind"][order] == EventKind.TICK)
        order = order[~said]
        events, values, verdicts = (column[order] for column in self.waiting)
        self.waiting = tuple(column[~ready] for column in self.waiting)
        if not len(order):
            return []
        return [self._batch(events, values, verdicts, np.zeros(0, REPORT), np.zeros(0, COMMAND))]

    def _at_once(self, event: JournalRows, kind: int, detail: int) -> JournalBatch:
        events, values, verdicts = _no_rows(1, self.strategies)
        events["kind"] = kind
        events["time_ns"] = self.reached_ns
        events["instrument"] = -1
        reports = event.reports[detail : detail + 1] if kind == EventKind.EXECUTION else np.zeros(0, REPORT)
        commands = event.commands[detail : detail + 1] if kind == EventKind.CONTROL else np.zeros(0, COMMAND)
        return self._batch(events, values, verdicts, reports, commands)

    def _batch(self, events: Any, values: Any, verdicts: Any, reports: Any, commands: Any) -> JournalBatch:
        before, self.passed = self.passed, self.passed + len(events)
        return JournalBatch(before, events, values, verdicts, reports, commands, final=False)

    def dump(self) -> dict[str, Any]:
        return {
            "next_offset": self.next_offset,
            "seen_ns": list(self.seen_ns),
            "tick_ns": self.tick_ns,
            "reached_ns": self.reached_ns,
            "passed": self.passed,
            "commands": list(self.commands),
            "waiting": [column.tobytes() for column in self.waiting],
        }

    def load(self, data: dict[str, Any]) -> None:
        self.next_offset = data["next_offset"]
        self.seen_ns = list(data["seen_ns"])
        self.tick_ns = data["tick_ns"]
        self.reached_ns = data["reached_ns"]
        self.passed = data["passed"]
        self.commands = list(data["commands"])
        events, values, verdicts = data["waiting"]
        self.waiting = (
            np.frombuffer(events, EVENT).copy(),
            np.frombuffer(values, np.int64).reshape(-1, self.strategies).copy(),
            np.frombuffer(verdicts, np.uint8).reshape(-1, self.strategies).copy(),
        )


def _rank(events: Any) -> Any:
    """Order within one time: slices by instrument, ticks last."""
    return np.where(events["kind"] == EventKind.TICK, np.iinfo(np.int64).max, events["instrument"])


def _no_rows(n: int, strategies: int) -> tuple[Any, ...]:
    shape = (n, strategies)
    return np.zeros(n, EVENT), np.zeros(shape, np.int64), np.full(shape, Verdict.ABSENT, np.uint8)
