"""Starts the agent on a node of the lab as a container runtime starts the Pod of a manifest in daemonset/.

Its arguments, its environment from the ConfigMap, its credentials where a pod has them, its capabilities and no others
(it logs them), its volumes, and what every container has: /proc/sys read-only, here the root file system as well.
Replaces itself with the container's process, whose id is in /run/lab/as-pod.pid, or as-pod-CONTAINER.pid. Run on a
node: `python -m tests.labkit.as_pod MANIFEST [CONTAINER]`; without a name it is the agent's container. With `probe`
after the name it is that container's liveness probe instead, run in it: status 124 when its time is over.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

DAEMONSET = Path(__file__).parent.parent.parent / "daemonset"
SECRETS = "/var/run/secrets/kubernetes.io"


def main(manifest: str, name: str = "kuberouter-py", probe: str = "") -> None:
    documents = {each["kind"]: each for each in yaml.safe_load_all((DAEMONSET / manifest).read_text())}
    pod = documents["DaemonSet"]["spec"]["template"]["spec"]
    [container] = [each for each in pod["containers"] if each["name"] == name]
    security = container["securityContext"]
    kept = ",".join(f"+{name.lower()}" for name in security["capabilities"]["add"])
    agent = ["/bin/sh", "-c", 'grep CapEff /proc/self/status; exec "$@"', "sh", "kuberouter-py", *container["args"]]
    jailed = ["setpriv", "--no-new-privs", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all", *agent]
    script = [
        f"mkdir -p {SECRETS} && cp -r /run/lab/serviceaccount {SECRETS}/",
        *_volumes(pod, container),
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
        *(f"mount -o remount,bind,ro {path}" for path in ("/", "/run", "/tmp") if security["readOnlyRootFilesystem"]),
        f"exec {shlex.join(jailed)}",
    ]
    if probe:
        entered = ["nsenter", "--mount", "--target", _pid_file(name).read_text().strip()]
        within = ["timeout", str(container["livenessProbe"]["timeoutSeconds"])]
        os.execvp(entered[0], [*entered, *within, *container["livenessProbe"]["exec"]["command"]])
    _pid_file(name).write_text(f"{os.getpid()}\n")
    unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", "\n".join(script)]
    os.execvpe(unshared[0], unshared, _environment(documents["ConfigMap"]["data"]))


def _pid_file(name: str) -> Path:
    return Path("/run/lab", "as-pod.pid" if name == "kuberouter-py" else f"as-pod-{name}.pid")


def _volumes(pod: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    paths = {volume["name"]: volume["hostPath"] for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        source, target = shlex.quote(paths[mount["name"]]["path"]), shlex.quote(mount["mountPath"])
        if paths[mount["name"]].get("type") == "FileOrCreate":
            yield f"touch {source} && mkdir -p $(dirname {target}) && touch {target}"
        else:
            yield f"mkdir -p {source} {target}"
        yield f"mount --bind {source} {target}"
        if mount.get("readOnly"):
            yield f"mount -o remount,bind,ro {target}"


def _environment(config_map: dict[str, str]) -> dict[str, str]:
    """The ConfigMap's, with the lab's API server as the real address, and what makes our own tree run."""
    [cluster] = json.loads(Path("/run/lab/kubeconfig").read_text())["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    ours = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "NODE_NAME")}
    address = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port)}
    return {**ours, "PYTHONDONTWRITEBYTECODE": "1", **config_map, **address}


if __name__ == "__main__":
    main(*sys.argv[1:])
