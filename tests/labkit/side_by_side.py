"""Plays scenario files in several lab kernels at a time, each kernel with every n-th file and a CPU of its own.

Each is a `lab run --json` of its own; what it prints goes out a whole file at a time, so that the outputs of two never
mix. A lab kernel uses one CPU, and files share nothing: n kernels take about the n-th part of the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tests.labkit.boot import REPOSITORY
from tests.labkit.model import Manner

Say = Callable[[str], None]


def boot_and_play(files: Sequence[Path], labs: int, manner: Manner, out: TextIO) -> tuple[list[dict[str, Any]], str]:
    """The results of the files that were played to an end, in the order of `files`, and why the rest was not."""
    shares = [files[first::labs] for first in range(min(labs, len(files)))]
    say = partial(_say, threading.Lock(), out)
    with ThreadPoolExecutor(len(shares)) as threads:
        ended = list(threads.map(partial(_play, say, manner), shares, _cpus(len(shares))))
    order = {str(file): position for position, file in enumerate(files)}
    results = sorted((result for played, _ in ended for result in played), key=lambda result: order[result["file"]])
    return results, "; ".join(broken for _, broken in ended if broken)


def _cpus(number: int) -> list[str]:
    """One for each kernel; LAB_CPU names one for all."""
    ours = os.environ.get("LAB_CPU", "").split() or [str(cpu) for cpu in sorted(os.sched_getaffinity(0))]
    return [ours[index % len(ours)] for index in range(number)]


def _play(say: Say, manner: Manner, files: Sequence[Path], cpu: str) -> tuple[list[dict[str, Any]], str]:
    """One lab kernel's results, and what broke it ("" for nothing). It ends with the thread that waits for it here."""
    command = [sys.executable, "-m", "tests.labkit", "run", "--json", *manner.flags(), *map(str, files)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LAB_CPU": cpu}
    with tempfile.TemporaryFile("w+") as document:  # not a pipe: nobody reads it before the end
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            env=environment, stdin=subprocess.DEVNULL, stdout=document, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            whole(process.stderr, say)
        document.seek(0)
        try:
            told = json.load(document)
        except ValueError:
            return [], f"the lab of {' '.join(map(str, files))} ended with status {process.returncode} and no results"
    return told["files"], told["error"]


def whole(lines: Iterable[str], say: Say) -> None:
    """Says lines in blocks: each ends with an empty line, as a file of a report does, or with the last line."""
    block: list[str] = []
    for line in lines:
        block.append(line)
        if line == "\n":
            say("".join(block))
            block.clear()
    if block:
        say("".join(block))


def _say(printing: threading.Lock, out: TextIO, block: str) -> None:
    with printing:
        out.write(block)
        out.flush()
