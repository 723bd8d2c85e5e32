"""The journal as it stands in a topic: what passes when, whatever the portions in which it was read."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_state import COMMAND, EVENT, REPORT
from operators.journal import Journal, JournalError
from schemas.batches import JournalBatch, JournalRows
from schemas.codes import EventKind, Verdict

INSTRUMENTS, STRATEGIES, GRACE = 3, 2, 20
SLICE, TICK, EXECUTION, CONTROL = EventKind.SLICE, EventKind.TICK, EventKind.EXECUTION, EventKind.CONTROL

Said = tuple[EventKind, int, int]
"""(kind, time, instrument)."""


def rows(said: list[Said], first: int = 0) -> JournalRows:
    """Records at offsets `first`...; the value of a slice is its offset, so is the id of what has one."""
    n = len(said)
    events = np.zeros(n, EVENT)
    values = np.zeros((n, STRATEGIES), np.int64)
    verdicts = np.full((n, STRATEGIES), Verdict.ABSENT, np.uint8)
    reports, commands = [], []
    for k, (kind, time_ns, instrument) in enumerate(said):
        events[k]["kind"], events[k]["time_ns"], events[k]["instrument"] = kind, time_ns, instrument
        values[k] = first + k
        if kind == EXECUTION:
            events[k]["detail"] = len(reports)
            report = np.zeros(1, REPORT)
            report["execution_id"] = first + k
            reports.append(report)
        if kind == CONTROL:
            events[k]["detail"] = len(commands)
            command = np.zeros(1, COMMAND)
            command["command_id"] = first + k
            commands.append(command)
    return JournalRows(
        np.arange(first, first + n),
        events,
        values,
        verdicts,
        np.concatenate([np.zeros(0, REPORT), *reports]),
        np.concatenate([np.zeros(0, COMMAND), *commands]),
    )


def shown(batches: list[JournalBatch]) -> list[tuple[int, list[tuple[int, ...]]]]:
    """(offset, rows of a batch) of each: kind, time, instrument and where it stood in the topic."""
    out = []
    for batch in batches:
        told = [int(x) for x in batch.reports["execution_id"]], [int(x) for x in batch.commands["command_id"]]
        stood = [
            told[0][0] if e["kind"] == EXECUTION else told[1][0] if e["kind"] == CONTROL else int(v[0])
            for e, v in zip(batch.events, batch.values, strict=True)
        ]
        out.append(
            (
                batch.offset,
                [
                    (int(e["kind"]), int(e["time_ns"]), int(e["instrument"]), k)
                    for e, k in zip(batch.events, stood, strict=True)
                ],
            )
        )
    return out


def journal() -> Journal:
    return Journal(INSTRUMENTS, STRATEGIES, GRACE)


def passed(said: list[Said]) -> list[list[tuple[int, ...]]]:
    return [batch for _, batch in shown(journal().step(rows(said)))]


def test_slices_of_a_time_pass_together_when_all_have_reported_it() -> None:
    said = [(SLICE, 60, 2), (SLICE, 60, 0), (SLICE, 60, 1)]
    assert passed(said[:2]) == []
    assert passed(said) == [[(SLICE, 60, 0, 1), (SLICE, 60, 1, 2), (SLICE, 60, 2, 0)]]


def test_an_instrument_without_a_bar_is_not_waited_for_once_all_have_a_later_one() -> None:
    said = [(SLICE, 60, 0), (SLICE, 60, 1), *[(SLICE, 120, i) for i in range(3)]]
    assert [[row[:3] for row in batch] for batch in passed(said)] == [
        [(SLICE, 60, 0), (SLICE, 60, 1), (SLICE, 120, 0), (SLICE, 120, 1), (SLICE, 120, 2)]
    ]


def test_a_tick_ends_the_wait_after_the_grace() -> None:
    said = [(SLICE, 60, 0), (TICK, 60 + GRACE - 1, -1)]
    assert passed(said) == []
    assert passed([*said, (TICK, 60 + GRACE, -1)]) == [[(SLICE, 60, 0, 0)]]


def test_a_tick_passes_alone_where_nothing_else_says_its_time() -> None:
    assert passed([(TICK, 60, -1), (SLICE, 60, 0), (TICK, 100, -1)]) == [[(SLICE, 60, 0, 1)]]
    assert passed([(TICK, 60, -1), (TICK, 100, -1)]) == [[(TICK, 60, -1, 0)]]


def test_a_report_passes_at_once_and_alone_at_the_time_reached() -> None:
    said = [*[(SLICE, 60, i) for i in range(3)], (SLICE, 120, 0), (EXECUTION, 7, -1), (CONTROL, 0, -1)]
    assert passed(said)[1:] == [[(EXECUTION, 60, -1, 4)], [(CONTROL, 60, -1, 5)]]


def test_a_slice_that_comes_late_passes_at_once() -> None:
    said = [(SLICE, 60, 0), (TICK, 60 + GRACE, -1), (SLICE, 60, 1)]
    assert passed(said)[1:] == [[(SLICE, 60, 1, 2)]]


def test_what_says_nothing_new_never_passes() -> None:
    said = [(SLICE, 60, i) for i in range(3)]
    assert len(passed([*said, *said, (TICK, 60, -1), (TICK, 30, -1)])) == 1


def test_a_command_that_is_written_again_passes_once() -> None:
    read = journal()
    said = rows([(CONTROL, 0, -1), (CONTROL, 0, -1)])
    said.commands["command_id"] = 7
    assert len(read.step(said)) == 1
    again = rows([(CONTROL, 0, -1)], first=2)
    again.commands["command_id"] = 7
    assert read.step(again) == []


def test_a_missing_record_stops_the_journal() -> None:
    read = journal()
    read.step(rows([(SLICE, 60, 0)]))
    with pytest.raises(JournalError, match="goes on at offset 2, but only what stands before 1 was read"):
        read.step(rows([(SLICE, 60, 1)], first=2))


def test_a_wait_without_end_stops_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.journal.MOST_WAITING", 3)
    with pytest.raises(JournalError, match=r"live\.clock"):
        journal().step(rows([(SLICE, 60 * k, 0) for k in range(1, 6)]))


RECORDS = st.lists(
    st.one_of(
        st.tuples(st.just(SLICE), st.integers(1, 12).map(lambda k: 10 * k), st.integers(0, INSTRUMENTS - 1)),
        st.tuples(st.just(TICK), st.integers(1, 150), st.just(-1)),
        st.tuples(st.sampled_from([EXECUTION, CONTROL]), st.just(0), st.just(-1)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.data())
def test_what_passes_does_not_depend_on_portions_restarts_or_what_is_read_again(
    said: list[Said], data: Any
) -> None:
    whole = shown(journal().step(rows(said))) if said else []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=6)) | {0, len(said)})
    parts: list[Any] = []
    read = journal()
    for first, last in pairwise(cuts):
        again = data.draw(st.integers(0, first))
        parts += shown(read.step(rows(said[again:last], first=again)))
        resumed = journal()
        resumed.load(read.dump())
        read = resumed
    assert parts == whole


@settings(max_examples=300, deadline=None)
@given(RECORDS)
def test_every_slice_that_is_news_passes_once_and_times_rise(said: list[Said]) -> None:
    end = [(SLICE, 1000, i) for i in range(INSTRUMENTS)]
    batches = passed([*said, *end])
    news, newest = [], [0] * INSTRUMENTS
    for k, (kind, time_ns, instrument) in enumerate([*said, *end]):
        if kind == SLICE and time_ns > newest[instrument]:
            newest[instrument] = time_ns
            news.append(k)
    assert sorted(row[3] for batch in batches for row in batch if row[0] == SLICE) == news
    counts = [len(batch) for batch in batches]
    offsets = [offset for offset, _ in shown(journal().step(rows([*said, *end])))]
    assert offsets == [sum(counts[:k]) for k in range(len(counts))]
    for batch in batches:
        assert [row[1:3] for row in batch if row[0] == SLICE] == sorted(
            row[1:3] for row in batch if row[0] == SLICE
        )
        times = [row[1] for row in batch]
        assert times == sorted(times)
