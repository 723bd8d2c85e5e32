"""Replay of bars through the graph, from a recording or from their topic.

As a Bytewax flow, with literal arguments:

    python -m bytewax.run "flows.replay:flow('RECORDING', 'CONFIG.toml', 'OUT')"

and, with progress and a table at the end, as `sluice replay`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from bytewax.dataflow import Dataflow
from numpy.typing import NDArray

from connectors.config_file import load_config
from connectors.kafka.client import check_broker, client_settings
from connectors.kafka.topic_bars import TopicBars
from connectors.recording import BarRecording, RecordingError
from connectors.replay_source import Progress, ReplaySource, WindowSource
from connectors.results import KEY, ResultsSink
from flows.control_cli import load_commands
from flows.graph import Setup, replay_graph
from flows.summary import summarise
from flows.wire import bar_rows
from operators.account_state import COMMAND, records
from schemas.config import Config, ConfigError
from schemas.topics import BARS

WINDOW_ROWS = 1 << 15
WINDOW_ROWS_A_SYMBOL = 1 << 10
TOPIC_WINDOW_ROWS = 1 << 17
"""Rows read at a time, the largest of these, the last for a topic alone: few enough for memory and for
reading ahead, enough for each symbol that the fixed cost of a step does not count. Changes no result.
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
    source = ReplaySource(
        bars,
        setup.sessions,
        config.account.id,
        window_rows=window_rows or _window_rows(config),
        batch_bars=batch_bars,
        ignore_other_symbols=config.bars.other_symbols == "ignore",
        progress=progress,
        commands=_commands(control, config),
    )
    inputs = {
        "origin": bars.origin,
        "recording": str(recording.resolve()),
        "recording_hash": bars.identity,
        **_made_from(config_path, control),
        "first": None if first is None else first.isoformat(),
        "last": None if last is None else last.isoformat(),
    }
    return _replay(source, setup, out, lambda: inputs, durable=durable)


def prepare_topic(
    config: Config,
    out: Path,
    *,
    window_rows: int = 0,
    batch_bars: int = 0,
    durable: bool = True,
    control: Path | None = None,
    config_path: Path | None = None,
) -> Replay:
    """The same with the bars of the topic, from its beginning to the end it has now. Raises `KafkaProblem`,
    too.
    """
    if config.kafka is None:
        raise ConfigError("section [kafka] is missing, which says where the topics are: see deploy/live.toml")
    setup = Setup.of(config, paper=True)
    settings = client_settings(config.kafka, "replay")
    check_broker(settings)
    bars = TopicBars(
        settings,
        config.kafka.prefix,
        config.instruments,
        setup.sessions,
        lambda keys, values: bar_rows(keys, values, config),
        window_rows=window_rows or max(TOPIC_WINDOW_ROWS, _window_rows(config)),
    )
    bar_rows([], [], config)  # compiles
    progress = Progress(Event())
    source = WindowSource(
        bars,
        setup.sessions,
        config.account.id,
        interval_ns=config.interval_ns,
        batch_bars=batch_bars,
        progress=progress,
        commands=_commands(control, config),
    )

    def inputs() -> dict[str, Any]:
        """What was read is known when it has been: a snapshot is continued to the end that it knew."""
        return {
            "origin": f"topic {bars.prefix}{BARS}, {bars.total:,} records",
            "recording": None,
            "topic": bars.identity,
            **_made_from(config_path, control),
            "first": None,
            "last": None,
        }

    return _replay(source, setup, out, inputs, durable=durable)


def _replay(
    source: WindowSource, setup: Setup, out: Path, inputs: Callable[[], dict[str, Any]], *, durable: bool
) -> Replay:
    sink = ResultsSink(
        out,
        len(setup.config.instruments) + 1,
        lambda results: summarise(results, setup, inputs(), source.progress),
        durable=durable,
    )
    return Replay(replay_graph(source, sink, setup, KEY), source.progress, setup)


def _window_rows(config: Config) -> int:
    return max(WINDOW_ROWS, WINDOW_ROWS_A_SYMBOL * len(config.instruments))


def _commands(control: Path | None, config: Config) -> tuple[NDArray[np.int64], NDArray[Any]]:
    return load_commands(control, config) if control else (np.zeros(0, np.int64), records(COMMAND, 0))


def _made_from(config_path: Path | None, control: Path | None) -> dict[str, str | None]:
    return {
        "config": None if config_path is None else str(config_path.resolve()),
        "control": None if control is None else str(control.resolve()),
    }


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
