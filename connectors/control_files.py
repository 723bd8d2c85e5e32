"""The control folder of an account, and the private keys of its operators.

| file | is |
|---|---|
| `commands.jsonl` | signed commands, one a line, only ever appended to |
| `pending/ID.json` | a command that waits for its second signature |
| `KILL` | anything of this name, also empty: stops the account |

An append is one write, on the disk before it returns. A line that was cut off stays a line of its own, for
its reader to judge: something was meant by it.
"""

import base64
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

COMMANDS = "commands.jsonl"
PENDING = "pending"
KILL = "KILL"
NO_KILL = -1
MAX_FILE = 64 * 1024 * 1024
MAX_KEY = 16 * 1024
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ControlError(RuntimeError):
    """A command could not be given or read; the message says why and what to do."""


class ControlRecords(NamedTuple):
    """`records` in the order in which they were written; `kill_ns` is when the kill file was put there, or
    `NO_KILL`.
    """

    records: list[bytes]
    kill_ns: int


def read_control(folder: Path) -> ControlRecords:
    """Everything that operators have said here. Raises `ControlError` where the folder cannot be read: a run
    that cannot be stopped must not start.
    """
    _check_folder(folder)
    data = _read(folder / COMMANDS) if os.path.lexists(folder / COMMANDS) else b""
    return ControlRecords([line for line in data.split(b"\n") if line.strip()], kill_time(folder))


def kill_time(folder: Path) -> int:
    """When the kill file was put there, ns, or `NO_KILL`."""
    try:
        return max((folder / KILL).lstat().st_mtime_ns, 0)
    except FileNotFoundError:
        return NO_KILL
    except OSError as error:
        raise ControlError(f"{folder / KILL}: cannot be looked at: {error.strerror}") from None


def _check_folder(folder: Path) -> None:
    """A folder is never made here: a stop in a folder that no run reads would stop nothing."""
    if not folder.is_dir():
        raise ControlError(f"{folder}: no such folder; it must be the control folder that the run was given")


def append_command(folder: Path, record: bytes) -> None:
    """Append one record to the commands, on the disk before this returns. Raises `ControlError`."""
    _check_folder(folder)
    path = folder / COMMANDS
    try:
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
            line = (b"\n" if torn else b"") + record + b"\n"
            if file.write(line) != len(line):
                raise OSError(0, "the disk is full")
            os.fsync(file.fileno())
        _sync_folder(folder)
    except OSError as error:
        raise ControlError(f"{path}: cannot be written: {error.strerror}") from None


def put_kill_file(folder: Path) -> Path:
    """Stop the account of this folder without any key. Raises `ControlError`."""
    _check_folder(folder)
    path = folder / KILL
    if kill_time(folder) != NO_KILL:
        return path
    try:
        path.touch(exist_ok=True)
        _sync_folder(folder)
    except OSError as error:
        raise ControlError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def pending_path(folder: Path, command_id: int) -> Path:
    """Where a command waits for its second signature."""
    return folder / PENDING / f"{command_id}.json"


def write_pending(folder: Path, command_id: int, record: bytes) -> Path:
    """Keep a command until it is approved. Raises `ControlError`."""
    path = pending_path(folder, command_id)
    unfinished = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(record + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ControlError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def read_pending(folder: Path, command_id: int) -> bytes:
    """A command that waits. Raises `ControlError`."""
    path = pending_path(folder, command_id)
    if not path.is_file():
        waiting = ", ".join(str(known) for known in pending_ids(folder)) or "none"
        raise ControlError(f"{path}: no such command; waiting here: {waiting}")
    return _read(path).strip()


def pending_ids(folder: Path) -> list[int]:
    """The commands that wait, oldest first."""
    names = (path.stem for path in (folder / PENDING).glob("*.json"))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= 19)


def remove_pending(folder: Path, command_id: int) -> None:
    """A command waits no longer."""
    pending_path(folder, command_id).unlink(missing_ok=True)


# --- keys


def generate_key(path: Path, passphrase: bytes | None = None) -> str:
    """Write a new private key, readable by its owner alone, and return its public key in base64. Raises
    `ControlError`, also where the file exists.
    """
    if os.path.lexists(path):
        raise ControlError(f"{path} exists; a key is never overwritten, so choose another name")
    key = Ed25519PrivateKey.generate()
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ControlError(f"{path}: cannot be written: {error.strerror}") from None
    return public_text(key.public_key())


def load_private_key(path: Path, ask: Callable[[Path], bytes]) -> Ed25519PrivateKey:
    """A private key of `generate_key`; `ask` gives the passphrase of one that has one. Raises
    `ControlError`.
    """
    data = _read_key_file(path)
    try:
        try:
            key = load_pem_private_key(data, None)
        except TypeError:  # it is encrypted
            key = load_pem_private_key(data, ask(path))
    except ValueError:
        raise ControlError(f"{path}: no private key in PEM form, or another passphrase") from None
    except UnsupportedAlgorithm:
        raise ControlError(f"{path}: a private key of an unknown kind; `sluice keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ControlError(f"{path}: not an Ed25519 key; `sluice keygen` makes one")
    return key


def public_text(key: Ed25519PublicKey) -> str:
    """A public key as the configuration writes it: its 32 bytes in base64."""
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & OTHERS:
                raise ControlError(f"{path}: others than its owner may use this key; chmod 600 {path}")
            return file.read(MAX_KEY)
    except OSError as error:
        raise ControlError(f"{path}: cannot be read: {error.strerror}") from None


def _read(path: Path) -> bytes:
    """A file of this folder. Raises `ControlError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ControlError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ControlError(f"{path}: longer than {MAX_FILE:,} bytes; move it away and begin a new one")
    return data


def _sync_folder(folder: Path) -> None:
    """A new name in a folder is on the disk only when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
