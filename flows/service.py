"""Runs a flow of topics until it is asked to stop: the settings of its process, its recovery directory, its
signals and its metrics.

The same flow runs in two ways: by `sluice live` and `sluice paper`, and by
`python -m bytewax.run flows.live`, which takes its settings from the environment.
"""

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import cluster_main

from connectors.config_file import DEPLOY, load_config
from connectors.kafka.source import KafkaSource
from connectors.metrics import Figures, serve_metrics
from flows.process import RunError, hold_recovery, known_error, stop_on_signal, telling_errors
from operators.compiled import COLD
from schemas.config import NS, Config, ConfigError, Kafka, Live, micro
from schemas.records import MICRO

CONFIG_VARIABLE = "SLUICE_CONFIG"
CONTROL_VARIABLE = "SLUICE_CONTROL"
SHARD_VARIABLE = "SLUICE_SHARD"
METRICS_PORT_VARIABLE = "SLUICE_METRICS_PORT"
RECOVERY_FLAGS = ("-r", "--recovery-directory")
RECOVERY_VARIABLE = "BYTEWAX_RECOVERY_DIRECTORY"

logger = logging.getLogger("sluice")
_held = ExitStack()  # of the process


@dataclass(frozen=True, slots=True)
class Service:
    """A flow of topics that is ready to run."""

    flow: Dataflow
    source: KafkaSource[Any]
    stop: threading.Event
    config: Config
    figures: Figures
    warm_up: Callable[[], None]


def required(config: Config) -> tuple[Live, Kafka]:
    """The sections that a flow of topics needs. Raises `ConfigError`."""
    for name in ("live", "kafka"):
        if getattr(config, name) is None:
            raise ConfigError(
                f"section [{name}] is missing; trading from topics needs it: see deploy/live.toml"
            )
    assert config.live is not None
    assert config.kafka is not None
    return config.live, config.kafka


def grace_of(terms: Live) -> int:
    """live.grace_seconds in nanoseconds."""
    return micro(terms.grace_seconds) * (NS // MICRO)


def run_service(
    service: Service, recovery: Path, snapshot_seconds: int, metrics_port: int | None = None
) -> None:
    """Run until SIGTERM or SIGINT; then the last epoch is committed. Raises what `USER_ERRORS` says."""
    set_up_logging()
    with around(service, recovery, metrics_port) as store, telling_errors():
        logger.info("running; stop with SIGTERM or Ctrl-C")
        cluster_main(
            service.flow,
            [],
            0,
            epoch_interval=timedelta(seconds=snapshot_seconds),
            recovery_config=store,
        )
    logger.info("stopped; the last snapshot is in %s", recovery)


@contextmanager
def around(service: Service, recovery: Path, metrics_port: int | None) -> Iterator[RecoveryConfig | None]:
    """What holds while a service runs. `metrics_port`: instead of that of section [metrics], as two processes
    cannot share it.
    """
    metrics = service.config.metrics
    if metrics is not None and metrics_port is not None:
        metrics = metrics.model_copy(update={"port": metrics_port})
    with hold_recovery(recovery) as store:
        if COLD:
            logger.info("compiling kernels, once for this version: about a minute")
        service.warm_up()
        gc.freeze()  # what start-up made stays; looking through it takes milliseconds, again and again
        with stop_on_signal(service.stop), serve_metrics(metrics, service.source, service.figures):
            yield store


def flow_of_process(build: Callable[[Config, Path | None, str], Service]) -> Dataflow:
    """The flow for `python -m bytewax.run`, with everything that `run_service` does around it; what is held
    is held until this process ends.
    """
    sys.excepthook = _tell
    set_up_logging()
    control = os.environ.get(CONTROL_VARIABLE)
    service = build(
        load_config(Path(os.environ.get(CONFIG_VARIABLE, DEPLOY / "live.toml"))),
        Path(control) if control else None,
        os.environ.get(SHARD_VARIABLE, ""),
    )
    recovery = _recovery_of_command_line(sys.argv)
    if recovery is None:
        raise RunError(
            "a flow of topics needs snapshots: python -m bytewax.run flows.live -r DIRECTORY -s 5 -b 0"
        )
    port = os.environ.get(METRICS_PORT_VARIABLE, "")
    if port and not port.isdigit():
        raise RunError(f"{METRICS_PORT_VARIABLE}={port}: must be the number of a port")
    _held.enter_context(around(service, recovery, int(port) if port else None))
    return service.flow


def _recovery_of_command_line(arguments: list[str]) -> Path | None:
    for k, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in RECOVERY_FLAGS and equals:
            return Path(value)
        if argument in RECOVERY_FLAGS and k + 1 < len(arguments):
            return Path(arguments[k + 1])
    named = os.environ.get(RECOVERY_VARIABLE)
    return Path(named) if named else None


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a user can mend is a message; everything else keeps its traceback."""
    known = known_error(error)
    if known is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"sluice: {known}", file=sys.stderr)


def set_up_logging() -> None:
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
