"""A configuration file that cannot be used is refused with the file, the place and the reason."""

from pathlib import Path

import pytest

from connectors.config_file import load_config
from schemas.config import ConfigError

DEMO = Path(__file__).parents[2] / "deploy" / "demo.toml"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_demo_configuration_is_read() -> None:
    assert load_config(DEMO).account.id == "demo"


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert refusal(path).startswith(f"{path}: cannot be read: ")
    assert "No such file" in refusal(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read: ")


def test_bad_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[account]\nid = "demo"\ncash = = 3\n', encoding="utf-8")
    assert refusal(path).startswith(f"{path}: not valid TOML: ")
    assert "line 3" in refusal(path)


def test_key_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.toml"
    path.write_text("[orders]\nentry_lifetime_bars = 3\nentry_lifetime_bars = 4\n", encoding="utf-8")
    assert refusal(path).startswith(f"{path}: not valid TOML: ")
    assert "line 3" in refusal(path)


@pytest.mark.parametrize("number", ["9" * 5000, "1e99999999999999999999"])
def test_number_with_too_many_digits_is_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "long.toml"
    path.write_text(f"[account]\ncash = {number}\n", encoding="utf-8")
    assert refusal(path) == f"{path}: not valid TOML: a number has too many digits"


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(DEMO.read_bytes() + b"# \xe9\n")
    assert refusal(path).startswith(f"{path}: cannot be read: ")
    assert "utf-8" in refusal(path)


def test_wrong_value_is_refused_with_the_path_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    text = DEMO.read_text(encoding="utf-8").replace("cash = 100_000", "cash = -1")
    path.write_text(text, encoding="utf-8")
    assert refusal(path).startswith(f"{path}: account.cash: -1 is not allowed; ")


def test_empty_file_misses_every_section(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    lines = refusal(path).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert {line.split(": ")[1] for line in lines} == {
        "account",
        "calendar",
        "bars",
        "instruments",
        "strategies",
        "allocation",
        "gates",
        "breakers",
        "orders",
        "venue",
    }
