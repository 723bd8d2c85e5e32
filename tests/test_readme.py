"""The README is true: its graph is the graph, its guarantees have tests, its commands and strategies work."""

import ast
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest
from bytewax.visualize import to_mermaid
from kafka_broker import KafkaBroker

from connectors.calendars import load_sessions
from connectors.config_file import load_config
from connectors.kafka.sinks import ExactlyOnceSink, JournalSink
from connectors.kafka.source import KafkaSource
from connectors.synthetic import Family, generate, write_synthetic
from deploy.kafka.broker import free_port
from flows.graph import Setup, Sinks, live_graph
from flows.replay import prepare
from operators.market_plan import market_plan
from operators.registry import STRATEGIES

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = load_config(ROOT / "deploy" / "demo.toml")
    sessions = load_sessions("XNYS", config.calendar.first, config.calendar.last)
    path = tmp_path_factory.mktemp("readme") / "recording"
    write_synthetic(path, sessions, [FAMILY], config.calendar.first, 3, 1)
    return path


def test_the_graph_in_the_readme_is_the_graph_of_the_code(recording: Path, tmp_path: Path) -> None:
    flow = prepare(recording, load_config(ROOT / "deploy" / "demo.toml"), tmp_path).flow
    assert block('subgraph "replay').strip() == to_mermaid(flow).strip()


def test_the_live_graph_in_the_readme_is_the_graph_of_the_code() -> None:
    setup = Setup.of(load_config(ROOT / "deploy" / "live.toml"), paper=False)
    source: KafkaSource[Any] = KafkaSource({}, "", {}, lambda _: [], identity="", clock=None, stop=Event())
    journal = JournalSink({}, "", 0, on_written=lambda _: None)
    outputs = ExactlyOnceSink({}, "", [], 0, transactional_id=None, identity="", on_written=lambda _: None)
    flow = live_graph(source, Sinks(journal, outputs, journal), setup, 0, lambda _: None)
    assert block('subgraph "live').strip() == to_mermaid(flow).strip()


def guarantees() -> list[str]:
    table = README.split("## Guarantees")[1].split("\n## ")[0]
    return re.findall(r"`(tests/[^`]+)`", table)


@pytest.mark.parametrize("named", guarantees())
def test_the_test_behind_a_guarantee_exists(named: str) -> None:
    path, _, function = named.partition("::")
    assert (ROOT / path).exists()
    if function:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_code_behind_a_guarantee_exists() -> None:
    table = README.split("## Guarantees")[1].split("\n## ")[0]
    for path in re.findall(r"`((?:schemas|operators|connectors|flows)/[^`]*)`", table):
        assert (ROOT / path).exists(), path


def test_every_configuration_in_deploy_is_usable() -> None:
    for path in sorted((ROOT / "deploy").glob("*.toml")):
        market_plan(load_config(path))


def test_the_families_configuration_runs_every_strategy() -> None:
    config = load_config(ROOT / "deploy" / "us-families.toml")
    assert {s.kind for s in config.strategies} == set(STRATEGIES)


def test_the_strategy_in_the_readme_runs(recording: Path, tmp_path: Path) -> None:
    source = re.search(r"```python\n# my_strategies.py\n(.*?)```", README, re.DOTALL)
    assert source is not None
    (tmp_path / "my_strategies.py").write_text(source.group(1), encoding="utf-8")
    demo = (ROOT / "deploy" / "demo.toml").read_text(encoding="utf-8")
    mine = demo.replace("instruments = [", 'modules = ["my_strategies"]\ninstruments = [', 1)
    mine = mine.replace('kind = "ema_cross"', 'kind = "dip"')
    mine = re.sub(r"parameters = \{.*\}", "parameters = { n = 30, depth = 0.001 }", mine)
    (tmp_path / "mine.toml").write_text(mine, encoding="utf-8")
    command = [str(BIN / "sluice"), "replay", str(recording)]
    done = subprocess.run(
        [*command, "--config", "mine.toml", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fills" in done.stdout


def block(start: str) -> str:
    """The code block of the README that holds `start`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return next(text for text in blocks if start in text)


def test_the_commands_for_bars_of_ones_own_work(tmp_path: Path) -> None:
    sessions = load_sessions("XNYS", date(2024, 10, 1), date(2024, 10, 31))
    frame = pl.concat(generate(sessions, [Family("TQQQ", (("TQQQ", 3.0),))], date(2024, 10, 1), 3, 1))
    local = pl.col("start_ns").dt.convert_time_zone("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S")
    frame.select("symbol", local.alias("time"), "open", "high", "low", "close", "volume").write_csv(
        tmp_path / "bars.csv"
    )
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    commands = block("sluice import") + block("bytewax.run")
    script = f"set -e\nPATH={BIN}:$PATH\n" + commands.replace("source ", "# source ")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "mine" / "orders.parquet").is_file()
    assert (tmp_path / "out" / "mine" / "summary.json").is_file()


def test_the_commands_of_live_trading_work(broker: KafkaBroker, prefix: str, tmp_path: Path) -> None:
    """With one session instead of three, on the broker of the tests."""
    config = (ROOT / "deploy" / "live.toml").read_text(encoding="utf-8")
    metrics, other = str(free_port()), str(free_port())
    mine = config.replace("[kafka]", f'[kafka]\nprefix = "{prefix}"').replace("9400", metrics)
    (tmp_path / "live.toml").write_text(mine, encoding="utf-8")
    told = block("sluice topics ensure").partition("sluice topics")
    commands = (told[1] + told[2]).replace("deploy/live.toml", "live.toml")
    commands = commands.replace("9400", metrics).replace("9401", other).replace("2024-10-03", "2024-10-01")
    script = f"set -e\nsluice generate out/demo/recording --days 2\n{commands}\nkill %1 %2\nwait"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "PATH": f"{BIN}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("stopped; the last snapshot is in db/") == 2
    table = re.findall(r"│ (\w+).*?│ +([\d,]+) │ +([\d,]+) │ +0 │", done.stdout)
    compared = {topic: int(n.replace(",", "")) for topic, n, equal in table if n == equal}
    assert compared["orders"] > 0
    assert compared["journal"] > 1500


def test_the_runbook_watches_what_is_told() -> None:
    runbook = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
    told = (ROOT / "connectors" / "metrics.py").read_text(encoding="utf-8")
    watched = set(re.findall(r"sluice_\w+", runbook))
    assert len(watched) > 4
    assert [name for name in watched if f'"{name.removesuffix("_total")}"' not in told] == []


@pytest.mark.parametrize("target", re.findall(r"make ([a-z-]+)", README))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
