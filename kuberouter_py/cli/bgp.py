"""`kuberouter-py bgp`: this node's BGP sessions; `bgp routes`: what peers gave and got; `bgp service`: which of a
Service's addresses are announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from kuberouter_py.cli.options import GoFlags, GoFlagsGroup, Texts, click_options, configuration, given_texts
from kuberouter_py.cli.output import output_option, show

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def _sessions(output: str, **parameters: Any) -> int:
    context = click.get_current_context()
    inherited: Texts = context.obj or {}
    texts = {**inherited, **given_texts(parameters)}
    if context.invoked_subcommand is not None:
        context.obj = texts
        return 0
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.bgp import bgp_text

    show(ask_agent(configuration(texts).socket, "/bgp"), output, bgp_text)
    return 0


def _routes(output: str, peers: Sequence[str], **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.bgp import routes_text

    config = configuration({**inherited, **given_texts(parameters)})
    show(ask_agent(config.socket, "/bgp/routes", {"peers": ",".join(peers)}), output, routes_text)
    return 0


def _service(output: str, service: str, **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.bgp import service_text

    config = configuration({**inherited, **given_texts(parameters)})
    show(ask_agent(config.socket, "/bgp/service", {"service": service}), output, service_text)
    return 0


_routes_command = GoFlags(
    "routes",
    callback=_routes,
    params=[
        click.Argument(["peers"], nargs=-1, metavar="[ADDRESS|NODE...]"),
        output_option(),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent for the routes that its peers gave it, and got from it.

    Of all peers, or of these. A route that is not used is refused, or another peer's way there is the better one.

    Exit status: 0 when it answered; 1 when it did not, or there is no such peer.""",
    context_settings=_SETTINGS,
)

_service_command = GoFlags(
    "service",
    callback=_service,
    params=[
        click.Argument(["service"], metavar="[NAMESPACE/]NAME"),
        output_option(),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent which addresses of a Service this node announces, and why not the others.

    Exit status: 0 when it answered; 1 when it did not, or there is no such Service.""",
    context_settings=_SETTINGS,
)

bgp = GoFlagsGroup(
    "bgp",
    callback=_sessions,
    invoke_without_command=True,
    params=[output_option(), *click_options(["socket"])],
    commands={"routes": _routes_command, "service": _service_command},
    help="""Ask the running agent for its BGP sessions.

    Who this node is to BGP; each peer with its state, since when, the reason of its last failure, and how many routes
    it gave and got; and who is no peer, and why.

    Exit status: 0 when it answered, whatever it said; 1 when it did not.""",
    context_settings=_SETTINGS,
)
