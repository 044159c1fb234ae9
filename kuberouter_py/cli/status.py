"""`kuberouter-py status`: what the running agent says of itself."""

from __future__ import annotations

import json
from typing import Any

import click

from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts


def _status(output: str, **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.status import status_text

    config = configuration({**inherited, **given_texts(parameters)})
    document = ask_agent(config.socket, "/status")
    click.echo(json.dumps(document, indent=2) if output == "json" else status_text(document), nl=output == "json")
    return 0


status = GoFlags(
    "status",
    callback=_status,
    params=[
        click.Option(
            ["-o", "output", "--output"],
            type=click.Choice(["text", "json"]),
            default="text",
            help="form of the answer  [default: text]",
        ),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent: caches, controllers, what was refused and why, IPVS servers of somebody else.

    Exit status: 0 when it answered, whatever it said; 1 when it did not.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
