"""`sluice topics`: the topics of a deployment."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.config_file import load_config
from connectors.kafka.client import KafkaProblem, bootstrap_servers, check_broker, client_settings
from connectors.kafka.topics import CREATED, DAY_MS, THERE, TopicRow, ensure, listing
from schemas.config import Kafka

HELD, NOT_HELD = 0, 1

topics_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Create or show the topics of a deployment.",
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="configuration of the deployment, with \\[kafka]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the topics as one JSON object, last")]


@topics_app.command("ensure")
def ensure_command(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Create the topics that are missing; change none that is there."""
    kafka = kafka_of(config)
    _show(kafka, ensure(kafka, _admin(kafka)), as_json)


@topics_app.command("list")
def list_command(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show the topics, and whether they are as they must be: exit code 1 where one is not."""
    kafka = kafka_of(config)
    _show(kafka, listing(kafka, _admin(kafka)), as_json)


def kafka_of(config: Path) -> Kafka:
    """The section [kafka] of a configuration. Raises `ConfigError`, `KafkaProblem`."""
    kafka = load_config(config).kafka
    if kafka is None:
        raise KafkaProblem(f"{config} has no section [kafka], which says where the topics are")
    return kafka


def _admin(kafka: Kafka) -> AdminClient:
    settings = client_settings(kafka, "topics")
    check_broker(settings)
    return AdminClient(settings)


def _show(kafka: Kafka, rows: list[TopicRow], as_json: bool) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=escape(f"topics at {bootstrap_servers(kafka)}"), title_justify="left")
    table.add_column("topic")
    table.add_column("state")
    for name in ("partitions", "copies", "kept", "offsets"):
        table.add_column(name, justify="right")
    table.add_column("what is not as it must be", overflow="fold")
    for row in rows:
        table.add_row(escape(row.name), *_cells(row), escape("\n".join(row.problems)))
    console.print(table)
    if as_json:
        print(json.dumps({"topics": [asdict(row) for row in rows]}))
    raise typer.Exit(HELD if all(row.state in (CREATED, THERE) for row in rows) else NOT_HELD)


def _cells(row: TopicRow) -> tuple[str, ...]:
    if not row.partitions:
        return (f"[bold red]{row.state}[/]", "", "", "", "")
    kept = "for ever" if row.retention_ms < 0 else f"{row.retention_ms / DAY_MS:,.0f} days"
    colour = "red" if row.problems else "green"
    return (
        f"[bold {colour}]{row.state}[/]",
        f"{row.partitions:,}",
        f"{row.replicas:,}",
        kept,
        f"{row.records:,}",
    )
