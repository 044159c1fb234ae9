"""The address that a destination sees as the client's, and why it is another than the client's or not. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from kuberouter_py.controllers.reading import Met
from kuberouter_py.controllers.services.explain.case import CLUSTER_IP, Case
from kuberouter_py.controllers.services.explain.way import Leg, Way
from kuberouter_py.model.kernel import Forwarding
from kuberouter_py.model.names import CONNMARK_MASQUERADE, SERVICES_SETS
from kuberouter_py.model.values import cidr_text


class Source(NamedTuple):
    """The address that a destination sees, whether it stands for the sender's own, and why."""

    address: bytes
    masqueraded: bool
    reason: str


class Arrival(NamedTuple):
    """At one destination."""

    leg: Leg
    source: Source


_SET = re.compile(rf"--match-set {SERVICES_SETS}([a-z]+)-[46] ")
_GIVEN = re.compile(r"--to-source (\S+)")
_MARKS_FOR_MASQUERADE = f"--set-xmark 0x{CONNMARK_MASQUERADE:x}/"


def roles_of(rule: Met | None) -> list[str]:
    """Of the sets that a rule names (chains.py)."""
    return _SET.findall(rule.rule) if rule else []


def is_direct(leg: Leg) -> bool:
    return leg.value.forwarding is not Forwarding.MASQUERADE


def source_of(case: Case, way: Way, leg: Leg) -> Source:
    if is_direct(leg):
        return Source(way.packet.source, False, "direct server return: the endpoint answers by itself")
    if leg.masquerade is None:
        return Source(way.packet.source, False, _why_kept(case, way))
    given = _GIVEN.search(leg.masquerade.rule)
    of_link = leg.hop.source if leg.hop else b""
    source = ip_address(given[1]).packed if given else of_link
    return Source(source, True, _why_masqueraded(case, way, leg.masquerade))


def _why_masqueraded(case: Case, way: Way, rule: Met) -> str:
    roles = roles_of(rule)
    if "hairpin" in roles:
        return "a pod that is sent to itself would never see its answer rewritten"
    if "vips" in roles:
        return "it took a Service's address as its source"
    if "--src-type LOCAL" in rule.rule:
        return "the node's own, it leaves with the address of its link"
    marking = next((met for met in reversed(way.met) if _MARKS_FOR_MASQUERADE in met.rule), None)
    roles = roles_of(marking)
    if "external" in roles:
        return f"{case.policy} Cluster: it may go to another node, whose answer must come back here"
    if "clusterips" in roles and case.config.masquerade_all:
        return "--masquerade-all"
    if "clusterips" in roles:
        return f"its source is no pod of this node ({_detector(case)})"
    return f"by {rule.chain.chain}: {rule.rule}"


def _why_kept(case: Case, way: Way) -> str:
    if case.role != CLUSTER_IP:
        return f"{case.policy} Local keeps it" if case.local else "no rule masquerades it"
    accepted = next((met for met in way.met if met.rule.startswith("-s ") and met.rule.endswith("-j ACCEPT")), None)
    if accepted:
        return f"a pod of this node ({_detector(case)})"
    return "it is this node's own address" if case.from_node else f"no rule masquerades it ({_detector(case)})"


def _detector(case: Case) -> str:
    view = case.view
    what = ", ".join(map(cidr_text, view.detector_cidrs)) or view.detector_interface
    return f"{view.detector} {what}".strip() if view.detector != "none" else "local traffic is not told apart"
