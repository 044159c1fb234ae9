"""`kuberouter-py bird`: BIRD in a process of its own, so that it outlives the agent that tells it what to do."""

from __future__ import annotations

import signal

import click

from kuberouter_py.cli.errors import Failure, must_be_root
from kuberouter_py.cli.options import GoFlags, Texts, click_options, configuration, given_texts


def _bird(**parameters: object) -> int:
    inherited: Texts = click.get_current_context().obj or {}
    config = configuration({**inherited, **given_texts(parameters)})
    if not config.bird_socket:
        raise Failure("--bird-socket says where BIRD listens, and that the agent finds it there: it has to be given")
    must_be_root("BIRD")
    from kuberouter_py.bgp.files import files
    from kuberouter_py.bgp.keeping import Keeping
    from kuberouter_py.kernel.command import Child

    keeping = Keeping(files(config.bird_socket), Child, lambda line: click.echo(line, err=True))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: keeping.stop())
    keeping.run()
    return 0


bird = GoFlags(
    "bird",
    callback=_bird,
    params=click_options(["bird-socket"]),
    help="""Run BIRD beside the agent, as --bird-socket of both says, with the configuration that the agent writes.

    It waits for the configuration, starts BIRD again when it dies, and ends with it on SIGTERM: by a graceful restart
    where that is configured, so that peers keep the routes for a while, else by withdrawing them.""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
