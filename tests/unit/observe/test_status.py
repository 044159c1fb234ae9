"""What `status` says, as a document and on one screen."""

from __future__ import annotations

import json
from dataclasses import replace

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import Note
from kuberouter_py.observe.status import status_text
from tests.unit.observe.documents import CACHES, DOCUMENT, NOW, SERVICES, WEB, document


def test_text() -> None:
    assert status_text(DOCUMENT) == (
        """\
kuberouter-py 0.1.0 on n1: degraded, 4 to look at (up 1h2m0s)
  - cannot listen on *:10256: Address already in use
  - cache EndpointSlice: watch: connection refused
  - cache EndpointSlice: 1 object left out, not decodable
  - services: 1 entry refused or unreadable

cache          synced  objects  last heard
Service        yes          12  3s ago
EndpointSlice  yes          14  1m0s ago
  left out, not decodable:
    EndpointSlice default/odd: ports[0].port: nil

services: synced 3s ago in 4ms, all of it 2m0s ago; 213 syncs, 1 failing now
  12 services, 30 virtual servers
  local traffic: NodeCIDR 10.244.1.0/24
  refused by this node:
    virtual servers: TCP 10.96.0.9:80: no such scheduler
  not as its owner asked:
    Service default/web: externalIP 203.0.113.9 is not served (AddressRefused)
  IPVS servers of somebody else, left alone:
    -A -t 198.51.100.7:80 -s rr

events: 2 written, 0 waiting
"""
    )


def test_pods_without_their_rules_stand_at_the_top() -> None:
    closed, earlier = "closed, its rules cannot be written", "as before, its new rules cannot be written"
    notes = (
        Note("Pod", ObjectKey("x", "a"), "PodClosed", f"ingress of 10.244.1.2: {closed}"),
        Note("Pod", ObjectKey("x", "b"), "PolicyNotYetWritten", f"egress of 10.244.1.3: {earlier}"),
    )
    odd = Note("NetworkPolicy", ObjectKey("x", "odd"), "UnsupportedPart", "spec.ingress[0]: nobody; it matches nothing")
    counts = {"policies": 1, "local pods": 3, "closed pods": 1, "pods under earlier rules": 1}
    firewall = replace(
        SERVICES, name="firewall", failures=2, refused=(), foreign_servers=(), counts=counts, facts={}, last_error="",
        notes=(odd, *notes),
    )  # fmt: skip
    told = document(caches=CACHES[:1], controllers=(firewall,), problems=(), events=None)
    assert told["verdict"] == "degraded"
    assert status_text(told).splitlines() == [
        "kuberouter-py 0.1.0 on n1: degraded, 3 to look at (up 1h2m0s)",
        "  - firewall: 2 entries refused or unreadable",
        "  - firewall: 1 closed pod",
        "  - firewall: 1 pod under earlier rules",
        "",
        "cache    synced  objects  last heard",
        "Service  yes          12  3s ago",
        "",
        "firewall: synced 3s ago in 4ms, all of it 2m0s ago; 213 syncs, 2 failing now",
        "  1 policy, 3 local pods, 1 closed pod, 1 pod under earlier rules",
        "  closed, because their rules cannot be written:",
        "    Pod x/a: ingress of 10.244.1.2: closed, its rules cannot be written (PodClosed)",
        "  under earlier rules, because their new ones cannot be written:",
        "    Pod x/b: egress of 10.244.1.3: as before, its new rules cannot be written (PolicyNotYetWritten)",
        "  not as its owner asked:",
        "    NetworkPolicy x/odd: spec.ingress[0]: nobody; it matches nothing (UnsupportedPart)",
    ]


def test_document_is_json_with_a_verdict() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["verdict"] == "degraded"
    assert DOCUMENT["controllers"]["services"]["failures"] == 1
    assert DOCUMENT["controllers"]["services"]["notes"] == [
        {
            "kind": "Service",
            "namespace": "default",
            "name": "web",
            "reason": "AddressRefused",
            "message": "externalIP 203.0.113.9 is not served",
        }
    ]


def test_all_well() -> None:
    well = document(caches=CACHES[:1], controllers=(replace(SERVICES, failures=0, refused=()),), problems=())
    assert well["verdict"] == "ok"
    assert well["problems"] == []
    assert status_text(well).startswith("kuberouter-py 0.1.0 on n1: ok (up 1h2m0s)\n\n")


def test_starting() -> None:
    young = document(
        caches=(CACHES[0]._replace(synced=False, last_event=0.0),),
        controllers=(replace(SERVICES, synced=False),),
        problems=(),
        started=NOW,
        events=None,
    )
    assert young["verdict"] == "starting"
    text = status_text(young)
    assert text.startswith(
        "kuberouter-py 0.1.0 on n1: starting, waiting for cache Service, first sync of services (up 0s)"
    )
    assert "never" in text
    assert "services: not synced yet" in text


def test_long_lists_are_cut_in_the_text_only() -> None:
    many = document(controllers=(replace(SERVICES, notes=(WEB,) * 500),))
    assert len(many["controllers"]["services"]["notes"]) == 500
    text = status_text(many)
    assert text.count("externalIP") == 10
    assert "and 490 more (-o json shows all)" in text
