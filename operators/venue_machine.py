"""The paper venue as a process of its own: the journal's bars and the account's requests in, reports out.
Key: account. State: the venue's books, requests that wait, and its place in the journal.

The journal is read as the account reads it, so both see bars at the same time. A request reaches the venue
when the venue has come as far as the account was when it sent it, and before any later bar: what a restart
reads again, in whatever portions, makes the same reports.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from operators.account_state import REPORT, records
from operators.journal import Journal
from operators.paper_venue import end_session, new_venue, receive, take_reports, trade, venue_of, venue_rules
from schemas.batches import JournalBatch, VenueBatch, VenueInput
from schemas.codes import EventKind
from schemas.config import Config
from schemas.records import Order, dtype_of
from schemas.sessions import Sessions

ORDER = dtype_of(Order)
ROOM = 1 << 12  # reports taken at a time


class PaperVenue:
    name = "paper_venue"
    version = 1

    def __init__(self, config: Config, sessions: Sessions, grace_ns: int):
        self.instruments = len(config.instruments)
        self.journal = Journal(self.instruments, len(config.strategies), grace_ns)
        self.close_ns = sessions.close_ns
        self.venue = new_venue(config)
        self.terms = venue_rules(config)
        self.requests: Any = records(ORDER, 0)
        self.time_ns = 0
        self.number = 0
        self.room: Any = records(REPORT, ROOM)

    def step(self, event: VenueInput) -> list[VenueBatch]:
        self.requests = np.concatenate([self.requests, event.orders]).view(np.recarray)
        told: list[Any] = []
        for batch in self.journal.step(event.journal) if event.journal is not None else []:
            for time_ns, bars in _moments(batch):
                self._hear_requests(time_ns - 1, told)
                self._end_session(time_ns, told)
                self.time_ns = max(self.time_ns, time_ns)
                for k in range(len(bars)):
                    trade(self.venue, self.terms, *(int(bars[k][n]) for n in BAR))
                self._tell(self.time_ns, told)
        self._hear_requests(self.time_ns, told)
        if not told:
            return []
        reports = np.concatenate(told)
        before, self.number = self.number, self.number + len(reports)
        return [VenueBatch(before, reports)]

    def _hear_requests(self, until_ns: int, told: list[Any]) -> None:
        """Requests that the account sent by `until_ns`, as far as the venue itself has come."""
        due = int(np.searchsorted(self.requests.time_ns, min(until_ns, self.time_ns), side="right"))
        heard, self.requests = self.requests[:due], self.requests[due:]
        for k in range(due):
            receive(self.venue, self.terms, heard[k], self.time_ns)
            self._tell(self.time_ns, told)

    def _end_session(self, time_ns: int, told: list[Any]) -> None:
        """End the session in progress, if `time_ns` lies behind its close."""
        session = int(np.searchsorted(self.close_ns, self.time_ns))
        if 0 < self.time_ns and session < len(self.close_ns) and self.close_ns[session] < time_ns:
            close_ns = int(self.close_ns[session])
            end_session(self.venue, self.terms, close_ns)
            self._tell(close_ns, told)

    def _tell(self, now: int, told: list[Any]) -> None:
        """Take all reports that are due."""
        while True:
            n = take_reports(self.venue, self.terms, now, self.room)
            told.append(self.room[:n].copy())
            if n < len(self.room):
                return

    def dump(self) -> dict[str, Any]:
        return {
            "journal": self.journal.dump(),
            "venue": self.venue.words.tobytes(),
            "requests": self.requests.tobytes(),
            "time_ns": self.time_ns,
            "number": self.number,
        }

    def load(self, data: dict[str, Any]) -> None:
        self.journal.load(data["journal"])
        self.venue = venue_of(np.frombuffer(data["venue"], np.int64).copy(), self.instruments)
        self.requests = np.frombuffer(data["requests"], ORDER).copy().view(np.recarray)
        self.time_ns = data["time_ns"]
        self.number = data["number"]


BAR = ("instrument", "time_ns", "open", "volume")


def _moments(batch: JournalBatch) -> Iterator[tuple[int, Any]]:
    """The batch's times, and the bars that end at each; what says no time says nothing to a venue."""
    events = batch.events[np.isin(batch.events["kind"], (EventKind.SLICE, EventKind.TICK))]
    times = events["time_ns"]
    bounds = np.flatnonzero(np.concatenate([[True], times[1:] != times[:-1], [True]]))
    for first, last in pairwise(bounds) if len(events) else ():
        rows = events[first:last]
        yield int(times[first]), rows[rows["kind"] == EventKind.SLICE].view(np.recarray)
