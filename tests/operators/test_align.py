"""Align: one order of rows, however symbols arrive and wherever their batches are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from account_fixtures import FIRST_OPEN, MINUTE
from hypothesis import given
from hypothesis import strategies as st

from operators.account_state import COMMAND, EVENT, REPORT
from operators.align import Align
from schemas.batches import JournalBatch, SliceBatch, Ticks
from schemas.codes import EventKind

END_OF_TIME = 2**63 - 1
FOR_EVER = 999
STRATEGIES = 2
TICK = -1
CONTROL = 50  # commands stand behind the slices of their time

Line = tuple[int, int, int, int, int]  # time, instrument, close or command, value, verdict


def minute(k: int) -> int:
    return FIRST_OPEN + k * MINUTE


def end(complete: int) -> int:
    return minute(complete) if complete < FOR_EVER else END_OF_TIME


def line(instrument: int, time: int) -> Line:
    """A row that nothing else looks like."""
    mark = time * 10 + instrument
    return minute(time), instrument, 1000 + mark, mark, mark % 7


def tick(time: int) -> Line:
    return minute(time), TICK, 0, 0, 0


def order(time: int, number: int) -> Line:
    """A command, by its number."""
    return minute(time), CONTROL, number, 0, 0


def slices(instrument: int, times: Sequence[int], complete: int, final: bool = False) -> SliceBatch:
    events = np.zeros(len(times), EVENT)
    values = np.zeros((len(times), STRATEGIES), np.int64)
    verdicts = np.zeros((len(times), STRATEGIES), np.uint8)
    for k, time in enumerate(times):
        time_ns, _, close, value, verdict = line(instrument, time)
        events[k]["kind"] = EventKind.SLICE
        events[k]["time_ns"] = time_ns
        events[k]["instrument"] = instrument
        events[k]["close"] = close
        values[k] = value
        verdicts[k] = verdict
    return SliceBatch(instrument, events, values, verdicts, end(complete), final)


def ticks(
    times: Sequence[int],
    complete: int,
    final: bool = False,
    commands: Sequence[tuple[int, int]] | None = None,
) -> Ticks:
    """The clock, with commands: (time, number)."""
    clock = np.array([minute(t) for t in times], np.int64)
    if commands is None:
        return Ticks(clock, end(complete), final)
    rows = np.zeros(len(commands), COMMAND)
    rows["command_id"] = [number for _, number in commands]
    asked = np.array([minute(t) for t, _ in commands], np.int64)
    return Ticks(clock, end(complete), final, asked, rows)


def lines(batches: Sequence[JournalBatch]) -> list[Line]:
    """What the rows say, with their signals beside them. They are numbered without a gap."""
    found: list[Line] = []
    for batch in batches:
        assert batch.offset == batches[0].offset + len(found)
        assert (batch.reports.dtype, len(batch.reports)) == (REPORT, 0)
        control = batch.events["kind"] == EventKind.CONTROL
        assert batch.events["detail"][control].tolist() == list(range(len(batch.commands)))
        assert batch.values.shape == batch.verdicts.shape == (len(batch.events), STRATEGIES)
        assert (batch.values.dtype, batch.verdicts.dtype) == (np.int64, np.uint8)
        for event, value, verdict in zip(batch.events, batch.values, batch.verdicts, strict=True):
            if event["kind"] != EventKind.SLICE:
                assert event["instrument"] == -1
                assert not value.any()
                assert not verdict.any()
            assert len(set(value.tolist())) == len(set(verdict.tolist())) == 1
            instrument, content = int(event["instrument"]), int(event["close"])
            if event["kind"] == EventKind.CONTROL:
                instrument, content = CONTROL, int(batch.commands["command_id"][event["detail"]])
            found.append((int(event["time_ns"]), instrument, content, int(value[0]), int(verdict[0])))
    return found


def test_rows_of_one_time_stand_by_instrument_and_a_tick_stands_alone() -> None:
    align = Align(2, STRATEGIES)
    assert align.step(ticks([1, 2, 3], 3)) == []
    assert align.step(slices(1, [1], 3)) == []
    (out,) = align.step(slices(0, [1, 3], 3))
    assert lines([out]) == [
        line(0, 1),
        line(1, 1),
        tick(2),
        line(0, 3),
    ]
    assert not out.final


def test_a_slower_symbol_holds_the_others_back() -> None:
    align = Align(2, STRATEGIES)
    align.step(ticks([], FOR_EVER))
    assert align.step(slices(0, [1, 2, 3, 4], 4)) == []
    assert lines(align.step(slices(1, [1], 2))) == [line(0, 1), line(1, 1), line(0, 2)]
    assert align.step(slices(0, [5], 5)) == []
    assert lines(align.step(slices(1, [], 3))) == [line(0, 3)]
    assert lines(align.step(slices(1, [5], 9))) == [line(0, 4), line(0, 5), line(1, 5)]


def test_the_clock_holds_the_symbols_back_like_a_symbol() -> None:
    align = Align(1, STRATEGIES)
    assert align.step(slices(0, [1, 2], 2)) == []
    assert lines(align.step(ticks([0, 1], 1))) == [tick(0), line(0, 1)]
    assert lines(align.step(ticks([], 5))) == [line(0, 2)]


def test_commands_stand_behind_the_slices_of_their_time_and_say_the_time_like_them() -> None:
    align = Align(2, STRATEGIES)
    align.step(slices(0, [1, 2], 4))
    align.step(slices(1, [1], 4))
    (out,) = align.step(ticks([1, 2, 3, 4], 4, commands=[(1, 7), (3, 8), (3, 9)]))
    assert lines([out]) == [
        line(0, 1),
        line(1, 1),
        order(1, 7),
        line(0, 2),
        order(3, 8),
        order(3, 9),
        tick(4),
    ]


def test_a_command_waits_for_every_symbol() -> None:
    align = Align(1, STRATEGIES)
    assert align.step(ticks([], FOR_EVER, commands=[(2, 7), (3, 8)])) == []
    out = align.step(slices(0, [1], 1))
    assert lines(out) == [line(0, 1)]
    out += align.step(slices(0, [], 2))
    assert lines(out) == [line(0, 1), order(2, 7)]
    out += align.step(slices(0, [3], FOR_EVER, final=True))
    assert lines(out) == [line(0, 1), order(2, 7), line(0, 3), order(3, 8)]


def test_a_command_keeps_everything_that_it_says() -> None:
    align = Align(1, STRATEGIES)
    said = np.arange(len(COMMAND.names or ()), dtype=np.int64).view(COMMAND)
    align.step(Ticks(np.zeros(0, np.int64), END_OF_TIME, False, np.array([minute(1)], np.int64), said))
    restored = Align(1, STRATEGIES)
    restored.load(align.dump())
    (out,) = restored.step(slices(0, [], 1))
    assert out.commands.tolist() == said.tolist()


def test_rows_are_numbered_on_after_a_restart() -> None:
    align = Align(1, STRATEGIES)
    align.step(ticks([1, 2, 3], FOR_EVER))
    (first,) = align.step(slices(0, [1, 2], 2))
    restored = Align(1, STRATEGIES)
    restored.load(align.dump())
    (second,) = restored.step(slices(0, [4], 4))
    assert [(b.offset, len(b.events)) for b in (first, second)] == [(0, 2), (2, 2)]


def test_a_last_batch_without_rows_has_the_number_that_would_come_next() -> None:
    align = Align(1, STRATEGIES)
    align.step(slices(0, [1, 2], FOR_EVER, final=True))
    align.step(ticks([], 5))
    (out,) = align.step(ticks([], FOR_EVER, final=True))
    assert (out.offset, len(out.events), out.final) == (2, 0, True)


def test_nothing_new_gives_nothing() -> None:
    align = Align(1, STRATEGIES)
    align.step(ticks([], FOR_EVER))
    assert align.step(slices(0, [], 3)) == []
    assert align.step(slices(0, [], 3)) == []
    assert align.step(slices(0, [], 2)) == []


@pytest.mark.parametrize("last", ["a symbol", "the clock"])
def test_the_end_is_said_once_when_every_lane_has_said_it(last: str) -> None:
    align = Align(2, STRATEGIES)
    finals = [
        slices(0, [1], FOR_EVER, final=True),
        slices(1, [2], FOR_EVER, final=True),
        ticks([3], FOR_EVER, final=True),
    ]
    if last == "a symbol":
        finals.reverse()
    out = [batch for event in finals for batch in align.step(event)]
    assert [batch.final for batch in out] == [True]
    assert lines(out) == [line(0, 1), line(1, 2), tick(3)]


def test_the_end_is_said_when_there_is_nothing_left_to_say() -> None:
    align = Align(1, STRATEGIES)
    align.step(slices(0, [1], FOR_EVER))
    assert len(align.step(ticks([1], FOR_EVER))) == 1
    assert align.step(slices(0, [], FOR_EVER, final=True)) == []
    (out,) = align.step(ticks([], FOR_EVER, final=True))
    assert out.final
    assert lines([out]) == []


@dataclass(frozen=True)
class Lane:
    """Times of one symbol, or of the clock and its commands, and where its batches end."""

    instrument: int
    times: tuple[int, ...]
    cuts: tuple[int, ...]
    commands: tuple[tuple[int, int], ...] = ()

    def batches(self) -> list[SliceBatch | Ticks]:
        """Fresh batches; each claims completeness up to its cut, the last one for ever."""
        out: list[SliceBatch | Ticks] = []
        borders = [0, *self.cuts, FOR_EVER]
        for k in range(1, len(borders)):
            part = [t for t in self.times if borders[k - 1] < t <= borders[k]]
            last = k == len(borders) - 1
            if self.instrument == TICK:
                asked = [c for c in self.commands if borders[k - 1] < c[0] <= borders[k]]
                out.append(ticks(part, borders[k], last, asked))
            else:
                out.append(slices(self.instrument, part, borders[k], last))
        return out


TIMES = st.sets(st.integers(1, 25), max_size=25).map(lambda s: tuple(sorted(s)))


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Lane], list[int], list[bool]]:
    """Lanes, the order in which their batches arrive, after which the machine is dumped and loaded."""
    symbols = draw(st.integers(1, 3))
    lanes = [Lane(i, draw(TIMES), draw(TIMES)) for i in range(symbols)]
    asked = enumerate(sorted(draw(st.lists(st.integers(1, 25), max_size=6))))
    lanes.append(Lane(TICK, draw(TIMES), draw(TIMES), tuple((time, number) for number, time in asked)))
    turns = draw(st.permutations([k for k, lane in enumerate(lanes) for _ in range(len(lane.cuts) + 1)]))
    crashes = draw(st.lists(st.booleans(), min_size=len(turns), max_size=len(turns)))
    return lanes, list(turns), crashes


@given(arrivals())
def test_any_arrival_gives_the_same_rows(case: tuple[list[Lane], list[int], list[bool]]) -> None:
    lanes, turns, crashes = case
    symbols, clock = lanes[:-1], lanes[-1]
    told = [line(lane.instrument, t) for lane in symbols for t in lane.times]
    told += [order(*command) for command in clock.commands]
    heard = {t for lane in symbols for t in lane.times} | {t for t, _ in clock.commands}
    expected = sorted([*told, *(tick(t) for t in clock.times if t not in heard)])
    align = Align(len(lanes) - 1, STRATEGIES)
    waiting = [lane.batches() for lane in lanes]
    complete = [-1] * len(lanes)
    out: list[JournalBatch] = []
    for k, crash in zip(turns, crashes, strict=True):
        event = waiting[k].pop(0)
        complete[k] = event.complete_ns
        out += align.step(event)
        if crash:
            restored = Align(len(lanes) - 1, STRATEGIES)
            restored.load(align.dump())
            align = restored
        horizon = min(complete)
        assert lines(out) == [row for row in expected if row[0] <= horizon]
    assert lines(out) == expected
    assert out[0].offset == 0
    assert [batch.final for batch in out] == [False] * (len(out) - 1) + [True]


@given(arrivals())
def test_a_dump_is_plain_and_shares_no_memory(case: tuple[list[Lane], list[int], list[bool]]) -> None:
    lanes, turns, _ = case
    align = Align(len(lanes) - 1, STRATEGIES)
    waiting = [lane.batches() for lane in lanes]
    for k in turns[: len(turns) // 2]:
        align.step(waiting[k].pop(0))
    dumped = align.dump()
    kept = repr(dumped)
    for k in turns[len(turns) // 2 :]:
        align.step(waiting[k].pop(0))
    assert repr(dumped) == kept


def test_a_final_lane_holds_nothing_back() -> None:
    align = Align(2, 1)
    align.step(Ticks(np.zeros(0, np.int64), 2**63 - 1, True))
    rows = 0
    for instrument, times in ((0, [1, 2]), (1, [1, 2, 3, 4])):
        events = np.zeros(len(times), EVENT)
        events["time_ns"], events["instrument"] = times, instrument
        values, verdicts = np.zeros((len(times), 1), np.int64), np.zeros((len(times), 1), np.uint8)
        batch = SliceBatch(instrument, events, values, verdicts, times[-1], True)
        rows += sum(len(out.events) for out in align.step(batch))
    assert rows == 6
