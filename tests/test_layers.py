"""The layout is a rule: who may import whom, and what the deterministic part may not touch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "operators", "connectors", "flows")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "operators": {"operators", "schemas"},
    "connectors": {"connectors", "schemas"},
    "flows": {"flows", "connectors", "operators", "schemas"},
}
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
DETERMINISTIC = [path for path in FILES if path.relative_to(ROOT).parts[0] in ("schemas", "operators")]
COMPILER = ROOT / "operators" / "compiled.py"
FORBIDDEN = {"time", "random", "uuid", "secrets", "os", "socket", "subprocess", "threading", "asyncio"}


def imported(path: Path) -> Iterator[str]:
    """Modules a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", DETERMINISTIC, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_deterministic_part_reads_no_clock_chance_or_environment(path: Path) -> None:
    if path == COMPILER:
        pytest.skip("names the directory of compiled kernels, and nothing else")
    assert {name.split(".")[0] for name in imported(path)} & FORBIDDEN == set()
    calls = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert calls & {"now", "utcnow", "today", "default_rng", "read_text", "write_text"} == set()


def test_only_the_shell_knows_bytewax() -> None:
    users = [p.name for p in DETERMINISTIC if any(name.startswith("bytewax") for name in imported(p))]
    assert users == ["shell.py"]
