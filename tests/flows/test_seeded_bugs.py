"""One seeded bug for each statement, and the nets that catch it.

`tests/bugs/` holds a patch for each: a slip that a person could make, which breaks that statement. Each is
applied to a copy of the product, where `nets.py` looks at it: the simulation, with the seeds below until one
shows it, the audit of what leaves the account, and what the account's machine asserts itself. Copies are run
by the interpreter: compiling each would take a minute.

A patch that applies no more is written anew. Where the seeds of a bug no longer show it, more of them are
tried by `SLUICE_BUG_SEEDS=500 pytest tests/flows/test_seeded_bugs.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.seeded_bugs
ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PATCHES = TESTS / "bugs"
PACKAGES = ("schemas", "operators", "connectors", "flows")
SIMULATION, AUDIT, MACHINE = "simulation", "audit", "machine"
MORE_SEEDS = range(int(os.environ.get("SLUICE_BUG_SEEDS", "0")))

Told = list[list[str]]
"""[net, statement, where, text]: what the nets say, a row each."""


class Bug(NamedTuple):
    """The nets that must report it under its statement, and seeds with which the simulation does."""

    nets: tuple[str, ...]
    seeds: tuple[int, ...] = ()


BUGS = {
    "P1": Bug((AUDIT,)),
    "P2": Bug((SIMULATION, AUDIT), (2644, 2008)),
    "P3": Bug((AUDIT,)),
    "P4": Bug((SIMULATION, AUDIT), (2817, 1533)),
    "P5": Bug((AUDIT,)),
    "O1": Bug((SIMULATION, AUDIT), (1626, 1335)),
    "O2": Bug((SIMULATION, AUDIT), (1626, 1335)),
    "O3": Bug((SIMULATION, AUDIT), (720, 1665)),
    "O4": Bug((SIMULATION, AUDIT), (1742, 1870)),
    "O5": Bug((AUDIT,)),
    "O6": Bug((SIMULATION, AUDIT), (1742, 1870)),
    "O7": Bug((SIMULATION, AUDIT), (854, 112)),
    "O8": Bug((SIMULATION,), (784, 2127)),
    "O9": Bug((SIMULATION, AUDIT), (1335, 1947)),
    "O10": Bug((SIMULATION, AUDIT), (1335, 1947)),
    "O11": Bug((AUDIT,)),
    "O12": Bug((SIMULATION, AUDIT), (1913, 2522)),
    "O13": Bug((SIMULATION, AUDIT), (1947, 2101)),
    "D3": Bug((SIMULATION, MACHINE), (2826, 247)),
    "D4": Bug((SIMULATION, AUDIT), (1446, 1870)),
    "D5": Bug((SIMULATION, AUDIT), (247, 1913)),
}


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product as it stands."""
    folder = tmp_path_factory.mktemp("bugs") / "none"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def git_apply(statement: str, folder: Path, *options: str) -> str:
    """Apply a patch in a folder, which need not be a repository; what git says against it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "apply", "--verbose", *options, str(PATCHES / f"{statement}.patch")],
        cwd=folder,
        env=own | {"GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode or "Skipped" in done.stderr else ""


def look(folder: Path, statement: str, seeds: tuple[int, ...]) -> Told:
    """What the nets say of the product in this folder."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::RuntimeWarning",
            str(PATCHES / "nets.py"),
            statement,
            *map(str, seeds),
        ],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(map(str, (folder, TESTS, TESTS / "operators"))),
            "NUMBA_DISABLE_JIT": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Told = json.loads(done.stdout)
    return told


@pytest.fixture(scope="session")
def told_of(product: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Told]]:
    """What the nets say of the product with the bug of a statement. All bugs that are wanted run side by
    side.
    """

    def seed_and_look(statement: str) -> Told:
        folder = product.with_name(statement)
        shutil.copytree(product, folder)
        refused = git_apply(statement, folder)
        assert not refused, refused
        seeds = BUGS[statement].seeds
        return look(folder, statement, (*seeds, *MORE_SEEDS) if SIMULATION in BUGS[statement].nets else seeds)

    wanted = [
        item.callspec.params["statement"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_a_bug_is_caught_by_its_nets
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs: dict[str, Future[Told]] = {key: pool.submit(seed_and_look, key) for key in wanted}
        yield lambda statement: runs[statement].result()


def test_every_statement_has_its_bug() -> None:
    statements = [*(f"P{k}" for k in range(1, 6)), *(f"O{k}" for k in range(1, 14)), "D3", "D4", "D5"]
    assert list(BUGS) == statements
    assert sorted(path.stem for path in PATCHES.glob("*.patch")) == sorted(statements)


@pytest.mark.parametrize("statement", BUGS)
def test_a_patch_says_what_it_breaks_and_applies(statement: str, product: Path) -> None:
    lines = (PATCHES / f"{statement}.patch").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {statement}: ")
    assert lines[1].startswith("# ")
    refused = git_apply(statement, product, "--check")
    assert not refused, f"tests/bugs/{statement}.patch no longer fits the product, write it anew:\n{refused}"


def test_the_nets_hold_without_a_bug(product: Path) -> None:
    seeds = {seed for bug in BUGS.values() for seed in bug.seeds}
    assert look(product, "none", tuple(sorted(seeds))) == []


@pytest.mark.parametrize("statement", BUGS)
def test_a_bug_is_caught_by_its_nets(statement: str, told_of: Callable[[str], Told]) -> None:
    told = told_of(statement)
    caught = {net for net, broken, _, _ in told if broken == statement}
    missed = set(BUGS[statement].nets) - caught
    assert not missed, f"{statement} is not reported by {missed}; reported is {told}"
