"""The lab's command line, host side: `run FILE...`, `check FILE...`, `exec -- COMMAND...`.

Exit status of run and check: 0 everything held, 1 a step did not, 2 a file that is not understood (or wrong usage), 125
the lab itself failed. `exec` gives its command's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.labkit import boot, controlplane, own_network, scenario, side_by_side, wires
from tests.labkit.machine import PROGRAMS
from tests.labkit.model import WITHIN, Manner, Scenario
from tests.labkit.ports import LabError
from tests.labkit.yaml12 import FormatError

HELD, FAILED, NOT_UNDERSTOOD, LAB_FAILED = 0, 1, 2, 125
BOOT_TIMEOUT = 300.0
FILE_TIMEOUT = 900.0


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.action == "exec":
            return execute(options.command[options.command[:1] == ["--"] :], options.timeout)
        if options.action == "check":
            return check(options.files, machine=options.json)
        return play(
            options.files,
            machine=options.json,
            keep=options.keep,
            labs=options.labs,
            manner=Manner(options.late, options.within),
        )
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return LAB_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Plays scenario files in a kernel that has ip_vs.")
    actions = parser.add_subparsers(dest="action", required=True)
    run = actions.add_parser("run", help="play scenario files (docs/lab.md says how they are written)")
    check = actions.add_parser("check", help="say whether scenario files are understood, play nothing")
    for action in (run, check):
        action.add_argument("files", nargs="+", type=Path, metavar="FILE")
        action.add_argument("--json", action="store_true", help="print one JSON document")
    run.add_argument("--keep", action="store_true", help="a shell in the lab after a file's last step or its failure")
    run.add_argument("--labs", type=_at_least_one, default=1, metavar="N", help="in so many lab kernels at a time")
    run.add_argument(
        "--late", type=_seconds, default=0.0, metavar="SECONDS", help="half of the agents hear of a change so late"
    )
    run.add_argument(
        "--within",
        type=_seconds,
        default=WITHIN,
        metavar="SECONDS",
        help="of steps that do not say (%(default)g)",
    )
    execute = actions.add_parser("exec", help="run one command in the lab kernel: exec -- COMMAND...")
    execute.add_argument("--timeout", type=float, default=boot.Job.timeout, help="in seconds (default %(default)g)")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lab kernels, which is 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 60")
    return seconds


def execute(command: Sequence[str], timeout: float) -> int:
    if not command:
        print("usage: lab exec -- COMMAND...", file=sys.stderr)
        return NOT_UNDERSTOOD
    build = boot.REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    own_network.enter()
    with tempfile.TemporaryDirectory(prefix="kuberouter-lab-") as workdir:
        job = boot.Job(command, workdir=Path(workdir), writable=[build], tap=True, timeout=timeout)
        return boot.choose().run(job)


def check(files: Sequence[Path], *, machine: bool) -> int:
    found, errors = read(files)
    if errors:
        return _not_understood(errors, machine)
    print(json.dumps({"errors": []}) if machine else f"{len(found)} understood")
    return HELD


def play(files: Sequence[Path], *, machine: bool, keep: bool, labs: int, manner: Manner) -> int:
    """Reads every file before anything boots, then plays them all in one lab kernel, or in several at a time."""
    found, errors = read(files)
    if errors:
        return _not_understood(errors, machine)
    if keep and not sys.stdin.isatty():
        print("lab: --keep wants a terminal, and standard input is none: going on without a shell", file=sys.stderr)
        keep = False
    if labs > 1 and len(found) > 1 and not keep:
        results, broken = side_by_side.boot_and_play(files, labs, manner, sys.stderr if machine else sys.stdout)
    else:
        results, broken = boot_and_play(
            [entry for entry, _ in found], [text for _, text in found], machine, keep, manner
        )
    return close(results, len(found), broken, machine=machine)


def _not_understood(errors: Sequence[FormatError], machine: bool) -> int:
    for error in errors:
        print(error, file=sys.stderr)
    if machine:
        print(json.dumps({"errors": [_as_json(error) for error in errors]}, indent=1))
    return NOT_UNDERSTOOD


def read(files: Sequence[Path]) -> tuple[list[tuple[Scenario, str]], list[FormatError]]:
    found: list[tuple[Scenario, str]] = []
    errors: list[FormatError] = []
    for file in files:
        try:
            text = scenario.read(file)
            found.append((scenario.parse(text, file), text))
        except scenario.ScenarioErrors as error:
            errors += error.errors
    return found, errors


def boot_and_play(
    found: Sequence[Scenario], texts: Sequence[str], machine: bool, keep: bool, manner: Manner
) -> tuple[list[dict[str, Any]], str]:
    """The results of the files that were played to an end, and why the rest was not."""
    own_network.enter()
    with contextlib.ExitStack() as stack:
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kuberouter-lab-")))
        results = workdir / "results.json"
        paper = {
            "files": [
                {"file": str(entry.file), "text": text} for entry, text in zip(found, texts, strict=True)
            ],
            "results": str(results),
            "json": machine,
            "keep": keep,
            **manner._asdict(),
        }  # fmt: skip
        (workdir / "job.json").write_text(json.dumps(paper))
        env = {"PYTHONPATH": str(boot.REPOSITORY)}
        if programs := sorted({name for entry in found for name in entry.programs}):
            env[PROGRAMS] = str(controlplane.programs_directory(*programs))
        if any(entry.agents.source == "apiserver" for entry in found):
            ports = {"door": wires.API_PORT, "direct": wires.DIRECT_PORT, "control": wires.CONTROL_PORT}
            stack.enter_context(controlplane.running(wires.HOST_ADDRESS, **ports))
        command = [sys.executable, "-m", "tests.labkit.runner", str(workdir / "job.json")]
        job = boot.Job(
            command, workdir=workdir, cwd=boot.REPOSITORY, env=env, tap=True, interactive=keep,
            timeout=BOOT_TIMEOUT + FILE_TIMEOUT * len(found),
        )  # fmt: skip
        broken = ""
        try:
            boot.choose().run(job)
        except LabError as error:
            broken = str(error)
        return (json.loads(results.read_text()) if results.exists() else []), broken


def close(results: Sequence[dict[str, Any]], number: int, broken: str, *, machine: bool) -> int:
    """The closing line: a file that was not played to its end has failed."""
    passed = sum(result["outcome"] == "passed" for result in results)
    if broken:
        print(f"lab: {broken}", file=sys.stderr)
    if machine:
        document = {"passed": passed, "failed": number - passed, "files": list(results), "error": broken}
        print(json.dumps(document, indent=1))
    else:
        print(f"{passed} passed, {number - passed} failed")
    return HELD if passed == number else FAILED if len(results) == number else LAB_FAILED


def _as_json(error: FormatError) -> dict[str, Any]:
    return {"file": str(error.file), "line": error.line, "key": error.key, "what": error.what}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
