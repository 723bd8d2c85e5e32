"""What an operator is shown: the state of an account after a run, and what is in a control folder."""

import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from rich.markup import escape
from rich.table import Table

from connectors.control_files import NO_KILL, ControlError, pending_ids, read_control, read_pending
from operators.control import read_command
from schemas.codecs import Refused, decode, encode
from schemas.codes import ControlRefusal
from schemas.commands import CHANGEABLE, LIMIT_ACTIONS, Command, limit_value
from schemas.config import Config

SHOWN = 10


class Tripped(BaseModel):
    """A breaker that is tripped. `until_ns` 0: until its own rule or an operator releases it."""

    breaker: str
    strategy: str
    instrument: str
    until_ns: int
    observed: int
    limit: int


class AccountState(BaseModel):
    """`account_state` of a summary: what an operator must know at the end of a run. `blocked`: instruments in
    which nothing may be added, and why. `changed_limits`: as the account counts them.
    """

    time_ns: int
    level: str
    flatten: bool
    breakers: list[Tripped]
    blocked: dict[str, str]
    positions: dict[str, int]
    changed_limits: dict[str, int]


def account_tables(path: Path) -> list[Table]:
    """The account at the end of the run whose summary stands at `path`. Raises `ControlError`."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        account = AccountState.model_validate(summary["account_state"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ControlError(f"{path}: says nothing of the account's state; run the replay again") from None
    level = account.level + (", flattening" if account.flatten else "")
    held = ", ".join(f"{name} {lots:,}" for name, lots in account.positions.items())
    blocked = ", ".join(f"{name} ({why})" for name, why in account.blocked.items())
    changed = ", ".join(f"{name} {_limit(name, units)}" for name, units in account.changed_limits.items())
    state = _facts("run", str(path.parent))
    state.add_row("account", escape(str(summary.get("account"))))
    state.add_row("time", shown_time(account.time_ns))
    state.add_row("level", f"[bold {'green' if level == 'active' else 'red'}]{escape(level)}[/]")
    state.add_row("positions", escape(held) or "none")
    state.add_row("blocked", escape(blocked) or "none")
    state.add_row("limits changed", escape(changed) or "none")
    breakers = _table("Tripped breakers", "breaker", "strategy", "instrument", "until", "observed", "limit")
    for row in account.breakers:
        until = shown_time(row.until_ns) if row.until_ns else "its own rule, or an operator"
        numbers = (f"{row.observed:,}", f"{row.limit:,}")
        breakers.add_row(*map(escape, (row.breaker, row.strategy, row.instrument, until, *numbers)))
    return [state, breakers] if breakers.row_count else [state]


def _limit(name: str, units: int) -> str:
    return f"{limit_value(name, units).normalize():,f}" if name in CHANGEABLE else f"{units:,}"


def folder_tables(folder: Path, settings: Config | None) -> list[Table]:
    """What is in a control folder; with the configuration of its account, also what is wrong with it. Raises
    `ControlError`.
    """
    raws, kill_ns = read_control(folder)
    state = _facts("control folder", str(folder))
    killed = f"[bold red]there since {shown_time(kill_ns)}[/]; remove it, then resume"
    state.add_row("kill file", killed if kill_ns != NO_KILL else "none")
    state.add_row("commands", f"{len(raws):,}")
    waiting = [read_pending(folder, command_id) for command_id in pending_ids(folder)]
    newest = _table(
        "Newest commands", "ID", "issued", "valid until", "command", "signed by", "reason", "state"
    )
    for stage, records in (("given", raws[-SHOWN:]), ("waiting", waiting)):
        for raw in records:
            newest.add_row(*map(escape, _command_cells(raw, stage, settings)))
    return [state, newest] if newest.row_count else [state]


def _command_cells(raw: bytes, stage: str, settings: Config | None) -> tuple[str, ...]:
    command = decode(Command, raw)
    if isinstance(command, Refused):
        return ("", "", "", "", "", command.detail, f"{stage}, malformed")
    if settings is not None and (refusal := refusal_of(command, settings)) != ControlRefusal.NONE:
        stage = f"{stage}, {refusal.name.lower()}"
    return (
        str(command.command_id),
        shown_time(command.command_id),
        shown_time(command.expires_ns),
        described(command),
        ", ".join(signature.key for signature in command.signatures),
        command.reason,
        stage,
    )


def refusal_of(command: Command, settings: Config) -> ControlRefusal:
    """What is wrong with a command before any account has seen it."""
    return ControlRefusal(int(read_command(encode(command), settings).refusal))


def described(command: Command) -> str:
    """A command in a few words."""
    action = command.action.name.lower().replace("_", " ")
    if command.action in LIMIT_ACTIONS:
        return f"{action} {command.limit} to {command.value.normalize():f}"
    about = " ".join(name for name in (command.breaker, command.strategy, command.instrument) if name)
    return f"{action} {about}" if about else action


def shown_time(time_ns: int) -> str:
    """A time for people, UTC, to the second."""
    return str(np.datetime64(time_ns, "ns").astype("datetime64[s]")).replace("T", " ") + "Z"


def _facts(name: str, value: str) -> Table:
    """A table of names and values, with its first row."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row(name, escape(value))
    return table


def _table(title: str, *columns: str) -> Table:
    """An empty table; its first column can be copied whole."""
    table = Table(title=title, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, no_wrap=k == 0)
    return table
