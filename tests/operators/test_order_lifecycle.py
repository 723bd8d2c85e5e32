"""The life of an order: every state against every event, from a table written by hand."""

import pytest

from operators.account_state import ORDER, records
from operators.order_lifecycle import ILLEGAL, LIVE, NEXT_STATE, REPORT_EVENT, STALE, advance, is_live
from schemas.codes import ExecutionKind, OrderEvent, OrderState

# One line a state, one cell an event, in the order of COLUMNS; a dot is illegal; INITIALS name states.
COLUMNS = {
    "SUB": OrderEvent.SUBMIT,
    "DEN": OrderEvent.DENY,
    "ACC": OrderEvent.ACCEPT,
    "FIL": OrderEvent.FILL,
    "LST": OrderEvent.FILL_LAST,
    "CRQ": OrderEvent.CANCEL_REQUEST,
    "CRF": OrderEvent.CANCEL_REFUSED,
    "CAN": OrderEvent.CANCEL,
    "RRQ": OrderEvent.REPLACE_REQUEST,
    "RRF": OrderEvent.REPLACE_REFUSED,
    "REP": OrderEvent.REPLACE,
    "REJ": OrderEvent.REJECT,
    "EXP": OrderEvent.EXPIRE,
    "SUS": OrderEvent.SUSPEND,
    "LOS": OrderEvent.LOSE,
}
INITIALS = {
    "sub": OrderState.SUBMITTED,
    "unk": OrderState.UNKNOWN,
    "wrk": OrderState.WORKING,
    "par": OrderState.PARTIAL,
    "pca": OrderState.PENDING_CANCEL,
    "pre": OrderState.PENDING_REPLACE,
    "sus": OrderState.SUSPENDED,
    "fil": OrderState.FILLED,
    "den": OrderState.DENIED,
    "rej": OrderState.REJECTED,
    "can": OrderState.CANCELLED,
    "exp": OrderState.EXPIRED,
    "rep": OrderState.REPLACED,
}
TABLE = """
STATE              SUB DEN ACC FIL LST CRQ CRF CAN RRQ RRF REP REJ EXP SUS LOS
NONE                .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
CREATED            sub den  .   .   .   .   .   .   .   .   .   .   .   .   .
SUBMITTED           .   .  wrk par fil pca  .  can  .   .   .  rej exp  .  unk
UNKNOWN             .   .  wrk par fil pca wrk can  .  wrk rep rej exp sus  .
WORKING             .   .   .  par fil pca  .  can pre  .  rep rej exp sus  .
PARTIAL             .   .  par par fil pca  .  can pre  .  rep  .  exp sus  .
PENDING_CANCEL      .   .  pca pca fil  .  wrk can  .   .   .  rej exp  .  unk
PENDING_REPLACE     .   .  pre pre fil  .   .  can  .  wrk rep  .  exp  .   .
SUSPENDED           .   .  wrk par fil  .   .  can  .   .   .   .  exp  .   .
FILLED              .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
DENIED              .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
REJECTED            .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
CANCELLED           .   .   .  can can  .   .   .   .   .   .   .   .   .   .
EXPIRED             .   .   .  exp exp  .   .   .   .   .   .   .   .   .   .
REPLACED            .   .   .  rep rep  .   .   .   .   .   .   .   .   .   .
"""
HEAD, *LINES = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [
    (OrderState[state], COLUMNS[column], INITIALS.get(cell))
    for state, *cells in LINES
    for column, cell in zip(HEAD[1:], cells, strict=True)
]
LEGAL = [(state, event, following) for state, event, following in CELLS if following is not None]
ILLEGAL_CELLS = [(state, event) for state, event, following in CELLS if following is None]

OVER = {"FILLED", "DENIED", "REJECTED", "CANCELLED", "EXPIRED", "REPLACED"}
COULD_FILL = {"CREATED", "SUBMITTED", "UNKNOWN", "WORKING", "PARTIAL"}
COULD_FILL |= {"PENDING_CANCEL", "PENDING_REPLACE", "SUSPENDED"}


def name_of(item: object) -> str:
    return getattr(item, "name", str(item)).lower()


def test_the_table_has_every_state_and_every_event() -> None:
    assert len(CELLS) == len(OrderState) * len(OrderEvent) == NEXT_STATE.size
    assert {(s, e) for s, e, _ in CELLS} == {(s, e) for s in OrderState for e in OrderEvent}


@pytest.mark.parametrize(("state", "event", "following"), LEGAL, ids=name_of)
def test_a_legal_event_moves_the_order_and_nothing_else(
    state: OrderState, event: OrderEvent, following: OrderState
) -> None:
    order = records(ORDER, 1)
    order[0].state = state
    order[0].quantity = 7
    expected = order.copy()
    expected[0].state = following
    assert advance(order[0], int(event))
    assert order.tobytes() == expected.tobytes()
    assert NEXT_STATE[state, event] == following


@pytest.mark.parametrize(("state", "event"), ILLEGAL_CELLS, ids=name_of)
@pytest.mark.parametrize("cumulative", [0, 3])
def test_an_illegal_event_moves_nothing(state: OrderState, event: OrderEvent, cumulative: int) -> None:
    order = records(ORDER, 1)
    order[0].state = state
    order[0].quantity = 7
    order[0].cumulative = cumulative
    before = order.tobytes()
    assert not advance(order[0], int(event))
    assert order.tobytes() == before
    assert NEXT_STATE[state, event] == ILLEGAL


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (OrderState.PENDING_CANCEL, OrderEvent.CANCEL_REFUSED),
        (OrderState.PENDING_REPLACE, OrderEvent.REPLACE_REFUSED),
        (OrderState.SUSPENDED, OrderEvent.ACCEPT),
        (OrderState.UNKNOWN, OrderEvent.ACCEPT),
    ],
    ids=name_of,
)
@pytest.mark.parametrize(
    ("cumulative", "following"), [(0, OrderState.WORKING), (1, OrderState.PARTIAL), (6, OrderState.PARTIAL)]
)
def test_an_order_that_comes_back_is_partial_when_something_was_filled(
    state: OrderState, event: OrderEvent, cumulative: int, following: OrderState
) -> None:
    order = records(ORDER, 1)
    order[0].state = state
    order[0].quantity = 7
    order[0].cumulative = cumulative
    assert advance(order[0], int(event))
    assert order[0].state == following


@pytest.mark.parametrize("state", sorted(OVER))
@pytest.mark.parametrize("event", list(OrderEvent), ids=name_of)
def test_a_final_state_stays_final(state: str, event: OrderEvent) -> None:
    order = records(ORDER, 1)
    order[0].state = OrderState[state]
    advance(order[0], int(event))
    assert order[0].state == OrderState[state]


@pytest.mark.parametrize("state", list(OrderState), ids=name_of)
def test_an_order_is_live_while_it_could_still_fill(state: OrderState) -> None:
    order = records(ORDER, 1)
    order[0].state = state
    assert bool(is_live(order[0])) == bool(LIVE[state]) == (state.name in COULD_FILL)


@pytest.mark.parametrize("state", [s for s in OrderState if s.name in OVER], ids=name_of)
def test_a_late_fill_is_legal_only_where_an_order_ended_without_one(state: OrderState) -> None:
    order = records(ORDER, 1)
    order[0].state = state
    late = state in (OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REPLACED)
    assert bool(advance(order[0], int(OrderEvent.FILL))) == late
    assert order[0].state == state


# --- what a report means

MEANING = {
    ExecutionKind.CANCELLED: OrderEvent.CANCEL,
    ExecutionKind.EXPIRED: OrderEvent.EXPIRE,
    ExecutionKind.REJECTED: OrderEvent.REJECT,
    ExecutionKind.ACCEPTED: OrderEvent.ACCEPT,
    ExecutionKind.CANCEL_REFUSED: OrderEvent.CANCEL_REFUSED,
    ExecutionKind.SUSPENDED: OrderEvent.SUSPEND,
    ExecutionKind.REPLACED: OrderEvent.REPLACE,
    ExecutionKind.REPLACE_REFUSED: OrderEvent.REPLACE_REFUSED,
    ExecutionKind.LOST: OrderEvent.LOSE,
}

# One line a state, one cell a report: "x" says nothing new there.
STALE_TABLE = """
STATE           ACCEPTED CANCEL_REFUSED LOST CANCELLED EXPIRED REJECTED REPLACED
NONE               .           .         .       .        .       .        .
CREATED            .           .         .       .        .       .        .
SUBMITTED          .           .         .       .        .       .        .
UNKNOWN            .           .         x       .        .       .        .
WORKING            x           x         x       .        .       .        .
PARTIAL            x           x         x       .        .       .        .
PENDING_CANCEL     .           .         .       .        .       .        .
PENDING_REPLACE    .           .         x       .        .       .        .
SUSPENDED          .           .         x       .        .       .        .
FILLED             x           x         x       .        .       .        .
DENIED             x           x         x       .        .       x        .
REJECTED           x           x         x       .        .       x        .
CANCELLED          x           x         x       x        .       .        .
EXPIRED            x           x         x       .        x       .        .
REPLACED           x           x         x       .        .       .        x
"""
STALE_HEAD, *STALE_LINES = [line.split() for line in STALE_TABLE.strip().splitlines()]
SAYS_NOTHING_NEW = {
    (OrderState[state], ExecutionKind[kind])
    for state, *cells in STALE_LINES
    for kind, cell in zip(STALE_HEAD[1:], cells, strict=True)
    if cell == "x"
}


@pytest.mark.parametrize("kind", list(ExecutionKind), ids=name_of)
def test_what_each_report_means_for_the_life_of_an_order(kind: ExecutionKind) -> None:
    assert REPORT_EVENT[kind] == MEANING.get(kind, ILLEGAL)


@pytest.mark.parametrize("state", list(OrderState), ids=name_of)
@pytest.mark.parametrize("kind", list(MEANING), ids=name_of)
def test_which_reports_say_nothing_new(state: OrderState, kind: ExecutionKind) -> None:
    assert bool(STALE[state, kind]) == ((state, kind) in SAYS_NOTHING_NEW)


def test_what_says_nothing_new_would_move_nothing() -> None:
    assert len(SAYS_NOTHING_NEW) == 32
    for state, kind in SAYS_NOTHING_NEW:
        assert NEXT_STATE[state, MEANING[kind]] in (ILLEGAL, state)
