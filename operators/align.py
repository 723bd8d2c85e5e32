"""Align: one order for the slices of all symbols of an account.

In: slices by symbol, each in time order, and the clock, which is one more lane beside the symbols, with
operators' commands. Out: journal rows sorted by time, then slices by instrument, then commands, and a tick
only where nothing else says its time, up to the time that every lane has reported. Rows are numbered from
the first without a gap. Key: account. State: what waits for slower symbols, bounded by what one symbol is
ahead of the slowest.

Always true: the output does not depend on the order in which symbols arrive, nor on where their batches are
cut.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.account_state import COMMAND, EVENT, REPORT
from operators.compiled import kernel
from schemas.batches import JournalBatch, SliceBatch, Ticks
from schemas.codes import EventKind, Verdict

NOT_REPORTED = -1
END_OF_TIME = np.iinfo(np.int64).max

_Part = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8]]


class Align:
    name = "align"
    version = 1

    def __init__(self, instruments: int, strategies: int):
        self.strategies = strategies
        self.complete_ns = np.full(instruments + 1, NOT_REPORTED, np.int64)
        self.final = np.zeros(instruments + 1, np.bool_)
        self.waiting: list[list[SliceBatch]] = [[] for _ in range(instruments)]
        self.ticks: NDArray[np.int64] = np.zeros(0, np.int64)
        self.command_times: NDArray[np.int64] = np.zeros(0, np.int64)
        self.commands: NDArray[Any] = np.zeros(0, COMMAND)
        self.offset = 0

    def step(self, event: SliceBatch | Ticks) -> list[JournalBatch]:
        if isinstance(event, Ticks):
            self.ticks = np.concatenate([self.ticks, event.times_ns])
            if event.commands is not None and event.command_times_ns is not None:
                self.command_times = np.concatenate([self.command_times, event.command_times_ns])
                self.commands = np.concatenate([self.commands, event.commands])
            lane = len(self.waiting)
        else:
            lane = event.instrument
            if len(event.events):
                self.waiting[lane].append(event)
        before = int(self.complete_ns.min())
        self.complete_ns[lane] = max(self.complete_ns[lane], event.complete_ns)
        if event.final:
            self.final[lane] = True
            self.complete_ns[lane] = END_OF_TIME
        horizon = int(self.complete_ns.min())
        if horizon == before and not (event.final and self.final.all()):
            return []
        return self._emit(horizon)

    def _emit(self, horizon: int) -> list[JournalBatch]:
        """Everything up to `horizon`, in order."""
        parts: list[_Part] = []
        for waiting in self.waiting:
            while waiting:
                batch = waiting[0]
                ready = int(np.searchsorted(batch.events["time_ns"], horizon, side="right"))
                if ready:
                    parts.append((batch.events[:ready], batch.values[:ready], batch.verdicts[:ready]))
                if ready < len(batch.events):
                    batch.events = batch.events[ready:]
                    batch.values = batch.values[ready:]
                    batch.verdicts = batch.verdicts[ready:]
                    break
                waiting.pop(0)
        due = int(np.searchsorted(self.ticks, horizon, side="right"))
        ticks, self.ticks = self.ticks[:due], self.ticks[due:]
        asked = int(np.searchsorted(self.command_times, horizon, side="right"))
        times, self.command_times = self.command_times[:asked], self.command_times[asked:]
        commands, self.commands = self.commands[:asked], self.commands[asked:]
        final = bool(self.final.all())
        if not parts and not due and not asked and not final:
            return []
        if asked:
            parts.append(self._rows(EventKind.CONTROL, times))
        parts.append(self._rows(EventKind.TICK, ticks))
        events, values, verdicts = _merged(parts)
        offset = self.offset
        self.offset += len(events)
        return [JournalBatch(offset, events, values, verdicts, np.zeros(0, REPORT), commands, final)]

    def _rows(self, kind: EventKind, times_ns: NDArray[np.int64]) -> "_Part":
        rows = np.zeros(len(times_ns), EVENT)
        rows["kind"] = kind
        rows["time_ns"] = times_ns
        rows["instrument"] = -1
        rows["detail"] = np.arange(len(times_ns))
        shape = (len(times_ns), self.strategies)
        return rows, np.zeros(shape, np.int64), np.full(shape, Verdict.ABSENT, np.uint8)

    def dump(self) -> dict[str, Any]:
        return {
            "complete_ns": self.complete_ns.tobytes(),
            "final": self.final.tobytes(),
            "ticks": self.ticks.tobytes(),
            "command_times": self.command_times.tobytes(),
            "commands": self.commands.tobytes(),
            "offset": self.offset,
            "waiting": [
                [(b.events.tobytes(), b.values.tobytes(), b.verdicts.tobytes()) for b in waiting]
                for waiting in self.waiting
            ],
        }

    def load(self, data: dict[str, Any]) -> None:
        self.complete_ns = np.frombuffer(data["complete_ns"], np.int64).copy()
        self.final = np.frombuffer(data["final"], np.bool_).copy()
        self.ticks = np.frombuffer(data["ticks"], np.int64).copy()
        self.command_times = np.frombuffer(data["command_times"], np.int64).copy()
        self.commands = np.frombuffer(data["commands"], COMMAND).copy()
        self.offset = data["offset"]
        self.waiting = [
            [
                SliceBatch(
                    i,
                    np.frombuffer(events, EVENT).copy(),
                    np.frombuffer(values, np.int64).reshape(-1, self.strategies).copy(),
                    np.frombuffer(verdicts, np.uint8).reshape(-1, self.strategies).copy(),
                    NOT_REPORTED,
                    False,
                )
                for events, values, verdicts in waiting
            ]
            for i, waiting in enumerate(data["waiting"])
        ]


def _merged(parts: list["_Part"]) -> "_Part":
    """Parts, each sorted by time and given in order of precedence, the ticks last, as one sorted by time."""
    lengths = [len(events) for events, _, _ in parts]
    times = np.concatenate([events["time_ns"] for events, _, _ in parts])
    order = np.empty(len(times), np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    heads = bounds[:-1].copy()
    rows = merge_order(times, heads, bounds[1:], order)
    if rows == lengths[0]:
        return parts[0]  # one symbol, and nothing without a bar of it
    order = order[:rows]
    events, values, verdicts = (np.concatenate(columns)[order] for columns in zip(*parts, strict=True))
    return events, values, verdicts


@kernel
def merge_order(times, heads, ends, order):
    """Fill `order` with the rows of sorted lanes in order of time, then lane; returns how many.

    Lane k is rows `heads[k]` to `ends[k]` of `times`; `heads` is used up. The last lane is the clock: a tick
    at the time of a row before it says nothing new and is left out.
    """
    lanes = len(heads)
    done = 0
    while True:
        now = np.iinfo(np.int64).max
        for k in range(lanes):
            if heads[k] < ends[k]:
                now = min(now, times[heads[k]])
        if now == np.iinfo(np.int64).max:
            return done
        before = done
        for k in range(lanes):
            while heads[k] < ends[k] and times[heads[k]] == now:
                if k < lanes - 1 or done == before:
                    order[done] = heads[k]
                    done += 1
                heads[k] += 1
