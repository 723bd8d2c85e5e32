"""How the account stage writes its outputs: one row each, from the state as it stands."""

from operators.compiled import kernel, routine

ORDERS, EXECUTIONS, DECISIONS, EQUITY, ALERTS = range(5)  # places in `Output.counts`
NO_BREAKER = 0


@kernel
def next_row(state, out, table, rows):
    """The place of the next row of a table with room for `rows`. A full table is a bound reached: it is
    counted, and whoever runs the stage must stop.
    """
    row = out.counts[table]
    if row == rows:
        state.account[0].overflow += 1
        return rows - 1
    out.counts[table] += 1
    return row


@routine
def record_alert(state, out, kind, breaker, instrument, strategy, observed, limit):
    """Append an alert. `breaker` counts where the kind is about one."""
    account = state.account[0]
    account.alerts += 1
    row = out.alerts[next_row(state, out, ALERTS, len(out.alerts))]
    row.sequence = account.sequence
    account.sequence += 1
    row.time_ns = account.time_ns
    row.kind = kind
    row.breaker = breaker
    row.instrument = instrument
    row.strategy = strategy
    row.observed = observed
    row.limit = limit


@routine
def record_decision(
    state, out, i, strategy, stage, outcome, reason, target, approved, price, observed, limit
):
    """Append a decision; returns its sequence."""
    account = state.account[0]
    row = out.decisions[next_row(state, out, DECISIONS, len(out.decisions))]
    row.sequence = account.sequence
    account.sequence += 1
    row.time_ns = account.time_ns
    row.instrument = i
    row.strategy = strategy
    row.stage = stage
    row.outcome = outcome
    row.reason = reason
    row.target = target
    row.approved = approved
    row.position = state.positions[i].quantity if i >= 0 else 0
    row.reference_price = price
    row.observed = observed
    row.limit = limit
    return row.sequence


@routine
def record_order(state, out, i, order, kind, decision):
    account = state.account[0]
    row = out.orders[next_row(state, out, ORDERS, len(out.orders))]
    row.sequence = account.sequence
    account.sequence += 1
    row.time_ns = account.time_ns
    row.kind = kind
    row.instrument = i
    row.strategy = order.strategy
    row.order_ns = order.order_ns
    row.intent = order.intent
    row.attempt = order.attempt
    row.side = order.side
    row.quantity = order.quantity
    row.limit_price = order.limit_price
    row.reference_price = order.reference_price
    row.expires_ns = order.expires_ns
    row.decision = decision


@routine
def record_execution(state, out, report, cumulative, leaves, late):
    """Append a report that was applied, with what it left."""
    account = state.account[0]
    row = out.executions[next_row(state, out, EXECUTIONS, len(out.executions))]
    row.number = account.execution_number
    account.execution_number += 1
    row.execution_id = report.execution_id
    row.reference_id = report.reference_id
    row.time_ns = report.time_ns
    row.known_ns = account.time_ns
    row.kind = report.kind
    row.instrument = report.instrument
    row.order_ns = report.order_ns
    row.intent = report.intent
    row.attempt = report.attempt
    row.side = report.side
    row.quantity = report.quantity
    row.price = report.price
    row.reference_price = report.reference_price
    row.fee = report.fee
    row.cumulative = cumulative
    row.leaves = leaves
    row.late = late
    row.position = state.positions[report.instrument].quantity if report.instrument >= 0 else 0
    row.cash = account.cash


@kernel
def record_equity(state, out):
    account = state.account[0]
    row = out.equity[next_row(state, out, EQUITY, len(out.equity))]
    row.time_ns = account.time_ns
    row.cash = account.cash
    row.position_value = account.equity - account.cash
    row.equity = account.equity
    row.realised_pnl = account.realised
    row.fees = account.fees
    row.costs = account.costs
