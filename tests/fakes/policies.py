"""Pods, namespaces and policies in few words: specs of policies as an operator writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import yaml

from kuberouter_py.model.cluster import ContainerPort, Namespace, ObjectKey, Pod
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.watchers.decode import decode
from tests.fakes.objects import NODE_NAME, packed


def pod(
    name: str,
    *addresses: str,
    labels: Mapping[str, str] | None = None,
    node: str = NODE_NAME,
    ports: Sequence[tuple[str, int, int]] = (),
    phase: str = "Running",
    host_network: bool = False,
    deleting: bool = False,
    created: float = 1000.0,
) -> Pod:
    """name: "x/a". ports: (name, protocol, number)."""
    namespace, _, rest = name.partition("/")
    return Pod(
        key=ObjectKey(namespace, rest),
        uid=f"uid-{name}",
        ips=tuple(map(packed, addresses)),
        node=node,
        host_network=host_network,
        phase=phase,
        deleting=deleting,
        labels={"pod": rest} if labels is None else dict(labels),
        ports=tuple(ContainerPort(*port) for port in ports),
        created=created,
    )


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace(ObjectKey("", name), {"kubernetes.io/metadata.name": name, **labels})


def policy(name: str, spec: str | Mapping[str, Any]) -> NetworkPolicy:
    """name: "x/allow". spec: YAML, or what it stands for."""
    where, _, rest = name.partition("/")
    content = yaml.safe_load(spec) if isinstance(spec, str) else spec
    document = {"metadata": {"name": rest, "namespace": where, "uid": f"uid-{name}"}, "spec": content}
    return cast(NetworkPolicy, decode("NetworkPolicy", json.dumps(document).encode()))
