"""Whether agents are ready, asked as a kubelet would: GET /readyz on the node.

Agents of a world start together on one slow CPU, and a step's `within` is meant for what the step did. So the world
waits for its agents, and so does a step that starts one; an agent that cannot become ready (no API server, a flag that
moves the port) costs a bounded time and is no failure here.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_interface

from tests.labkit.play import Play, StepFailed, until
from tests.labkit.ports import LabError

PORT = 20244
WORLD_WITHIN = 60.0
STEP_WITHIN = 30.0
_TIMEOUT = 2.0


def health_port(flags: Sequence[str]) -> int:
    """--health-port as the last flag of that name gives it; 0 where there is none to ask."""
    found = str(PORT)
    for flag, following in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = flag.partition("=")
        if name == "--health-port":
            found = value if equals else following
        if name == "--health-addr":
            return 0
    return int(found) if found.isdigit() else 0


def wait_for_agents(play: Play, nodes: Sequence[str], within: float) -> bool:
    """True once all of them are ready; False when the time is over. StepFailed when one ended by itself."""
    waiting = [node for node in nodes if health_port(play.flags_of(node))]
    if play.api_stopped:
        return False

    def look() -> str | None:
        waiting[:] = [node for node in waiting if not _ready(play, node)]
        return f"not ready: {' '.join(waiting)}" if waiting else None

    try:
        until(play, look, within)
    except StepFailed:
        if any(not play.world.agent_alive(node) for node in nodes):
            raise
        return False
    return True


def _ready(play: Play, node: str) -> bool:
    address = ip_interface(play.scenario.nodes[node].addresses[0]).ip
    host = f"[{address}]" if address.version == 6 else str(address)
    url = f"http://{host}:{health_port(play.flags_of(node))}/readyz"
    try:
        attempt = play.world.attempt(f"node/{node}", url, timeout=_TIMEOUT)
    except LabError:
        return False
    return attempt.outcome == "open" and attempt.status == 200
