"""The lab's command line: `exec -- COMMAND...` runs one command in the lab kernel."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.labkit import boot, own_network
from tests.labkit.ports import LabError


def main(arguments: list[str]) -> int:
    if arguments[:2] != ["exec", "--"] or not arguments[2:]:
        print("usage: lab exec -- COMMAND...", file=sys.stderr)
        return 2
    build = boot.REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    try:
        own_network.enter()
        with tempfile.TemporaryDirectory(prefix="kuberouter-lab-") as workdir:
            job = boot.Job(arguments[2:], workdir=Path(workdir), writable=[build], tap=True)
            return boot.choose().run(job)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
