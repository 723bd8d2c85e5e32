"""One seeded bug for each statement, and the nets that catch it.

`tests/bugs/` holds a patch for each: a slip that a person could make, which breaks that statement. Each is
applied to a copy of the product, where `nets.py` looks at it: the audit and the assertion of the account's
machine on days written by hand, the simulation on small sessions. `pytest -v` lists which net catches what.
Copies are run by the interpreter: compiling each would take a minute.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PATCHES = TESTS / "bugs"
PACKAGES = ("schemas", "operators", "connectors", "flows")
NO_BUG = "none"

BUGS = {
    "P1": {"audit", "simulation"},
    "P2": {"audit", "simulation"},
    "P3": {"audit"},
    "P4": {"audit", "simulation"},
    "P5": {"audit"},
    "O1": {"audit", "simulation"},
    "O2": {"audit", "simulation"},
    "O3": {"audit"},
    "O4": {"audit", "simulation"},
    "O5": {"audit", "simulation"},
    "O6": {"audit", "simulation"},
    "O7": {"audit", "simulation"},
    "O8": {"simulation"},
    "O9": {"audit", "simulation"},
    "O10": {"audit", "simulation"},
    "O11": {"audit", "simulation"},
    "O12": {"audit", "simulation"},
    "O13": {"audit", "simulation"},
    "D3": {"machine", "simulation"},
    "D4": {"audit", "simulation"},
    "D5": {"audit", "simulation"},
}
"""The nets that report the bug of a statement under that statement."""

Told = list[list[str]]
"""[net, statement, where, text]: what the nets say, a row each."""


def seed(statement: str, folder: Path) -> None:
    """Apply a patch in a folder, which must not be part of a repository: git would skip its files."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "apply", "--verbose", str(PATCHES / f"{statement}.patch")],
        cwd=folder,
        env=own | {"GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    refused = done.returncode != 0 or "Skipped" in done.stderr
    assert not refused, (
        f"tests/bugs/{statement}.patch no longer fits the product. Write it anew: make the slip that its\n"
        f"first two lines tell, put the output of `git diff -U1` below them, undo the slip.\n{done.stderr}"
    )


def look(product: Path, bug: str) -> Told:
    """What the nets say of a copy of the product with a bug."""
    folder = product.with_name(bug)
    shutil.copytree(product, folder)
    if bug != NO_BUG:
        seed(bug, folder)
    paths = (folder, TESTS, TESTS / "operators")
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(PATCHES / "nets.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Told = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Told]]]:
    """What the nets say by bug, of those that are wanted; they run side by side."""
    product = tmp_path_factory.mktemp("bugs") / "product"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, product / package, ignore=shutil.ignore_patterns("__pycache__"))
    wanted = [
        str(item.callspec.params["statement"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_a_bug_is_caught_by_its_nets
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {bug: pool.submit(look, product, bug) for bug in (NO_BUG, *wanted)}
        pool.shutdown(cancel_futures=True)


def test_every_statement_has_its_bug() -> None:
    statements = [*(f"P{k}" for k in range(1, 6)), *(f"O{k}" for k in range(1, 14)), "D3", "D4", "D5"]
    assert list(BUGS) == statements
    assert all(BUGS.values())
    assert sorted(path.stem for path in PATCHES.glob("*.patch")) == sorted(statements)


@pytest.mark.parametrize("statement", BUGS)
def test_a_patch_says_what_it_breaks_and_why_a_person_would_write_it(statement: str) -> None:
    what, why, *_ = (PATCHES / f"{statement}.patch").read_text(encoding="utf-8").splitlines()
    assert what.startswith(f"# {statement}: ")
    assert why.startswith("# ")


def test_the_nets_are_silent_without_a_bug(runs: dict[str, Future[Told]]) -> None:
    assert runs[NO_BUG].result() == []


@pytest.mark.parametrize(
    "statement",
    [pytest.param(key, id=f"{key}-by-{'-and-'.join(sorted(nets))}") for key, nets in BUGS.items()],
)
def test_a_bug_is_caught_by_its_nets(statement: str, runs: dict[str, Future[Told]]) -> None:
    told = runs[statement].result()
    nets = {net for net, broken, _, _ in told if broken == statement}
    assert nets == BUGS[statement], f"all that is reported: {told}"
