"""Replay of recorded bars through the graph.

As a Bytewax flow, with literal arguments:

    python -m bytewax.run "flows.replay:flow('RECORDING', 'CONFIG.toml', 'OUT')"

and, with progress and a table at the end, as `sluice replay`.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event

import numpy as np
from bytewax.dataflow import Dataflow

from connectors.config_file import load_config
from connectors.recording import BarRecording, RecordingError
from connectors.replay_source import Progress, ReplaySource
from connectors.results import KEY, ResultsSink
from flows.control_cli import load_commands
from flows.graph import Setup, replay_graph
from flows.summary import summarise
from operators.account_state import COMMAND, records
from schemas.config import Config

WINDOW_ROWS = 1 << 15
WINDOW_ROWS_A_SYMBOL = 1 << 10
"""Rows read at a time, the larger of the two: few enough for memory and for reading ahead, enough for each
symbol that the fixed cost of a step does not count. Changes no result.
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay that is ready to run."""

    flow: Dataflow
    progress: Progress
    setup: Setup


def prepare(
    recording: Path,
    config: Config,
    out: Path,
    *,
    first: date | None = None,
    last: date | None = None,
    window_rows: int = 0,
    batch_bars: int = 0,
    durable: bool = True,
    control: Path | None = None,
    config_path: Path | None = None,
) -> Replay:
    """Open the recording from day `first` to day `last` and build the flow.

    `durable`: with a recovery directory the run can be continued after a crash. `control`: a folder of
    operators' commands. `config_path`: the file of the configuration, for the summary. Raises `ConfigError`,
    `RecordingError`, `ResultsError` and `ControlError`.
    """
    setup = Setup.of(config, paper=True)
    bars = BarRecording(recording, config.instruments, first, last)
    if bars.interval_ns != config.interval_ns:
        raise RecordingError(
            f"{recording} has bars of {bars.interval_ns // 10**9} s, the configuration's "
            f"bars.interval_seconds is {config.bars.interval_seconds}; use one that fits the other"
        )
    progress = Progress(Event())
    commands = load_commands(control, config) if control else (np.zeros(0, np.int64), records(COMMAND, 0))
    source = ReplaySource(
        bars,
        setup.sessions,
        config.account.id,
        window_rows=window_rows or max(WINDOW_ROWS, WINDOW_ROWS_A_SYMBOL * len(config.instruments)),
        batch_bars=batch_bars,
        ignore_other_symbols=config.bars.other_symbols == "ignore",
        progress=progress,
        commands=commands,
    )
    inputs = {
        "origin": bars.origin,
        "recording": str(recording.resolve()),
        "recording_hash": bars.identity,
        "config": None if config_path is None else str(config_path.resolve()),
        "first": None if first is None else first.isoformat(),
        "last": None if last is None else last.isoformat(),
        "control": None if control is None else str(control.resolve()),
    }
    sink = ResultsSink(
        out,
        len(config.instruments) + 1,
        lambda results: summarise(results, setup, inputs, progress),
        durable=durable,
    )
    return Replay(replay_graph(source, sink, setup, KEY), progress, setup)


def flow(
    recording: str, config: str, out: str, batch_bars: int = 0, window_rows: int = WINDOW_ROWS
) -> Dataflow:
    """The flow for `python -m bytewax.run`."""
    return prepare(
        Path(recording),
        load_config(Path(config)),
        Path(out),
        window_rows=window_rows,
        batch_bars=batch_bars,
        config_path=Path(config),
    ).flow
