"""A container runtime's side of CNI: the node's own configuration, the plugins it names, one after the other.

As libcni does it: the first file of /etc/cni/net.d by name; ADD hands each plugin what the one before it made, DEL goes
the other way round with what ADD made in the end; what the runtime alone knows (host ports) is told to plugins that say
they want it. Plugins run on the node, in its namespaces, and find the pod's network under a name below /run/netns.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from tests.labkit import namespaces
from tests.labkit.fabric import LINK
from tests.labkit.machine import Machine, environment
from tests.labkit.model import PodNetwork
from tests.labkit.namespaces import Namespaces
from tests.labkit.ports import LabError

CONFIGURATIONS: Final = Path("/etc/cni/net.d")
PLUGINS: Final = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
SUFFIXES: Final = (".conf", ".conflist", ".json")
_CONFIGURED_WITHIN: Final = 120.0  # agents start slowly in QEMU
_PLUGIN_WITHIN: Final = 60.0
_POLL: Final = 0.05
_NETNS: Final = Path("/run/netns")

Json = dict[str, Any]


@dataclass(frozen=True)
class Configuration:
    """A file of either form: `.conf` is a list of one."""

    name: str
    version: str
    plugins: tuple[Json, ...]

    def of_plugin(self, plugin: Json, host_ports: Sequence[Json], before: Json | None) -> Json:
        """What it is given to read."""
        wanted = plugin.get("capabilities") or {}
        runtime = {"portMappings": list(host_ports)} if wanted.get("portMappings") and host_ports else {}
        found = {key: value for key, value in plugin.items() if key != "capabilities"}
        found |= {"name": self.name, "cniVersion": self.version}
        found |= {"runtimeConfig": runtime} if runtime else {}
        return found | ({"prevResult": before} if before is not None else {})


@dataclass(frozen=True)
class Attached:
    """What DEL has to know of an ADD."""

    configuration: Configuration
    result: Json

    @property
    def addresses(self) -> tuple[str, ...]:
        return addresses(self.result)


class Runtime:
    """One node's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def add(self, pod: PodNetwork, name: str, network: Namespaces) -> Attached:
        """name: that the pod's network is to have on the node."""
        configuration = self._configuration()
        self._enter_name(name, network)
        result: Json | None = None
        for plugin in configuration.plugins:
            given = configuration.of_plugin(plugin, host_ports(pod), result)
            result = self._call(plugin, "ADD", pod, name, given)
        if result is None or not addresses(result):
            raise LabError(f"{self._machine.name}: CNI gave pod/{pod.namespace}/{pod.name} no address: {result}")
        return Attached(configuration, result)

    def delete(self, pod: PodNetwork, name: str, attached: Attached) -> None:
        for plugin in reversed(attached.configuration.plugins):
            given = attached.configuration.of_plugin(plugin, host_ports(pod), attached.result)
            self._call(plugin, "DEL", pod, name, given)
        self._leave_name(name)

    def _configuration(self) -> Configuration:
        """The node's first, waited for: a kubelet too makes no pod before a network is configured."""
        deadline = time.monotonic() + _CONFIGURED_WITHIN
        while True:
            found = namespaces.within(self._machine.inside(), _first)
            if found is not None:
                return read(*found)
            if time.monotonic() > deadline:
                raise LabError(f"no CNI configuration in {CONFIGURATIONS} on {self._machine.name}")
            time.sleep(_POLL)

    def _call(self, plugin: Json, command: str, pod: PodNetwork, name: str, given: Json) -> Json:
        arguments = {
            "IgnoreUnknown": "1", "K8S_POD_NAMESPACE": pod.namespace, "K8S_POD_NAME": pod.name, "K8S_POD_UID": pod.uid,
            "K8S_POD_INFRA_CONTAINER_ID": pod.uid,
        }  # fmt: skip
        env = {
            **environment(self._machine.hostname), "CNI_COMMAND": command, "CNI_CONTAINERID": pod.uid,
            "CNI_NETNS": str(_NETNS / name), "CNI_IFNAME": LINK, "CNI_PATH": ":".join(map(str, PLUGINS)),
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }  # fmt: skip
        kind = str(plugin.get("type"))
        paths = [os.fspath(directory / kind) for directory in PLUGINS]
        script = f'for each in {" ".join(paths)}; do test ! -x "$each" || exec "$each"; done; exit 127'
        status, said = self._machine.feed(["/bin/sh", "-c", script], env, json.dumps(given), timeout=_PLUGIN_WITHIN)
        if status == 127:
            raise LabError(f"{self._machine.name}: no CNI plugin {kind}")
        if status != 0:
            raise LabError(f"{self._machine.name}: CNI plugin {kind}, {command} of {pod.namespace}/{pod.name}: {said}")
        return dict(json.loads(said)) if said.strip() else {}

    def _enter_name(self, name: str, network: Namespaces) -> None:
        # By a process that is in all of them: a thread of ours that visits has no /proc/self there.
        target = shlex.quote(str(_NETNS / name))
        script = f"mkdir -p {_NETNS} && : > {target} && mount --bind /proc/self/ns/net {target}"
        status, said = self._machine.run(script, timeout=_PLUGIN_WITHIN, network=network)
        if status != 0:
            raise LabError(f"{self._machine.name}: {said}")

    def _leave_name(self, name: str) -> None:
        namespaces.within(self._machine.inside(), lambda: namespaces.drop_name(name))


def _first() -> tuple[str, str] | None:
    """The file's name and text."""
    files = sorted(path for path in CONFIGURATIONS.iterdir() if path.suffix in SUFFIXES)
    return (files[0].name, files[0].read_text()) if files else None


def read(file: str, text: str) -> Configuration:
    """LabError for what a runtime would refuse too."""
    try:
        found = json.loads(text)
        plugins = found["plugins"] if file.endswith(".conflist") else [found]
        return Configuration(str(found["name"]), str(found.get("cniVersion", "0.1.0")), tuple(plugins))
    except (ValueError, LookupError, TypeError) as error:
        raise LabError(f"{CONFIGURATIONS / file}: {type(error).__name__}: {error}") from error


def addresses(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Without prefix lengths; results before version 0.3 have one of each family under its own key."""
    listed = [each["address"] for each in result.get("ips") or []]
    listed += [result[key]["ip"] for key in ("ip4", "ip6") if key in result]
    return tuple(str(ip_interface(each).ip) for each in listed)


def host_ports(pod: PodNetwork) -> list[Json]:
    """As the capability portMappings names them."""
    return [
        {"hostPort": each.host_port, "containerPort": each.port, "protocol": each.protocol, "hostIP": each.host_ip}
        for each in pod.host_ports
    ]
