"""What of the cluster is watched, and how the object of an Event is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.agent.source import Source, kinds_of
from kuberouter_py.config import Config
from kuberouter_py.model.cluster import Node, ObjectKey, Pod, PodMetadata
from kuberouter_py.model.policies import EVERYTHING, NetworkPolicy
from kuberouter_py.model.report import Note

SERVICES = {"Service", "EndpointSlice", "ServiceCIDR", "PodMetadata", "Node"}
FIREWALL = {"Pod", "Namespace", "NetworkPolicy", "Node"}
ROUTER = {"Service", "EndpointSlice", "ServiceCIDR", "Node"}


@pytest.mark.parametrize(
    ("services", "firewall", "router", "kinds", "nodes"),
    [
        (True, False, False, SERVICES, ""),
        (False, True, False, FIREWALL, "n1"),
        (True, True, False, SERVICES | FIREWALL, ""),
        (False, False, True, ROUTER, ""),
        (False, True, True, ROUTER | FIREWALL, ""),
        (False, False, False, set(), None),
    ],
)
def test_only_what_a_running_controller_reads_is_watched(
    services: bool, firewall: bool, router: bool, kinds: set[str], nodes: str | None
) -> None:
    config = Config(run_service_proxy=services, run_firewall=firewall, run_router=router, hostname_override="n1")
    found = kinds_of(config)
    assert sorted(kind.name for kind in found) == sorted(kinds)
    assert [kind.object_name for kind in found if kind.name == "Node"] == ([] if nodes is None else [nodes])


def test_an_events_object_is_found_whatever_is_watched_of_it(tmp_path: Path) -> None:
    source = Source(Config(manifests=str(tmp_path)), ())
    same = ObjectKey("x", "a")
    source.cache.put("Pod", same, Pod(same, "pod"))
    source.cache.put("PodMetadata", ObjectKey("x", "b"), PodMetadata(ObjectKey("x", "b"), "metadata", weight="3"))
    source.cache.put("NetworkPolicy", same, NetworkPolicy(same, "policy", EVERYTHING))
    source.cache.put("Node", ObjectKey("", "n1"), Node(ObjectKey("", "n1"), "node"))

    def uid(kind: str, owner: ObjectKey | None) -> str:
        return source._uid_of(Note(kind, owner, "R", "m"))

    assert [uid("Pod", same), uid("NetworkPolicy", same), uid("Node", ObjectKey("", "n1"))] == ["pod", "policy", "node"]
    assert uid("Pod", ObjectKey("x", "b")) == "metadata"
    assert [uid("NetworkPolicy", ObjectKey("x", "b")), uid("Service", same), uid("Node", None)] == [""] * 3
