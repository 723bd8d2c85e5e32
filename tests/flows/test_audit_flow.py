"""The audit of a result folder as a flow: the findings of the whole, for any window and after any crash."""

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from audit_fixtures import MICRO, QQQ, SQQQ, Book, clean_day, free_config, result_folder
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main, run_main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.audit import Case, audit_folder, audit_graph, findings_json, flow, open_case
from flows.auditor import AuditError, Auditor
from flows.auditor.tables import Windows
from schemas.codes import AlertKind, ExecutionKind, OrderKind, Outcome, Side

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return free_config(tmp_path_factory.mktemp("config") / "free.toml")


def busy_days() -> Book:
    """Many rows of many kinds, some of them breaches."""
    book = clean_day()
    for minute in range(50, 350, 10):
        book.buy(minute, QQQ, 10, 500, day=1)
        book.value(minute + 1, 5_000 * MICRO, day=1)
        order = book.order(minute + 2, QQQ, Side.SELL, 10, day=1, limit=400)
        book.request(minute + 3, order, OrderKind.QUERY, day=1)
        book.fill(order, minute + 4, 4, 500, day=1)
        book.fill(order, minute + 4, 6, 500, day=1)
        book.value(minute + 4, day=1)
        book.decision(minute + 5, SQQQ, 5, Outcome.REFUSED, day=1)
    late = book.order(350, QQQ, Side.BUY, 10, day=1, limit=500)
    book.report(late, 351, ExecutionKind.CANCELLED, day=1)
    book.fill(late, 352, 10, 500, day=1, late=1)
    book.alert(352, AlertKind.LATE_FILL, QQQ, day=1)
    book.sell(353, QQQ, 10, 500, day=1)
    book.close(1)
    book.executions[20]["position"] += 1
    book.executions[30]["cash"] += 1
    return book


@pytest.fixture(scope="module")
def case(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    out = result_folder(busy_days(), tmp_path_factory.mktemp("busy") / "out", config)
    return open_case(out, None, None)


def copied(case: Case, folder: Path) -> Case:
    """The same results in a folder of their own."""
    shutil.copytree(case.out, folder)
    return open_case(folder, None, None)


def read(case: Case) -> object:
    return json.loads((case.out / "audit.json").read_text(encoding="utf-8"))


def as_json(case: Case) -> object:
    return json.loads(json.dumps(findings_json(case, audit_folder(case))))


def test_the_findings_of_a_folder_are_those_of_its_book(case: Case) -> None:
    book = busy_days()
    (news,) = Auditor.of(case.config, case.sessions, case.counts).step(book.batch(final=True))
    assert audit_folder(case) == news.findings
    assert [key for key, finding in audit_folder(case).items() if not finding.held] == ["O2"]


@pytest.mark.parametrize("window_rows", [1, 7, 1000])
def test_the_flow_finds_what_the_batch_finds(
    window_rows: int, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = copied(case, tmp_path / "out")
    run_main(audit_graph(mine, window_rows))
    assert read(mine) == as_json(mine)
    said = capsys.readouterr().out
    assert "demo: position differs: 1 more" in said
    assert "NO, 2 times" in said


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 60), min_size=1), data=st.data())
def test_windows_of_any_size_and_a_restart_anywhere_give_the_same(
    sizes: list[int], data: st.DataObject, case: Case
) -> None:
    whole = audit_folder(case)
    auditor, windows = case.auditor(), Windows(case.tables, sizes[0])
    k = 0
    while batch := windows.next():
        auditor.step(batch)
        k += 1
        windows.rows = sizes[k % len(sizes)]
        if data.draw(st.booleans()):
            again = case.auditor()
            again.load(auditor.dump())
            auditor, windows = again, Windows(case.tables, windows.rows, None, windows.snapshot())
    assert auditor.findings() == whole


def test_rows_of_one_time_come_together(case: Case) -> None:
    windows = Windows(case.tables, 1)
    last = -1
    while batch := windows.next():
        times = [
            *batch.orders["time_ns"],
            *batch.executions["known_ns"],
            *batch.decisions["time_ns"],
            *batch.alerts["time_ns"],
            *batch.equity["time_ns"],
        ]
        assert min(times) > last
        last = max(times)
    assert windows.done


def test_a_killed_flow_continues_and_finds_the_same(case: Case, tmp_path: Path) -> None:
    mine = copied(case, tmp_path / "out")
    store = tmp_path / "db"
    store.mkdir()
    init_db_dir(store, 1)

    steps = 0
    step = Auditor.step

    def killed(self: Auditor, event: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise KilledError
        return step(self, event)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Auditor, "step", killed)
        with pytest.raises(BytewaxRuntimeError):
            run(mine, store)
    assert not (mine.out / "audit.json").exists()
    seen: list[int] = []

    def counted(self: Auditor, event: object) -> object:
        seen.append(len(event.executions))  # type: ignore[attr-defined]
        return step(self, event)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Auditor, "step", counted)
        run(mine, store)
    assert read(mine) == as_json(mine)
    assert 0 < sum(seen) < mine.tables.rows["executions"]


class KilledError(Exception):
    """The end of a process, in the middle of it."""


def run(case: Case, store: Path) -> None:
    cluster_main(
        audit_graph(case, 10), [], 0, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(store)
    )


def test_a_recovery_directory_of_other_results_is_refused(case: Case, config: Path, tmp_path: Path) -> None:
    mine = copied(case, tmp_path / "out")
    store = tmp_path / "db"
    store.mkdir()
    init_db_dir(store, 1)
    run(mine, store)
    other = result_folder(clean_day(), tmp_path / "other", config)
    with pytest.raises(BytewaxRuntimeError) as caught:
        run(open_case(other, None, None), store)
    error: BaseException | None = caught.value
    while not isinstance(error, AuditError):
        assert error is not None
        error = error.__cause__ or error.__context__
    assert "belongs to the audit of other results" in str(error)


def test_the_flow_runs_by_its_name(case: Case, config: Path, tmp_path: Path) -> None:
    mine = copied(case, tmp_path / "out")
    words = [sys.executable, "-m", "bytewax.run", f"flows.audit:flow({str(mine.out)!r}, {str(config)!r})"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "no negative cash" in ended.stdout
    assert read(mine) == as_json(mine)


def test_a_flow_over_nothing_ends_with_a_message(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bytewax.run", f"flows.audit:flow({str(tmp_path / 'none')!r})"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "is missing" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_flow_has_one_input() -> None:
    source = Path(flow.__code__.co_filename).read_text(encoding="utf-8")
    assert source.count("op.input(") == 1


def test_another_configuration_gives_another_identity(case: Case, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    text = config.read_text(encoding="utf-8").replace("cash = 100_000", "cash = 100_001")
    other.write_text(text, encoding="utf-8")
    assert open_case(case.out, other, None, other_config=True).identity != case.identity
    assert open_case(case.out, config, None).identity == case.identity
