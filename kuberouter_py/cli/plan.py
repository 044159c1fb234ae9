"""`kuberouter-py plan`: what a sync would change on this node now, as commands of the tools; changes nothing."""

from __future__ import annotations

from typing import Any

import click

from kuberouter_py.cli.errors import Failure, must_be_root
from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts

DIFFERENT = 2  # exit status when there is something to change


def _plan(**parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    texts = {**inherited, **given_texts(parameters)}
    config = configuration(texts)
    must_be_root("plan")
    if not texts.keys() - {"socket"}:
        from kuberouter_py.cli.running import running_config

        config = running_config(config.socket)
    from kuberouter_py.agent import plan
    from kuberouter_py.observe.log import configure

    configure("console", config.v)  # on stderr; what is printed here is the plan and nothing else
    planned = plan(config)
    for line in planned.lines:
        click.echo(line)
    if planned.unread:
        raise Failure("the plan is not whole, not read: " + "; ".join(planned.unread))
    return DIFFERENT if planned.differs else 0


plan = GoFlags(
    "plan",
    callback=_plan,
    params=click_options(),
    help="""Print what a sync would change on this node, in the notation of ipvsadm, ipset, ip and iptables.

    Reads the cluster and the kernel, writes nothing. Without options the running agent is asked for its configuration;
    with --cleanup it prints what a cleanup would remove.

    Exit status: 0 nothing to change; 2 something; 1 an error, also where a part of the kernel could not be read.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
