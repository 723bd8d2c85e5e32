"""The control folder and the key files: what was written is read, and what is wrong is told."""

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import control_files
from connectors.control_files import (
    COMMANDS,
    KILL,
    MAX_FILE,
    NO_KILL,
    ControlError,
    append_command,
    generate_key,
    kill_time,
    load_private_key,
    pending_ids,
    pending_path,
    public_text,
    put_kill_file,
    read_control,
    read_pending,
    remove_pending,
    write_pending,
)

SECRET = b"correct horse"


def no_passphrase(path: Path) -> bytes:
    raise AssertionError(f"{path} has no passphrase, nobody should be asked for it")


# --- commands


def test_an_empty_folder_has_no_commands(tmp_path: Path) -> None:
    assert read_control(tmp_path) == ([], NO_KILL)


def test_commands_come_back_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    written = [b'{"a":1}', b'{"a":2}', b'{"a":1}']
    for record in written:
        append_command(tmp_path, record)
    assert read_control(tmp_path).records == written
    assert (tmp_path / COMMANDS).read_bytes() == b'{"a":1}\n{"a":2}\n{"a":1}\n'


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_torn_last_line_is_a_record_for_its_reader_to_judge(tmp_path: Path, kept: int) -> None:
    append_command(tmp_path, b"first")
    with (tmp_path / COMMANDS).open("ab") as file:
        file.write(b"second"[:kept])
    assert read_control(tmp_path).records == [b"first", b"second"[:kept]]


def test_what_is_appended_after_a_torn_line_is_not_part_of_it(tmp_path: Path) -> None:
    (tmp_path / COMMANDS).write_bytes(b"first\nsec")
    append_command(tmp_path, b"third")
    assert read_control(tmp_path).records == [b"first", b"sec", b"third"]


def test_empty_lines_say_nothing(tmp_path: Path) -> None:
    (tmp_path / COMMANDS).write_bytes(b"\nfirst\n\n  \r\nsecond\n\n")
    assert read_control(tmp_path).records == [b"first", b"second"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
def test_no_bytes_of_a_command_file_are_lost(tmp_path: Path, data: bytes) -> None:
    (tmp_path / COMMANDS).write_bytes(data)
    records = read_control(tmp_path).records
    assert b"".join(b"".join(records).split()) == b"".join(data.split())
    assert all(record.strip() and b"\n" not in record for record in records)


def test_a_record_is_on_the_disk_when_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    append_command(tmp_path, b"first")
    assert synced == [str(tmp_path / COMMANDS), str(tmp_path)]


def wrong_folders(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").write_bytes(b"")
    return [tmp_path / "none", tmp_path / "file"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A stop in a folder that no run reads would stop nothing."""
    for folder in wrong_folders(tmp_path):
        for act in (read_control, put_kill_file, lambda f: append_command(f, b"x")):
            with pytest.raises(ControlError, match="no such folder"):
                act(folder)
    assert not (tmp_path / "none").exists()


def test_commands_that_cannot_be_read_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / COMMANDS).mkdir()
    with pytest.raises(ControlError, match="cannot be read"):
        read_control(tmp_path)
    with pytest.raises(ControlError, match="cannot be written"):
        append_command(tmp_path, b"x")


def test_commands_that_are_gone_behind_a_link_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / COMMANDS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="cannot be read"):
        read_control(tmp_path)


def test_a_command_file_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_files, "MAX_FILE", 5)
    (tmp_path / COMMANDS).write_bytes(b"12345")
    assert read_control(tmp_path).records == [b"12345"]
    (tmp_path / COMMANDS).write_bytes(b"123456")
    with pytest.raises(ControlError, match="longer than 5 bytes"):
        read_control(tmp_path)
    assert MAX_FILE > 1_000_000


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / COMMANDS).symlink_to("/dev/full")
    with pytest.raises(ControlError, match=f"{COMMANDS}: cannot be written: No space left"):
        append_command(tmp_path, b"x")


# --- the kill file


def make_file(path: Path) -> None:
    path.write_bytes(b"")


def make_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_closed(path: Path) -> None:
    path.write_bytes(b"stop")
    path.chmod(0)


@pytest.mark.parametrize("make", [make_file, make_link, make_closed, Path.mkdir])
def test_anything_called_so_is_a_kill_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    assert kill_time(tmp_path) == NO_KILL
    make(tmp_path / KILL)
    assert read_control(tmp_path).kill_ns == (tmp_path / KILL).lstat().st_mtime_ns > 0


def test_a_kill_file_from_before_1970_is_one(tmp_path: Path) -> None:
    (tmp_path / KILL).touch()
    os.utime(tmp_path / KILL, ns=(-1, -1))
    assert kill_time(tmp_path) == 0 != NO_KILL


def test_a_kill_file_is_put_there_and_not_again(tmp_path: Path) -> None:
    assert put_kill_file(tmp_path) == tmp_path / KILL
    os.utime(tmp_path / KILL, ns=(5, 5))
    put_kill_file(tmp_path)
    assert kill_time(tmp_path) == 5


# --- commands that wait


def test_a_command_waits_until_it_is_removed(tmp_path: Path) -> None:
    path = write_pending(tmp_path, 12, b"later")
    write_pending(tmp_path, 3, b"sooner")
    assert path == pending_path(tmp_path, 12)
    assert pending_ids(tmp_path) == [3, 12]
    assert read_pending(tmp_path, 12) == b"later"
    remove_pending(tmp_path, 12)
    assert pending_ids(tmp_path) == [3]
    assert read_control(tmp_path) == ([], NO_KILL)


def test_other_files_do_not_wait(tmp_path: Path) -> None:
    write_pending(tmp_path, 3, b"x")
    for name in ("4.tmp", "x.json", "-5.json", "²3.json", "9" * 30 + ".json"):
        (tmp_path / "pending" / name).touch()
    assert pending_ids(tmp_path) == [3]


def test_a_command_that_does_not_wait_is_told_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"7\.json: no such command; waiting here: none"):
        read_pending(tmp_path, 7)
    write_pending(tmp_path, 3, b"x")
    with pytest.raises(ControlError, match="waiting here: 3"):
        read_pending(tmp_path, 7)


def test_a_command_that_cannot_wait_is_told(tmp_path: Path) -> None:
    (tmp_path / "pending").touch()
    with pytest.raises(ControlError, match="cannot be written"):
        write_pending(tmp_path, 7, b"x")


# --- keys


def test_a_key_signs_for_the_public_key_that_was_printed(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "alice.pem"
    public = generate_key(path)
    assert len(base64.b64decode(public)) == 32
    assert public_text(load_private_key(path, no_passphrase).public_key()) == public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_no_two_keys_are_the_same(tmp_path: Path) -> None:
    assert generate_key(tmp_path / "a.pem") != generate_key(tmp_path / "b.pem")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "alice.pem"
    generate_key(path)
    before = path.read_bytes()
    with pytest.raises(ControlError, match="is never overwritten"):
        generate_key(path)
    assert path.read_bytes() == before


def test_a_key_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "alice.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="is never overwritten"):
        generate_key(tmp_path / "alice.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="cannot be written"):
        generate_key(tmp_path / "file" / "alice.pem")


def test_a_key_with_a_passphrase_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "alice.pem"
    public = generate_key(path, SECRET)
    assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    asked: list[Path] = []

    def ask(path: Path) -> bytes:
        asked.append(path)
        return SECRET

    assert public_text(load_private_key(path, ask).public_key()) == public
    assert asked == [path]


def test_another_passphrase_is_told(tmp_path: Path) -> None:
    path = tmp_path / "alice.pem"
    generate_key(path, SECRET)
    with pytest.raises(ControlError, match="another passphrase"):
        load_private_key(path, lambda _: b"wrong")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_that_others_may_use_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "alice.pem"
    generate_key(path)
    path.chmod(mode)
    with pytest.raises(ControlError, match=f"chmod 600 {path}"):
        load_private_key(path, no_passphrase)


def private_bytes(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        path.chmod(0o600)

    return make


ED25519 = Ed25519PrivateKey.generate()
PUBLIC = ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
WHOLE = ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
OTHER_KIND = generate_private_key(SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda _: None, "No such file", id="missing"),
        pytest.param(Path.mkdir, "cannot be read", id="a folder"),
        pytest.param(private_bytes(b""), "no private key", id="empty"),
        pytest.param(private_bytes(b"\xff" * 100), "no private key", id="no text"),
        pytest.param(private_bytes(WHOLE[:60]), "no private key", id="cut off"),
        pytest.param(private_bytes(PUBLIC), "no private key", id="a public key"),
        pytest.param(private_bytes(OTHER_KIND), "not an Ed25519 key", id="another kind of key"),
        pytest.param(private_bytes(b"x" * 100_000 + WHOLE), "no private key", id="too long"),
    ],
)
def test_what_is_no_key(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "alice.pem"
    make(path)
    with pytest.raises(ControlError, match=words) as told:
        load_private_key(path, no_passphrase)
    assert str(told.value).startswith(str(path))
    assert "PRIVATE KEY-----" not in str(told.value)
