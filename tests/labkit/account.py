"""Who the agents are to the API server: the ServiceAccount of our own manifests, with the rights these give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.labkit.api_objects import ApiObjects
from tests.labkit.kinds import KINDS

DAEMONSET: Final = Path(__file__).parent.parent.parent / "daemonset"
RBAC_KINDS: Final = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
PROXY_ONLY: Final = ("--run-router=false", "--run-firewall=false")


def agent_token(objects: ApiObjects, flags: Sequence[str]) -> str:
    """Makes account and rights for agents with these flags, and a token that outlives any scenario."""
    documents = rights(flags)
    for document in sorted(documents, key=lambda document: RBAC_KINDS.index(document["kind"])):
        objects.apply(document)
    account = next(document["metadata"] for document in documents if document["kind"] == "ServiceAccount")
    path = KINDS["ServiceAccount"].path(account.get("namespace", "default"), account["name"])
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
    return str(objects.client.request("POST", f"{path}/token", wanted)["status"]["token"])


def rights(flags: Sequence[str], folder: Path = DAEMONSET) -> list[dict[str, Any]]:
    """Those of the manifest for such agents: the first file that names a ServiceAccount, `proxy` in its name or not."""
    proxy_only = all(flag in flags for flag in PROXY_ONLY)
    for file in sorted(folder.glob("*.yaml"), key=lambda file: ("proxy" in file.name) != proxy_only):
        documents = [each for each in yaml.safe_load_all(file.read_text()) if isinstance(each, dict)]
        found = [each for each in documents if each.get("kind") in RBAC_KINDS]
        if any(each["kind"] == "ServiceAccount" for each in found):
            return found
    return administrator()


def administrator() -> list[dict[str, Any]]:
    name, namespace = "kuberouter-py", "kube-system"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]
