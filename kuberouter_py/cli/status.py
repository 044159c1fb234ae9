"""`kuberouter-py status`: what the running agent says of itself."""

from __future__ import annotations

from typing import Any

import click

from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts
from kuberouter_py.cli.output import output_option, show


def _status(output: str, **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.status import status_text

    config = configuration({**inherited, **given_texts(parameters)})
    show(ask_agent(config.socket, "/status"), output, status_text)
    return 0


status = GoFlags(
    "status",
    callback=_status,
    params=[
        output_option(),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent: caches, controllers, what was refused and why, IPVS servers of somebody else.

    Exit status: 0 when it answered, whatever it said; 1 when it did not.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
