"""`kuberouter-py explain`: what becomes of a connection on this node, and why."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from kuberouter_py.cli.errors import Failure
from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts
from kuberouter_py.cli.output import output_option, show

_OF_MATRIX = {
    "namespaces": "",
    "port": "--port",
    "tried": "--with",
    "untried": "--without",
    "outside": "--outside",
}
DIFFERENT = 2  # exit status when the kernel is not as decided


def _explain(sender: str | None, target: str | None, actual: bool, matrix: bool, output: str, **parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    own = {name: parameters.pop(name) for name in _OF_MATRIX}
    config = configuration({**inherited, **given_texts(parameters)})
    if matrix:
        if sender or target or actual:
            raise Failure("--matrix stands without --from, --to and --actual")
        return _matrix(config.socket, output, own)
    for name, flag in _OF_MATRIX.items():
        if own[name]:
            raise Failure(f"{flag}: only with --matrix" if flag else f"{own[name][0]}: namespaces only follow --matrix")
    return _connection(config.socket, output, sender, target, actual)


def _connection(socket: str, output: str, sender: str | None, target: str | None, actual: bool) -> int:
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.explanation import explanation_text

    if not sender or not target:
        raise Failure(f"Missing option '{'--to' if sender else '--from'}' (or --matrix and namespaces)")
    question = {"from": sender, "to": target, "actual": "true" if actual else "false"}
    document = ask_agent(socket, "/explain", question)
    # what a Service has without a port is every address with every port of it
    brief = target.startswith("service/") and ":" not in target
    show(document, output, partial(explanation_text, brief=brief))
    told = [*document["paths"], *document.get("policies", {}).get("connections", ())]
    return DIFFERENT if actual and any(each["differences"] for each in told) else 0


def _matrix(socket: str, output: str, own: Mapping[str, Any]) -> int:
    from kuberouter_py.cli.running import ask_agent
    from kuberouter_py.observe.policy_matrix import matrix_text

    file = own["tried"]
    question = {
        "namespaces": ",".join(own["namespaces"]),
        "port": own["port"] or "80",
        "outside": own["outside"] or "",
        "with": file.read() if file else "",
        "file": file.name if file else "",
        "without": ",".join(own["untried"]),
    }
    show(ask_agent(socket, "/matrix", question, form=True), output, matrix_text)
    return 0


explain = GoFlags(
    "explain",
    callback=_explain,
    params=[
        click.Option(["sender", "--from"], metavar="pod/NS/NAME|node|ADDRESS", help="who opens the connection"),
        click.Option(
            ["target", "--to"],
            metavar="ADDRESS:PORT|service/NS/NAME:PORT|pod/NS/NAME:PORT",
            help="where to; a port by number or name, of a Service none: all; behind it /udp or /sctp if it is not TCP",
        ),
        click.Option(["--actual"], is_flag=True, help="look at the kernel too, and say where it is not as decided"),
        click.Option(
            ["--matrix"], is_flag=True, help="who reaches whom by NetworkPolicy, in the namespaces that follow"
        ),
        click.Argument(["namespaces"], nargs=-1, metavar="[NS...]"),
        click.Option(["--port"], metavar="PORT[/udp|/sctp]", help="of the table  [default: 80]"),
        click.Option(
            ["tried", "--with"],
            type=click.File("r", encoding="utf-8"),
            metavar="FILE",
            help="the table as it would be with these policies, which nobody has applied; -: from standard input",
        ),
        click.Option(
            ["untried", "--without"],
            multiple=True,
            metavar="NS/NAME",
            help="the table as it would be without this policy",
        ),
        click.Option(["--outside"], metavar="ADDRESS", help="who stands for the world in the table"),
        output_option(),
        *click_options(["socket"]),
    ],
    help="""Ask the running agent what becomes of a new connection on this node, and why.

    The first line is the verdict. Of a Service: open, refused, silent, denied, taken, or not ours; below it stand the
    virtual server, its destinations with what they see as source, why each other endpoint of the Service is not among
    them, and the rules that were met. Of a Pod: allowed or denied by NetworkPolicy, with the policies and rules; also
    for each destination that a Service leads to. Writes nothing and sends nothing.

    With --matrix: a table of who reaches whom by NetworkPolicy at one port, '.' allowed and 'X' denied, over all Pods
    of some namespaces; with policies that are to be tried, the cells that would change are marked.

    \b
    kuberouter-py explain --from pod/default/client --to service/default/web:http
    kuberouter-py explain --from pod/default/client --to pod/default/web-1:8080/udp --actual
    kuberouter-py explain --from 203.0.113.10 --to 192.0.2.11:30080 --actual
    kuberouter-py explain --matrix shop db --port 5432 --with policy.yaml
    kuberouter-py explain --from node --to '[fd00:10:96::a]:53/udp'

    Exit status: 0 when it answered, whatever it said; 2 where --actual found the kernel different; 1 an error.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
