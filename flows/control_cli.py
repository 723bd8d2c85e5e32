"""Commands of operators to a running account: signed records in its control folder.

Stopping needs one key, or none at all: `sluice kill` without a key puts a kill file there. What adds risk
needs two: it waits in the folder until another operator approves it.
"""

import os
import re
import sys
import time
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from connectors.config_file import load_config
from connectors.control_files import (
    COMMANDS,
    KILL,
    NO_KILL,
    ControlError,
    append_command,
    generate_key,
    kill_time,
    load_private_key,
    pending_ids,
    public_text,
    put_kill_file,
    read_control,
    read_pending,
    remove_pending,
    write_pending,
)
from connectors.results import SUMMARY
from flows.control_status import account_tables, described, folder_tables, refusal_of, shown_time
from operators.account_state import Records
from operators.control import command_rows, read_command, sign_command
from schemas.codecs import Refused, decode, encode
from schemas.codes import ControlAction, ControlRefusal
from schemas.commands import BREAKERS, CHANGEABLE, LIMIT_ACTIONS, Command, limit_units
from schemas.config import MINUTE_NS, Config

PASSPHRASE = "SLUICE_KEY_PASSPHRASE"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")

control_app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0]
)
PANEL = "Operators: stop, resume and change a running account"

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="control folder of the account")]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="configuration of the account, with the keys of its operators")
]
KeysOption = Annotated[
    list[Path],
    typer.Option("--key", "-k", help="private key of an operator, made by keygen; again for a second one"),
]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="why; kept with the command")]
ExpiresOption = Annotated[
    int, typer.Option(min=1, max=100_000, metavar="MINUTES", help="void when it arrives later than this")
]
AtOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="when it counts from, such as 2025-08-08T15:30:00Z; now, except for a replay"
    ),
]


def load_commands(folder: Path, config: Config) -> tuple[NDArray[np.int64], Records]:
    """What operators have said in a control folder as journal rows: times (n,) int64 ns, ascending, and
    commands (n,) COMMAND; a kill file is the first of them, at time 0. Raises `ControlError`.
    """
    control = read_control(folder)
    return command_rows(control.records, control.kill_ns, config)


# --- commands


@control_app.command(rich_help_panel=PANEL)
def keygen(
    name: Annotated[str, typer.Argument(help="name of the operator")],
    folder: Annotated[Path, typer.Option(help="where NAME.pem is written")] = Path(),
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"encrypt it; asked for, or taken from {PASSPHRASE}")
    ] = False,
) -> None:
    """Make the key of an operator: NAME.pem, and a line for the configuration."""
    if not KEY_NAME.fullmatch(name):
        raise ControlError(f"keygen {name}: a name has up to 32 letters, digits, - and _")
    path = folder / f"{name}.pem"
    public = generate_key(path, _passphrase(path, new=True) if passphrase else None)
    console = make_console()
    console.print(f"{escape(str(path))} is the private key: keep it, tell nobody. For the configuration:\n")
    print(f'[control.keys]\n{name} = "{public}"')


@control_app.command(rich_help_panel=PANEL)
def reduce(
    folder: FolderArgument,
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """No entries any more; strategies may still exit."""
    _give(folder, config, key, ControlAction.REDUCE, reason, expires, at)


@control_app.command(rich_help_panel=PANEL)
def halt(
    folder: FolderArgument,
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Signals count no more; what is held is sold at the end of the day."""
    _give(folder, config, key, ControlAction.HALT, reason, expires, at)


@control_app.command(rich_help_panel=PANEL)
def flatten(
    folder: FolderArgument,
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Cancel and sell everything; no entries until a resume."""
    _give(folder, config, key, ControlAction.FLATTEN, reason, expires, at)


@control_app.command(rich_help_panel=PANEL)
def kill(
    folder: FolderArgument,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="configuration of the account; with a key only")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", "-k", help="private key of an operator; without one, a kill file is put there"),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="why; with a key only")] = "",
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Cancel and sell everything, and stay out. Works without any key."""
    if key:
        if config is None:
            raise ControlError("kill with a key needs --config; without --key it needs nothing")
        _give(folder, config, key, ControlAction.KILL, reason, expires, at)
        return
    path = put_kill_file(folder)
    _tell(f"{path} is there: the account is killed as long as it is, and until a resume after that")


@control_app.command(rich_help_panel=PANEL)
def resume(
    folder: FolderArgument,
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Trade again after reduce, halt, flatten or kill. Needs two keys. Breakers stay as they are."""
    if kill_time(folder) != NO_KILL:
        raise ControlError(f"{folder / KILL} is there, and kills again at once; remove it, then resume")
    _give(folder, config, key, ControlAction.RESUME, reason, expires, at)


@control_app.command(rich_help_panel=PANEL)
def release(
    folder: FolderArgument,
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    breaker: Annotated[
        str, typer.Option(help=f"one of {', '.join(BREAKERS)}; none: unblock an instrument")
    ] = "",
    strategy: Annotated[str, typer.Option(help="of a breaker that counts by strategy")] = "",
    instrument: Annotated[str, typer.Option(help="of a breaker that counts by instrument")] = "",
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Release a breaker, or unblock an instrument that the venue contradicted. Needs two keys."""
    about = {"breaker": breaker, "strategy": strategy, "instrument": instrument}
    _give(folder, config, key, ControlAction.RELEASE, reason, expires, at, about)


@control_app.command(rich_help_panel=PANEL)
def limit(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(CHANGEABLE)}")],
    value: Annotated[str, typer.Argument(help="in the unit of the configuration")],
    config: ConfigOption,
    key: KeysOption,
    reason: ReasonOption,
    up: Annotated[bool, typer.Option("--raise/--lower", help="from what it is now")],
    expires: ExpiresOption = 10,
    at: AtOption = None,
) -> None:
    """Lower a limit of the account, or raise it with two keys. More is riskier, of each of them."""
    action = ControlAction.RAISE_LIMIT if up else ControlAction.LOWER_LIMIT
    _give(folder, config, key, action, reason, expires, at, {"limit": name, "value": value})


@control_app.command(rich_help_panel=PANEL)
def approve(
    folder: FolderArgument,
    command_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="as `status` shows it")],
    config: ConfigOption,
    key: KeysOption,
    at: AtOption = None,
) -> None:
    """Sign a command that waits for a second key."""
    settings = load_config(config)
    where = f"{folder}: command {command_id}"
    command = decode(Command, read_pending(folder, command_id))
    if isinstance(command, Refused):
        raise ControlError(f"{where} is not a command: {command.detail}; issue it again")
    if command.command_id != command_id or refusal_of(command, settings) != ControlRefusal.NONE:
        raise ControlError(f"{where} is not what its issuer signed for this account; issue it again")
    now = _time_ns(at)
    if command.expires_ns < now:
        raise ControlError(f"{where} expired at {shown_time(command.expires_ns)}; issue it again")
    newest = max((known.command_id for known in _known(folder) if known.command_id <= now), default=0)
    if newest >= command_id:
        raise ControlError(f"{where} is older than one of {shown_time(newest)}; issue it again")
    for path in key:
        command = sign_command(command, *_operator(path, settings, config))
    _hand_in(folder, config, settings, command)
    remove_pending(folder, command_id)


@control_app.command(rich_help_panel=PANEL)
def status(
    places: Annotated[
        list[Path], typer.Argument(metavar="OUT|FOLDER...", help="results of a run, or a control folder")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="also says whose signatures are right")
    ] = None,
) -> None:
    """Show the state of an account after a run, or the commands in a control folder."""
    settings = load_config(config) if config else None
    console = make_console()
    for place in places:
        summary = place / SUMMARY
        tables = account_tables(summary) if summary.is_file() else folder_tables(place, settings)
        console.print(*tables)


# --- giving a command


def _give(
    folder: Path,
    config: Path,
    keys: Sequence[Path],
    action: ControlAction,
    reason: str,
    expires: int,
    at: str | None,
    about: dict[str, str] | None = None,
) -> None:
    """Make, sign and hand in one command."""
    settings = load_config(config)
    signers = [_operator(path, settings, config) for path in keys]
    if not signers:
        raise ControlError(f"{action.name.lower()} needs --key; `sluice keygen` makes one")
    taken = {known.command_id for known in _known(folder)} | set(pending_ids(folder))
    command_id = _time_ns(at)
    while command_id in taken:
        command_id += 1
    fields = {"breaker": "", "strategy": "", "instrument": "", "limit": "", "value": "0", **(about or {})}
    try:
        command = Command.model_validate(
            {
                "account": settings.account.id,
                "command_id": command_id,
                "action": action,
                "issuer": signers[0][0],
                "reason": reason,
                "expires_ns": command_id + expires * MINUTE_NS,
                "signatures": [],
                **fields,
            }
        )
    except ValidationError as error:
        raise ControlError(f"{action.name.lower()}: {_problem(error)}") from None
    _check_names(command, settings, config)
    for name, key in signers:
        command = sign_command(command, name, key)
    _hand_in(folder, config, settings, command)


def _hand_in(folder: Path, config: Path, settings: Config, command: Command) -> None:
    """Append a command that has the keys it needs; let any other wait for the next."""
    needed = 2 if command.action >= ControlAction.RESUME else 1
    raw = encode(command)
    row = read_command(raw, settings)
    what = f"{described(command)} of account {command.account}, issued {shown_time(command.command_id)}"
    if row.keys >= needed:
        append_command(folder, raw)
        _tell(f"{what}: in {folder / COMMANDS}, valid until {shown_time(command.expires_ns)}")
        return
    if len(command.signatures) > 1:
        raise ControlError(f"{what}: needs {needed} different keys, and these are the same")
    write_pending(folder, command.command_id, raw)
    _tell(
        f"{what}: waits for a second key until {shown_time(command.expires_ns)}. Another operator signs:\n"
        f"  sluice approve {folder} {command.command_id} --config {config} --key FILE"
    )


def _check_names(command: Command, settings: Config, config: Path) -> None:
    """What the account could only answer with NOT_APPLICABLE is told at once."""
    strategies = [strategy.name for strategy in settings.strategies]
    for kind, name, known in (
        ("strategy", command.strategy, strategies),
        ("instrument", command.instrument, settings.instruments),
    ):
        if name and name not in known:
            raise ControlError(f"{config} has no {kind} {name}; it has {', '.join(known)}")
    if command.action in LIMIT_ACTIONS:
        try:
            limit_units(command.limit, command.value)
        except ValueError as error:
            raise ControlError(str(error)) from None


def _operator(path: Path, settings: Config, config: Path) -> tuple[str, Ed25519PrivateKey]:
    """A private key with the name that the configuration has for it."""
    key = load_private_key(path, _passphrase)
    public = public_text(key.public_key())
    for name, known in settings.control.keys.items():
        if b64decode(known) == b64decode(public):
            return name, key
    raise ControlError(f'{path}: its public key "{public}" is not in [control.keys] of {config}')


def _passphrase(path: Path, *, new: bool = False) -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given is None:
        if not sys.stdin.isatty():
            raise ControlError(f"{path}: needs its passphrase in {PASSPHRASE}, or a terminal to ask for it")
        given = typer.prompt(f"passphrase of {path}", hide_input=True, confirmation_prompt=new)
    if not given:
        raise ControlError(f"{path}: the passphrase is empty")
    return str(given).encode()


def _known(folder: Path) -> list[Command]:
    """The commands of a folder that can be read, in the order in which they were written."""
    decoded = (decode(Command, raw) for raw in read_control(folder).records)
    return [command for command in decoded if not isinstance(command, Refused)]


def _problem(error: ValidationError) -> str:
    """The first thing wrong with a command, for people."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    problem = first["msg"].removeprefix("Value error, ")
    return f"{where} {first['input']!r}: {problem[0].lower()}{problem[1:]}" if where else problem


def _time_ns(text: str | None) -> int:
    """A time with a zone, or now."""
    if text is None:
        return time.time_ns()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ControlError(f"--at {text}: write it as 2025-08-08T15:30:00Z") from None
    if moment.tzinfo is None:
        raise ControlError(f"--at {text}: say its zone, such as {text}Z or {text}-04:00")
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _tell(message: str) -> None:
    make_console().print(escape(message), highlight=False, soft_wrap=True)


def make_console() -> Console:
    """A terminal has a width of its own; a file or a pipe gets one that fits the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=150)
