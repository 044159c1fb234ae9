"""The forms in which a command shows what the agent has answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click


def output_option() -> click.Option:
    return click.Option(
        ["-o", "output", "--output"],
        type=click.Choice(["text", "json"]),
        default="text",
        help="form of the answer  [default: text]",
    )


def show(document: Any, output: str, text: Callable[[Any], str]) -> None:
    """output: as of output_option."""
    click.echo(json.dumps(document, indent=2) if output == "json" else text(document), nl=output == "json")
