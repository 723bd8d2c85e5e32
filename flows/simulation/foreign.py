"""Reports that the venue of the simulation did not make: what other venues, gateways and people do."""

from flows.simulation.scenario import Foreign
from flows.simulation.shadow import NONE
from operators.compiled import kernel, routine
from schemas.codes import ExecutionKind, Intent, Side
from schemas.records import MICRO

FOREIGN_ID = 10**12  # far above those of the venue
STRANGE_KINDS = (
    ExecutionKind.SUSPENDED,
    ExecutionKind.REPLACED,
    ExecutionKind.REPLACE_REFUSED,
    ExecutionKind.REJECTED,
)


@routine
def write_foreign(report, shadow, kind, salt, now):
    """Fill `report`; False where there is nothing it could be about. From here the venue has faults."""
    book = shadow.book[0]
    i = salt % len(shadow.lines)
    if kind <= Foreign.LATE_BUST:
        if book.last_fill == NONE:
            return False
        source = book.last_fill
        if kind == Foreign.LATE_BUST or kind == Foreign.REPEATED:
            source = salt % book.ids
        earlier = shadow.executions[source]
        if earlier.kind != ExecutionKind.FILL:
            return False
        repeat(report, earlier)
        alter(report, kind, FOREIGN_ID + book.rows)
    elif kind <= Foreign.TOLD_MORE:
        if shadow.lines[i].last_order == NONE:
            return False
        name(report, shadow.orders[shadow.lines[i].last_order], now)
        if kind == Foreign.TOLD_MORE:
            report.cumulative = shadow.orders[shadow.lines[i].last_order].quantity
        else:
            report.kind = STRANGE_KINDS[salt // 8 % len(STRANGE_KINDS)]
    else:
        invent(report, shadow, kind, salt, i, now)
    book.faultless = 0
    if kind == Foreign.STRANGE:
        book.strange = 1
    return True


@kernel
def alter(report, kind, execution_id):
    """An earlier fill, somewhat different."""
    if kind == Foreign.ALTERED:
        report.price += 1
    elif kind == Foreign.OVERFILL:
        report.execution_id = execution_id
    elif kind == Foreign.WRONG_SIDE:
        report.execution_id = execution_id
        report.side = 1 - report.side
    elif kind == Foreign.LATE_BUST:
        report.kind = ExecutionKind.BUST
        report.reference_id = report.execution_id
        report.execution_id = execution_id


@kernel
def invent(report, shadow, kind, salt, i, now):
    """A report about no order of ours."""
    line = shadow.lines[i]
    book = shadow.book[0]
    blank(report, i, now)
    report.execution_id = FOREIGN_ID + book.rows
    if kind == Foreign.EXTERNAL:
        report.quantity = salt % 50 + 1
        report.price = max(line.mark, 1)
        report.side = salt // 64 % 2
    elif kind == Foreign.NO_LOTS:
        report.price = max(line.mark, 1)
    elif kind == Foreign.NO_INSTRUMENT:
        report.instrument = NONE
    elif kind == Foreign.FEE:
        report.kind = ExecutionKind.FEE
        report.fee = salt % (10 * MICRO)
    elif kind == Foreign.POSITION:
        report.kind = ExecutionKind.POSITION
        report.quantity = line.quantity
    elif kind == Foreign.WRONG_POSITION:
        report.kind = ExecutionKind.POSITION
        report.quantity = line.quantity + salt % 100 + 1
    else:
        report.kind = ExecutionKind.CASH
        report.instrument = NONE
        report.price = book.cash + 20_000


@kernel
def blank(report, i, now):
    """A report of nothing in particular."""
    report.kind = ExecutionKind.FILL
    report.time_ns = now
    report.execution_id = 0
    report.reference_id = 0
    report.instrument = i
    report.order_ns = 1
    report.intent = Intent.ENTRY
    report.attempt = 0
    report.side = Side.BUY
    report.quantity = 0
    report.price = 0
    report.reference_price = 0
    report.fee = 0
    report.cumulative = 0


@kernel
def name(report, order, now):
    """Something that a venue says of an order."""
    blank(report, order.instrument, now)
    report.kind = ExecutionKind.ACCEPTED
    report.order_ns = order.order_ns
    report.intent = order.intent
    report.attempt = order.attempt
    report.side = order.side
    report.cumulative = order.cumulative


@kernel
def repeat(report, source):
    report.kind = source.kind
    report.time_ns = source.time_ns
    report.execution_id = source.execution_id
    report.reference_id = source.reference_id
    report.instrument = source.instrument
    report.order_ns = source.order_ns
    report.intent = source.intent
    report.attempt = source.attempt
    report.side = source.side
    report.quantity = source.quantity
    report.price = source.price
    report.reference_price = source.reference_price
    report.fee = source.fee
    report.cumulative = source.cumulative
