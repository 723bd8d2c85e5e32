"""An independent audit: it derives positions, cash and every statement anew from what left the account, and
shares no code with gates, ledger, life cycle and breakers. Before it judges it shows, on histories with one
seeded breach each, that it finds them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.auditor.canaries import AuditAlarm, check_canaries
from flows.auditor.machine import (
    AuditBatch,
    AuditError,
    AuditNews,
    Auditor,
    Counts,
    code_hash,
    no_rows,
    recounted,
)
from flows.auditor.statements import STATEMENTS, Finding, First
from schemas.config import Config
from schemas.records import Equity
from schemas.sessions import Sessions

__all__ = [
    "STATEMENTS",
    "AuditAlarm",
    "AuditBatch",
    "AuditError",
    "AuditNews",
    "Auditor",
    "Counts",
    "Finding",
    "First",
    "audit",
    "check_canaries",
    "code_hash",
]

Rows = NDArray[Any]


def audit(
    orders: Rows,
    executions: Rows,
    decisions: Rows,
    alerts: Rows,
    closing_cash: int,
    config: Config,
    sessions: Sessions,
    *,
    equity: Rows | None = None,
    ranges: NDArray[np.int64] | None = None,
    counts: Counts | None = None,
) -> dict[str, Finding]:
    """Every finding, by the name of its statement, of a complete history in fixed-width rows.

    `closing_cash`: the cash the account says it ends with, millionths. `ranges`, `counts`: see `AuditBatch`
    and `Counts`. Raises `AuditAlarm` where the audit does not find what it should, and `AuditError` where
    there is nothing to audit.
    """
    check_canaries()
    if not len(decisions):
        raise AuditError(
            "there are no decisions, so there is nothing to audit; not even a quiet run has none"
        )
    batch = AuditBatch(
        orders, executions, decisions, alerts, no_rows(Equity) if equity is None else equity, ranges
    )
    return recounted(Auditor.of(config, sessions, counts, closing_cash), batch)
