"""The manifests in daemonset/ against a real API server: taken as they are, with rights that are enough and no more."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import kuberouter_py
from kuberouter_py.bgp.control import PATIENCE
from kuberouter_py.config import Config, texts_of_environment
from kuberouter_py.watchers import kinds
from kuberouter_py.watchers.kinds import Kind
from tests.api.conftest import RealControlPlane
from tests.labkit.account import RBAC_KINDS
from tests.labkit.controlplane import programs_directory

DAEMONSET = Path(__file__).parent.parent.parent / "daemonset"
SERVICE_PROXY, ALL_FEATURES = "kuberouter-py-service-proxy.yaml", "kuberouter-py-all-features.yaml"
ACCOUNT = "system:serviceaccount:kube-system:kuberouter-py"
OF_SERVICES = (kinds.SERVICES, kinds.ENDPOINT_SLICES, kinds.NODES, kinds.SERVICE_CIDRS, kinds.POD_METADATA)
OF_ALL = (*OF_SERVICES, kinds.PODS, kinds.NAMESPACES, kinds.NETWORK_POLICIES)

both = pytest.mark.parametrize("name", [SERVICE_PROXY, ALL_FEATURES])


def documents(name: str) -> dict[str, dict[str, Any]]:
    """By kind; each kind once."""
    return {each["kind"]: each for each in yaml.safe_load_all((DAEMONSET / name).read_text())}


def container(name: str, which: str = "kuberouter-py") -> dict[str, Any]:
    containers = documents(name)["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    [found] = [each for each in containers if each["name"] == which]
    assert isinstance(found, dict)
    return found


@both
def test_the_api_server_takes_it(control_plane: RealControlPlane, name: str) -> None:
    command: list[str | Path] = [
        programs_directory() / "kubectl", "--kubeconfig", control_plane.kubeconfig, "apply", "--server-side",
        "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", DAEMONSET / name,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(documents(name))


@both
def test_its_pod_is_taken_and_critical(control_plane: RealControlPlane, name: str) -> None:
    """The DaemonSet's template as the Pod that its controller would make: here admission has its say."""
    template = documents(name)["DaemonSet"]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "agent", **template["metadata"]}}
    path = "/api/v1/namespaces/kube-system/pods?dryRun=All&fieldValidation=Strict"
    made = control_plane.client.request("POST", path, pod)
    assert made["spec"]["priority"] == 2000001000
    assert made["spec"]["hostNetwork"] is True
    assert made["spec"]["dnsPolicy"] == "Default"


@pytest.mark.parametrize(("name", "read"), [(SERVICE_PROXY, OF_SERVICES), (ALL_FEATURES, OF_ALL)])
def test_its_rights_are_enough_and_no_more(control_plane: RealControlPlane, name: str, read: tuple[Kind, ...]) -> None:
    for document in documents(name).values():
        if document["kind"] in RBAC_KINDS:
            control_plane.objects.apply(document)
    wanted = {
        (verb, *resource(kind)): resource(kind) in map(resource, read)
        for kind in OF_ALL
        for verb in ("get", "list", "watch")
    } | {
        ("create", "", "events"): True,
        ("patch", "", "events"): True,
        ("list", "", "secrets"): False,
        ("update", "", "services"): False,
        ("patch", "", "nodes"): False,
    }
    at_last(lambda: {what: may(control_plane, *what) for what in wanted}, wanted)


def at_last(look: Callable[[], object], expected: object) -> None:
    """The API server judges by what it has read of roles, which is a moment behind what was written."""
    ends = time.monotonic() + 60
    while (seen := look()) != expected and time.monotonic() < ends:
        time.sleep(0.1)
    assert seen == expected


def resource(kind: Kind) -> tuple[str, str]:
    """Group and plural of the newest version: of /apis/GROUP/VERSION/PLURAL, or /api/VERSION/PLURAL."""
    parts = kind.paths[0].strip("/").split("/")
    return parts[1] if parts[0] == "apis" else "", parts[-1]


def may(control_plane: RealControlPlane, verb: str, group: str, plural: str) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": {"verb": verb, "group": group, "resource": plural}},
    }
    answer = control_plane.client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


@both
def test_its_arguments_are_a_configuration(name: str) -> None:
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in container(name)["args"])
    environment = {**documents(name)["ConfigMap"]["data"], "NODE_NAME": "n1"}
    config = Config.from_texts(
        {**texts_of_environment(environment), **{key: [value] for key, value in arguments.items()}}
    )
    alone = name == SERVICE_PROXY
    assert (config.run_service_proxy, config.run_router, config.run_firewall) == (True, not alone, not alone)
    assert config.hostname_override == "n1"
    mounted = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert mounted == {
        "/run/xtables.lock", "/lib/modules", str(Path(config.socket).parent), config.proc_sys,
        *(() if alone else (str(Path(config.cni_conf_file).parent),)),
    }  # fmt: skip
    assert config.bird_socket == ("" if alone else "/run/kuberouter-py/bird.ctl")
    assert config.bgp_graceful_restart is not alone  # BIRD ends with its pod
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container(name)[probe]["httpGet"] == {"path": path, "port": config.health_port}


def test_bird_runs_beside_the_agent_where_the_agent_looks_for_it() -> None:
    bird = container(ALL_FEATURES, "bird")
    assert bird["args"] == ["bird", next(arg for arg in container(ALL_FEATURES)["args"] if "bird-socket" in arg)]
    assert bird["image"] == container(ALL_FEATURES)["image"]
    assert [mount["mountPath"] for mount in bird["volumeMounts"]] == ["/run/kuberouter-py"]
    assert "birdc -s /run/kuberouter-py/bird.ctl show status" in bird["livenessProbe"]["exec"]["command"][-1]


def test_bird_is_not_ended_for_being_busy() -> None:
    """Only when its peers have given it up, too."""
    probe, config = container(ALL_FEATURES, "bird")["livenessProbe"], Config()
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) >= config.bgp_holdtime
    assert probe["timeoutSeconds"] >= PATIENCE


def test_both_differ_only_where_they_must() -> None:
    one, other = documents(SERVICE_PROXY), documents(ALL_FEATURES)
    for each in (one, other):
        del each["ClusterRole"]["rules"]
        del each["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["args"]
    pod = other["DaemonSet"]["spec"]["template"]["spec"]  # it enters pods' namespaces (direct server return)
    del pod["containers"][1]  # BIRD
    pod["containers"][0]["volumeMounts"].remove({"name": "cni", "mountPath": "/etc/cni/net.d"})
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "cni"]
    security = pod["containers"][0]["securityContext"]
    assert pod["hostPID"] is True  # of both: another living proxy is found by it, too
    assert security.pop("appArmorProfile") == {"type": "Unconfined"}
    for capability in ("SYS_PTRACE", "SYS_ADMIN"):
        security["capabilities"]["add"].remove(capability)
    assert one == other
    assert container(SERVICE_PROXY)["image"] == f"kuberouter-py:{kuberouter_py.__version__}"
