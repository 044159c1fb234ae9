"""`kuberouter-py takeover`: moves this node over from a kube-proxy or kube-router that has ended."""

from __future__ import annotations

from typing import Any

import click

from kuberouter_py.cli.errors import Failure, must_be_root
from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts

_OF_TAKEOVER = {"socket", "accept-differences", "kube-proxy-config", "takeover"}


def _takeover(**parameters: Any) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    texts = {**inherited, **given_texts(parameters)}
    config = configuration(texts)
    must_be_root("takeover")
    from kuberouter_py.cli.running import running_texts

    running = running_texts(config.socket)
    if running is not None:
        if others := texts.keys() - _OF_TAKEOVER:
            raise Failure(f"--{min(others)}: an agent runs on this node, its configuration is the one that counts")
        config = configuration({**running, **texts})
    if not config.run_service_proxy:
        raise Failure("--run-service-proxy: false; nothing could be taken over")
    from kuberouter_py.agent import take_over
    from kuberouter_py.observe.log import configure

    configure("console", config.v or -1)  # on stderr; what is told here is the answer and nothing else
    return take_over(config, agent_runs=running is not None, tell=click.echo)


takeover = GoFlags(
    "takeover",
    callback=_takeover,
    params=click_options(),
    help="""Move this node over from a kube-proxy or kube-router that has ended.

    Refuses while one of them is alive. Says what changes: which flags are carried over from its configuration, and
    every address and port that it served and that would not be served any more, with the flag that changes it; where
    there are such, it ends there unless --accept-differences is given. Then it puts ours in place (where no agent runs
    on this node: with the options given here), and only then removes the other's chains, sets, tables, virtual servers
    and link, and nothing else.

    Exit status: 0 taken over, or nothing to take over; 2 there are differences, nothing was written; 1 an error, also
    when the other proxy is alive.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
