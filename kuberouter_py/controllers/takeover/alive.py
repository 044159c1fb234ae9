"""Is another Service proxy alive on this node? From its process, from a port that it answers, and for those that run
inside another program from what that program keeps in the kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from kuberouter_py.model.others import PROXY, ROUTER_POLICIES, ROUTER_SERVICES, Listener, Owner, Process, Sign

# Programs that may have both inside: k3s and RKE2 (the policy controller is kube-router's), MicroK8s (kube-proxy).
HOSTS = ("k3s", "rke2", "kubelite")
_COMMAND_SHOWN = 80  # characters


def signs(processes: Sequence[Process], listeners: Iterable[Listener], remains: Collection[Owner]) -> tuple[Sign, ...]:
    """remains: of whom there is anything in the kernel. A port alone proves nothing: others use these numbers too."""
    found: dict[Owner, Sign] = {}  # the first of each: what it has started has its name for a moment, too
    for process in processes:
        for sign in _of_process(process, remains):
            found.setdefault(sign.owner, sign)
    if PROXY in remains and PROXY not in found:
        hosts = [process for process in processes if _is_host(process) and _may(process, "--disable-kube-proxy")]
        inside = f", probably inside {_told(hosts[0])}" if hosts else ""
        for one in listeners:
            found.setdefault(PROXY, Sign(PROXY, f"port {one.port} answers {one.path} with {one.answer!r}{inside}"))
    return tuple(found.values())


def router(processes: Iterable[Process]) -> str:
    """How a kube-router that routes was found; "" where none was."""
    routing = (each for each in processes if _runs(each, "kube-router") and _may(each, "--run-router=false"))
    return next((f"process {_told(each)}" for each in routing), "")


def _of_process(process: Process, remains: Collection[Owner]) -> Iterator[Sign]:
    how = f"process {_told(process)}"
    if _runs(process, "kube-proxy"):
        yield Sign(PROXY, how)
    elif _runs(process, "kube-router"):
        if _may(process, "--run-service-proxy=false"):
            yield Sign(ROUTER_SERVICES, how)
        if _may(process, "--run-firewall=false"):
            yield Sign(ROUTER_POLICIES, how)
    elif _is_host(process) and ROUTER_POLICIES in remains and _may(process, "--disable-network-policy"):
        yield Sign(ROUTER_POLICIES, f"{how} has it inside, and its chains KUBE-ROUTER-* are there")


def _runs(process: Process, program: str) -> bool:
    """As a program of its own, or as the word after hyperkube's name."""
    words = process.arguments[:2]
    return process.name == program or any(word.rsplit("/", 1)[-1] == program for word in words[:1]) or (
        len(words) == 2 and words[0].endswith("hyperkube") and words[1] in (program, program.removeprefix("kube-"))
    )  # fmt: skip


def _is_host(process: Process) -> bool:
    words = process.arguments[:1]
    return process.name.startswith(HOSTS) or any(word.rsplit("/", 1)[-1] in HOSTS for word in words)


def _may(process: Process, switch: str) -> bool:
    """Whether its arguments leave something on that this switch turns off."""
    name, _, value = switch.partition("=")
    said = [word for word in process.arguments if word == name or word.startswith(f"{name}=")]
    return not said or said[-1].partition("=")[2] not in ({value} if value else {"", "true"})


def _told(process: Process) -> str:
    command = " ".join(process.arguments) or process.name
    return f"{process.pid} ({command if len(command) <= _COMMAND_SHOWN else command[: _COMMAND_SHOWN - 1] + '…'})"
