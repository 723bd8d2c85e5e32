"""`sluice audit`: judges a result folder by itself.

Exit codes: 0 every statement held, 1 one did not, 2 could not be audited.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.audit import CANNOT, audit_folder, findings_json, findings_table, open_case

HELD, NOT_HELD, NOT_AUDITED = 0, 1, 2


def audit(
    out: Annotated[Path, typer.Argument(help="folder with the results of a run")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="configuration of the run; without it the one the summary names"),
    ] = None,
    bars: Annotated[
        Path | None, typer.Option(help="recording of the bars, to compare fills and counts with it")
    ] = None,
    other_config: Annotated[
        bool, typer.Option("--other-config", help="judge by a configuration that is not that of the run")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the findings as one JSON object, last")
    ] = False,
) -> None:
    """Recount a result from its tables alone and show whether every statement held."""
    try:
        case = open_case(out, config, bars, other_config=other_config)
        findings = audit_folder(case)
    except CANNOT as error:
        told = f"[bold red]not audited[/] {escape(str(error))}"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
        raise typer.Exit(NOT_AUDITED) from None
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(findings_table(out, findings))
    figures = findings_json(case, findings)
    if as_json:
        print(json.dumps(figures))
    raise typer.Exit(HELD if figures["held"] else NOT_HELD)
