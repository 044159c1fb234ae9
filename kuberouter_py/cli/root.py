"""The command itself: bare it is the agent, with --cleanup it cleans up; and where the other commands hang."""

from __future__ import annotations

from typing import Any

import click

import kuberouter_py
from kuberouter_py.cli.bgp import bgp
from kuberouter_py.cli.bird import bird
from kuberouter_py.cli.errors import must_be_root
from kuberouter_py.cli.explain import explain
from kuberouter_py.cli.options import GoFlagsGroup, click_options, configuration, given_texts
from kuberouter_py.cli.plan import plan
from kuberouter_py.cli.status import status
from kuberouter_py.cli.takeover import takeover
from kuberouter_py.config import Config


def _start(**parameters: Any) -> int:
    context = click.get_current_context()
    texts = given_texts(parameters)
    if context.invoked_subcommand is not None:
        context.obj = (
            texts  # `kuberouter-py --manifests DIR plan` says the same as `kuberouter-py plan --manifests DIR`
        )
        return 0
    config = configuration(texts)
    return _clean_up(config) if config.cleanup else _run(config)


def _run(config: Config) -> int:
    must_be_root("the agent")
    from kuberouter_py.agent import run_agent

    return run_agent(config)


def _clean_up(config: Config) -> int:
    must_be_root("--cleanup")
    from kuberouter_py.agent import cleanup

    return cleanup(config)


def _print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"kuberouter-py {kuberouter_py.__version__}")
        context.exit()


root = GoFlagsGroup(
    "kuberouter-py",
    callback=_start,
    invoke_without_command=True,
    params=[
        *click_options(),
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="show the version and exit",
        ),
    ],
    commands={"bgp": bgp, "bird": bird, "explain": explain, "plan": plan, "status": status, "takeover": takeover},
    help="""One agent per Kubernetes node: Services through IPVS, NetworkPolicy, and the pods' network.

    Without a command it runs until it is told to stop (SIGTERM, SIGINT) and then leaves the node forwarding; --cleanup
    takes everything of ours away.

    Booleans are written --flag or --flag=true|false. Every option is also an environment variable, KUBEROUTER_ and its
    name: KUBEROUTER_RUN_ROUTER=false.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
