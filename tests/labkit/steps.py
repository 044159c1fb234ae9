"""What each kind of step does, over World and Cluster: one function for each, that returns what it saw in a few words.

A step that does not hold raises StepFailed with what was seen and what was expected. Traffic (probe, hold, stream,
matrix) is in steps_traffic.py; this module has the rest, the dispatch, and what happens around every step: an agent
that ended by itself fails the step during which it did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.labkit import readiness, steps_traffic
from tests.labkit.model import Step
from tests.labkit.play import Args, Play, StepFailed, dead_agents, until
from tests.labkit.ports import LabError

RUN_TIMEOUT = 120.0  # of a command whose step gives no time: the lab kernel starts programs slowly
STATUS_TIMEOUT = 30.0
SETTLE_TIMEOUT = 60.0
SHOWN = 2000  # characters of a command's output in a failure


def perform(play: Play, step: Step) -> str:
    """Plays one step; StepFailed or LabError when it does not hold, also because an agent ended by itself."""
    try:
        said = KINDS[step.kind](play, step.args)
    except (StepFailed, LabError) as error:
        dead = dead_agents(play)
        if dead:
            raise StepFailed(f"{error}; {dead}") from error
        raise
    if dead := dead_agents(play):
        raise StepFailed(dead)
    return said


# objects


def _apply(play: Play, args: Sequence[dict[str, Any]]) -> str:
    play.cluster.apply(args)
    play.cluster.settle(SETTLE_TIMEOUT)
    return ""


def _patch(play: Play, args: Args) -> str:
    for reference, merge in args.items():
        play.cluster.patch(reference, merge)
    play.cluster.settle(SETTLE_TIMEOUT)
    return ""


def _delete(play: Play, args: Sequence[str]) -> str:
    play.cluster.delete(args)
    play.cluster.settle(SETTLE_TIMEOUT)
    return ""


# the machinery


def _agent(play: Play, args: Args) -> str:
    for node in args["nodes"]:
        play.running.discard(node)
        play.world.agent(node, args["do"], flags=args["flags"], env=args["env"], refused=args["refused"])
        if args["flags"] is not None:
            play.flags[node] = args["flags"]
        if play.world.agent_alive(node):
            play.running.add(node)
    if args["do"] in ("start", "restart", "upgrade") and not args["refused"]:
        readiness.wait_for_agents(play, args["nodes"], readiness.STEP_WITHIN)
    return ""


def _api(play: Play, args: Args) -> str:
    play.cluster.api(args)
    if args.get("do") in ("stop", "start"):
        play.api_stopped = args["do"] == "stop"
    return ""


def _link(play: Play, args: Args) -> str:
    play.world.link(args["node"], {key: value for key, value in args.items() if key != "node"})
    return ""


def _run(play: Play, args: Args) -> str:
    said: list[str] = []

    def look() -> str | None:
        status, output = execute(play, args["at"], args["command"], args["within"] or RUN_TIMEOUT)
        said[:] = [first_line(output)]
        wrong = [f"lacks {text!r}" for text in args["contains"] if text not in output]
        wrong += [f"contains {text!r}" for text in args["lacks"] if text in output]
        if args["status"] is not None and status != args["status"]:
            wrong.append(f"exit status {status}, expected {args['status']}")
        return f"{'; '.join(wrong)}. The output:\n{shortened(output)}" if wrong else None

    until(play, look, args["within"] if args["judged"] else 0.0)
    return "" if args["judged"] else said[0]


def execute(play: Play, place: str, command: str, timeout: float) -> tuple[int, str]:
    """world.run; a command that outlives its time has exit status 124, as timeout(1) says."""
    try:
        return play.world.run(place, command, timeout=timeout)
    except TimeoutError as error:
        return 124, str(error)


def _foreign(play: Play, args: Args) -> str:
    status, output = execute(play, args["at"], args["command"], RUN_TIMEOUT)
    if status != 0:
        raise StepFailed(f"exit status {status}. The output:\n{shortened(output)}")
    _, before = execute(play, args["at"], args["check"], RUN_TIMEOUT)
    play.foreign.append((args["at"], args["check"], before))
    return first_line(before)


def finish(play: Play) -> str:
    """After the last step: every agent's cleanup, then nothing foreign may have changed. Only where a step asked."""
    if not play.foreign:
        return ""
    for node in play.agent_nodes:
        play.running.discard(node)
        play.world.agent(node, "cleanup")
    wrong = []
    for place, check, before in play.foreign:
        _, after = execute(play, place, check, RUN_TIMEOUT)
        if after != before:
            wrong.append(f"{place}: {check}\nbefore:\n{shortened(before)}\nafter:\n{shortened(after)}")
    if wrong:
        raise StepFailed("foreign state changed\n" + "\n".join(wrong))
    return f"{len(play.foreign)} foreign checks unchanged after cleanup"


def _expect_status(play: Play, args: Args) -> str:
    seen: dict[str, Any] = {}

    def look() -> str | None:
        status, output = execute(play, f"node/{args['node']}", "kuberouter-py status -o json", STATUS_TIMEOUT)
        try:
            document = json.loads(output) if status == 0 else None
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return f"kuberouter-py status -o json: exit status {status}: {shortened(output)}"
        controller = document.get("controllers", {}).get(args["controller"])
        if not isinstance(controller, dict):
            return f"status knows no controller {args['controller']!r}: {shortened(output)}"
        seen.update(controller)
        wrong = [
            f"{key} is {json.dumps(controller.get(key, 'missing'))}, expected {json.dumps(value)}"
            for key, value in args["wanted"].items()
            if key not in controller or controller[key] != value
        ]
        return f"{'; '.join(wrong)}. The controller:\n{shortened(json.dumps(controller, indent=1))}" if wrong else None

    until(play, look, args["within"])
    return ""


def first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= 80 else line[:77] + "..."


def shortened(text: str) -> str:
    text = text.rstrip("\n")
    return text if len(text) <= SHOWN else text[:SHOWN] + f"\n... ({len(text) - SHOWN} characters more)"


KINDS: dict[str, Callable[[Play, Any], str]] = {
    "apply": _apply,
    "patch": _patch,
    "delete": _delete,
    "probe": steps_traffic.probe,
    "hold": steps_traffic.hold,
    "held": steps_traffic.held,
    "stream": steps_traffic.stream,
    "streamed": steps_traffic.streamed,
    "matrix": steps_traffic.matrix,
    "agent": _agent,
    "api": _api,
    "link": _link,
    "run": _run,
    "foreign": _foreign,
    "expectStatus": _expect_status,
}
