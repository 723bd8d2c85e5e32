"""Commands of operators: who signed, what it is in numbers, and what it does to the account.

In: the bytes of control records. `read_command` judges bytes and signatures, once, at the edge of the
journal; `apply_command` judges the rest against the account, in its place in the journal, and carries it out.

Always true: a refused command changes nothing, except that one which cannot be read, or is not signed as it
says, halts the account; what adds risk has the signatures of two different keys; the same record twice does
nothing.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from operators.account_output import NO_BREAKER, record_alert
from operators.account_state import ACCOUNT, COMMAND, LIMITS, Records, records
from operators.breakers import release_by_operator
from operators.compiled import kernel, routine
from operators.halt import raise_level
from schemas.codecs import Refused, decode
from schemas.codes import AlertKind, ControlAction, ControlRefusal, HaltLevel, Reason
from schemas.commands import BREAKERS, Command, Signature, limit_units, signed_bytes
from schemas.config import Config
from schemas.records import MAX_INT

NONE = -1  # no breaker, strategy, instrument or limit
KILL_FILE = "kill-file"  # issuer of the kill that a file in the control folder stands for; it needs no key
POISON = (ControlRefusal.MALFORMED, ControlRefusal.FORGED)  # what cannot be believed: the account halts
LIMIT_NAMES: tuple[str, ...] = LIMITS.names or ()
LIMITS_START = ACCOUNT.itemsize // 8  # place of the limits in `State.words`


# --- at the edge


def sign_command(command: Command, name: str, key: Ed25519PrivateKey) -> Command:
    """The command with one more signature, of the operator that the configuration calls `name`."""
    signature = base64.b64encode(key.sign(signed_bytes(command))).decode()
    signatures = [*command.signatures, Signature(key=name, signature=signature)]
    return command.model_copy(update={"signatures": signatures})


def read_command(raw: bytes, config: Config) -> Any:
    """One record of COMMAND from the bytes of a control record; never raises. `refusal` is MALFORMED for what
    is no command, FORGED for another account, an unknown key or a wrong signature, NOT_APPLICABLE for a name
    or a limit that the configuration would not allow. `keys` counts different keys, not names.
    """
    row = records(COMMAND, 1)[0]
    row.breaker = row.strategy = row.instrument = row.limit = NONE
    command = decode(Command, raw)
    if isinstance(command, Refused):
        row.refusal = ControlRefusal.MALFORMED
        row.value = crc32(raw)  # what else is no command is another one
        return row
    row.action = command.action
    row.command_id = command.command_id
    row.expires_ns = command.expires_ns
    row.keys = _count_keys(command, config)
    if row.keys == NONE:
        row.keys = 0
        row.refusal = ControlRefusal.FORGED
    elif not _name(row, command, config):
        row.refusal = ControlRefusal.NOT_APPLICABLE
    return row


def _count_keys(command: Command, config: Config) -> int:
    """Different keys that signed, or `NONE` where something of it is not true."""
    if command.account != config.account.id:
        return NONE
    if command.action == ControlAction.KILL and command.issuer == KILL_FILE and not command.signatures:
        return 1
    if command.signatures and command.signatures[0].key != command.issuer:
        return NONE
    signed = signed_bytes(command)
    keys = set()
    for signature in command.signatures:
        public = base64.b64decode(config.control.keys.get(signature.key, ""))
        if not public or not _is_right(public, signature.signature, signed):
            return NONE
        keys.add(public)
    return len(keys)


def _is_right(public: bytes, signature: str, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature, validate=True), signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _name(row: Any, command: Command, config: Config) -> bool:
    """Put the names of a command into its row, as numbers. False where one has none."""
    strategies = [strategy.name for strategy in config.strategies]
    try:
        if command.breaker:
            row.breaker = BREAKERS[command.breaker]
        if command.strategy:
            row.strategy = strategies.index(command.strategy)
        if command.instrument:
            row.instrument = config.instruments.index(command.instrument)
        if command.limit:
            row.value = limit_units(command.limit, command.value)
            row.limit = LIMIT_NAMES.index(command.limit)
    except ValueError:
        return False
    return True


def command_rows(raws: Sequence[bytes], kill_ns: int, config: Config) -> tuple[NDArray[np.int64], Records]:
    """Control records, in the order in which they were written, as journal rows: times (n,) int64 in ns,
    ascending, and commands (n,) COMMAND.

    A record enters the journal at its time of issue. One that cannot be believed enters with the record
    before it, as its own word on its time cannot be believed either. `kill_ns`: when a kill file was put
    there, NONE without one. It is a kill before everything else and newer than every command, so while the
    file is there none can lift it; one issued after it was removed can.
    """
    rows: Any = records(COMMAND, len(raws))
    times = np.zeros(len(raws), np.int64)
    time_ns = 0
    for k, raw in enumerate(raws):
        rows[k] = read_command(raw, config)
        if rows[k].refusal not in POISON:
            time_ns = rows[k].command_id
        times[k] = time_ns
    if kill_ns != NONE:
        newest = max([kill_ns, *rows.command_id[~np.isin(rows.refusal, POISON)].tolist()])
        kill: Any = records(COMMAND, 1)
        kill.action = ControlAction.KILL
        kill.command_id = min(newest, MAX_INT - 1) + 1
        kill.expires_ns = MAX_INT
        kill.keys = 1
        kill.breaker = kill.strategy = kill.instrument = kill.limit = NONE
        rows = np.concatenate([kill, rows]).view(np.recarray)
        times = np.concatenate([np.zeros(1, np.int64), times])
    order = np.argsort(times, kind="stable")
    return times[order], rows[order]


# --- in the account


@routine
def apply_command(state, rules, out, command):
    """Judge a command and carry it out, or say why not."""
    account = state.account[0]
    account.commands += 1
    refusal = judge_command(account, command)
    if refusal == ControlRefusal.NONE:
        refusal = carry_out(state, rules, out, command)
    kind, detail = AlertKind.COMMAND, command.action
    if refusal == ControlRefusal.NONE:
        account.command_id = command.command_id
    else:
        kind, detail = AlertKind.COMMAND_REFUSED, refusal
    breaker = command.breaker if command.breaker >= 0 else NO_BREAKER
    record_alert(state, out, kind, breaker, command.instrument, command.strategy, command.command_id, detail)
    if refusal == ControlRefusal.MALFORMED or refusal == ControlRefusal.FORGED:
        raise_level(state, out, HaltLevel.HALTED)


@kernel
def judge_command(account, command):
    """What forbids a command, whatever it asks for; ControlRefusal.NONE if nothing."""
    if command.refusal == ControlRefusal.MALFORMED or command.refusal == ControlRefusal.FORGED:
        return command.refusal
    if command.expires_ns < account.time_ns:
        return ControlRefusal.EXPIRED
    if command.command_id <= account.command_id:
        return ControlRefusal.REPLAYED
    needed = 2 if command.action >= ControlAction.RESUME else 1
    if command.keys < needed:
        return ControlRefusal.TOO_FEW_KEYS
    return command.refusal


@kernel
def carry_out(state, rules, out, command):
    """Do what a command asks for. NOT_APPLICABLE, and nothing done, where there is nothing to do."""
    account = state.account[0]
    action = command.action
    if action == ControlAction.REDUCE:
        raise_level(state, out, HaltLevel.REDUCING)
    elif action == ControlAction.HALT:
        raise_level(state, out, HaltLevel.HALTED)
    elif action == ControlAction.KILL:
        raise_level(state, out, HaltLevel.KILLED)
        account.flattening = 1
    elif action == ControlAction.FLATTEN:
        raise_level(state, out, HaltLevel.REDUCING)  # what is sold must not be bought again at the next bar
        account.flattening = 1
    elif action == ControlAction.RESUME:
        return resume(state, out)
    elif action == ControlAction.RELEASE and command.breaker >= 0:
        if not release_by_operator(state, rules, out, command.breaker, command.strategy, command.instrument):
            return ControlRefusal.NOT_APPLICABLE
    elif action == ControlAction.RELEASE:
        return unblock(state, command.instrument)
    else:
        return change_limit(state, command)
    return ControlRefusal.NONE


@kernel
def resume(state, out):
    account = state.account[0]
    before = account.level
    if before == HaltLevel.ACTIVE and account.flattening == 0:
        return ControlRefusal.NOT_APPLICABLE
    account.level = HaltLevel.ACTIVE
    account.flattening = 0
    record_alert(state, out, AlertKind.HALT_LEVEL, NO_BREAKER, NONE, NONE, before, HaltLevel.ACTIVE)
    return ControlRefusal.NONE


@kernel
def unblock(state, i):
    """An operator has settled what the venue said of an instrument."""
    position = state.positions[i]
    if position.blocked == Reason.NONE and position.denied == 0:
        return ControlRefusal.NOT_APPLICABLE
    position.blocked = Reason.NONE
    if position.quantity >= 0:
        position.denied = 0  # a short stays the venue's doing until it is covered
    return ControlRefusal.NONE


@kernel
def change_limit(state, command):
    """Only in the direction that the command names: it decides how many keys were asked for."""
    place = LIMITS_START + command.limit
    now = state.words[place]
    lower = command.action == ControlAction.LOWER_LIMIT
    if command.value == now or (command.value < now) != lower:
        return ControlRefusal.NOT_APPLICABLE
    state.words[place] = command.value
    limits = state.limits[0]
    if limits.drawdown_release > limits.drawdown:
        limits.drawdown_release = limits.drawdown  # else the breaker would be released as it trips
    return ControlRefusal.NONE
