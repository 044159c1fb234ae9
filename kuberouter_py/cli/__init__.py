"""The command kuberouter-py: words and flags to a Config, then one call. One module per command.

Importing this costs click and no more; each command imports what it needs when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from kuberouter_py.cli.errors import Failure, exit_with
from kuberouter_py.cli.root import root
from kuberouter_py.ports import EdgeError


def main(arguments: Sequence[str] | None = None) -> None:
    """Never returns. Exit status: the command's own; 1 for every error, which is one line on stderr."""
    # Where something else has brought rich, structlog loads it, for a look that our log has not: a tenth of a second
    # of every start, 0.4 s in the lab kernel.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    try:
        status = root.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.Exit as end:
        status = end.exit_code
    except click.ClickException as error:
        exit_with(error.format_message())
    except (Failure, EdgeError) as error:
        exit_with(str(error))
    except click.Abort:
        exit_with("interrupted")
    sys.exit(status if isinstance(status, int) else 0)
