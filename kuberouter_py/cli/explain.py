"""`kuberouter-py explain`: what becomes of a connection on this node, and why."""

from __future__ import annotations

import json
from typing import Any

import click

from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts

DIFFERENT = 2  # exit status when the kernel is not as decided


def _explain(sender: str, target: str, actual: bool, output: str, **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.explanation import explanation_text

    config = configuration({**inherited, **given_texts(parameters)})
    question = {"from": sender, "to": target, "actual": "true" if actual else "false"}
    document = ask_agent(config.socket, "/explain", question)
    click.echo(json.dumps(document, indent=2) if output == "json" else explanation_text(document), nl=output == "json")
    told = [*document["paths"], *document.get("policies", {}).get("connections", ())]
    return DIFFERENT if actual and any(each["differences"] for each in told) else 0


explain = GoFlags(
    "explain",
    callback=_explain,
    params=[
        click.Option(
            ["sender", "--from"], required=True, metavar="pod/NS/NAME|node|ADDRESS", help="who opens the connection"
        ),
        click.Option(
            ["target", "--to"],
            required=True,
            metavar="ADDRESS:PORT|service/NS/NAME:PORT|pod/NS/NAME:PORT",
            help="where to; a port by number or name, of a Service none: all; behind it /udp or /sctp if it is not TCP",
        ),
        click.Option(["--actual"], is_flag=True, help="look at the kernel too, and say where it is not as decided"),
        click.Option(
            ["-o", "output", "--output"],
            type=click.Choice(["text", "json"]),
            default="text",
            help="form of the answer  [default: text]",
        ),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent what becomes of a new connection on this node, and why.

    The first line is the verdict. Of a Service: open, refused, silent, taken, or not ours; below it stand the virtual
    server, its destinations with what they see as source, why each other endpoint of the Service is not among them, and
    the rules that were met. Of a Pod: allowed or denied by NetworkPolicy, with the policies and rules; also for each
    destination that a Service leads to. Writes nothing and sends nothing.

    \b
    kuberouter-py explain --from pod/default/client --to service/default/web:http
    kuberouter-py explain --from pod/default/client --to pod/default/web-1:8080/udp --actual
    kuberouter-py explain --from 203.0.113.10 --to 192.0.2.11:30080 --actual
    kuberouter-py explain --from node --to '[fd00:10:96::a]:53/udp'

    Exit status: 0 when it answered, whatever it said; 2 where --actual found the kernel different; 1 an error.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
