"""Align: one order for the slices of all symbols of an account.

In: slices by symbol, each in time order, and clock ticks, which are one more lane beside the symbols. Out: journal rows sorted by time, slices before the tick of their
time and by instrument, up to the time that every lane has reported. Key: account. State: what waits for slower symbols,
bounded by what one symbol is ahead of the slowest.

Always true: the output does not depend on the order in which symbols arrive, nor on where their batches are cut.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.account_state import EVENT
from schemas.batches import JournalBatch, SliceBatch, Ticks
from schemas.codes import EventKind, Verdict

NOT_REPORTED = -1


class Align:
    name = "align"
    version = 1

    def __init__(self, instruments: int, strategies: int):
        self.strategies = strategies
        self.complete_ns = np.full(instruments + 1, NOT_REPORTED, np.int64)
        self.final = np.zeros(instruments + 1, np.bool_)
        self.waiting: list[list[SliceBatch]] = [[] for _ in range(instruments)]
        self.ticks: NDArray[np.int64] = np.zeros(0, np.int64)

    def step(self, event: SliceBatch | Ticks) -> list[JournalBatch]:
        if isinstance(event, Ticks):
            self.ticks = np.concatenate([self.ticks, event.times_ns])
            lane = len(self.waiting)
        else:
            lane = event.instrument
            if len(event.events):
                self.waiting[lane].append(event)
        before = int(self.complete_ns.min())
        self.complete_ns[lane] = max(self.complete_ns[lane], event.complete_ns)
        self.final[lane] |= event.final
        horizon = int(self.complete_ns.min())
        if horizon == before and not (event.final and self.final.all()):
            return []
        return self._emit(horizon)

    def _emit(self, horizon: int) -> list[JournalBatch]:
        """Everything up to `horizon`, in order."""
        events: list[NDArray[Any]] = []
        values: list[NDArray[np.int64]] = []
        verdicts: list[NDArray[np.uint8]] = []
        for waiting in self.waiting:
            while waiting:
                batch = waiting[0]
                ready = int(np.searchsorted(batch.events["time_ns"], horizon, side="right"))
                if ready:
                    events.append(batch.events[:ready])
                    values.append(batch.values[:ready])
                    verdicts.append(batch.verdicts[:ready])
                if ready < len(batch.events):
                    batch.events = batch.events[ready:]
                    batch.values = batch.values[ready:]
                    batch.verdicts = batch.verdicts[ready:]
                    break
                waiting.pop(0)
        due = int(np.searchsorted(self.ticks, horizon, side="right"))
        if due:
            ticks = np.zeros(due, EVENT)
            ticks["kind"] = EventKind.TICK
            ticks["time_ns"] = self.ticks[:due]
            ticks["instrument"] = -1
            events.append(ticks)
            values.append(np.zeros((due, self.strategies), np.int64))
            verdicts.append(np.full((due, self.strategies), Verdict.ABSENT, np.uint8))
            self.ticks = self.ticks[due:]
        final = bool(self.final.all())
        if not events:
            return [_journal([], [], [], self.strategies, final)] if final else []
        return [_journal(events, values, verdicts, self.strategies, final)]

    def dump(self) -> dict[str, Any]:
        return {
            "complete_ns": self.complete_ns.tobytes(),
            "final": self.final.tobytes(),
            "ticks": self.ticks.tobytes(),
            "waiting": [
                [(b.events.tobytes(), b.values.tobytes(), b.verdicts.tobytes()) for b in waiting]
                for waiting in self.waiting
            ],
        }

    def load(self, data: dict[str, Any]) -> None:
        self.complete_ns = np.frombuffer(data["complete_ns"], np.int64).copy()
        self.final = np.frombuffer(data["final"], np.bool_).copy()
        self.ticks = np.frombuffer(data["ticks"], np.int64).copy()
        self.waiting = [
            [
                SliceBatch(
                    i,
                    np.frombuffer(events, EVENT),
                    np.frombuffer(values, np.int64).reshape(-1, self.strategies),
                    np.frombuffer(verdicts, np.uint8).reshape(-1, self.strategies),
                    NOT_REPORTED,
                    False,
                )
                for events, values, verdicts in waiting
            ]
            for i, waiting in enumerate(data["waiting"])
        ]


def _journal(
    events: list[NDArray[Any]],
    values: list[NDArray[np.int64]],
    verdicts: list[NDArray[np.uint8]],
    strategies: int,
    final: bool,
) -> JournalBatch:
    """Parts, each sorted by time and given in order of precedence, as one batch sorted by time."""
    if not events:
        return JournalBatch(
            np.zeros(0, EVENT), np.zeros((0, strategies), np.int64), np.zeros((0, strategies), np.uint8), final
        )
    if len(events) == 1:
        return JournalBatch(events[0], values[0], verdicts[0], final)
    rows, signals, said = np.concatenate(events), np.concatenate(values), np.concatenate(verdicts)
    order = np.argsort(rows["time_ns"], kind="stable")  # merges the sorted parts
    return JournalBatch(rows[order], signals[order], said[order], final)
