"""`explain --matrix`: from its words, and a file of policies that are tried, to who would reach whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from kuberouter_py.controllers.firewall.controller import FirewallController
from kuberouter_py.controllers.firewall.explain.explanation import Moment, moment
from kuberouter_py.controllers.firewall.explain.matrix import Asked, matrix, matrix_document, pods_of
from kuberouter_py.controllers.services.explain.question import Unanswerable
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.observe.http import Response, json_response, text_response
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.kinds import NETWORK_POLICIES
from kuberouter_py.watchers.manifest_files import read_manifest
from kuberouter_py.watchers.manifest_items import FileError

MOST = 150  # pods: as many verdicts as fit into a few seconds, and columns as fit on no screen
OUTSIDE = ("198.51.100.1", "2001:db8::1")  # stand for the world: nobody's (RFC 5737, RFC 3849)
LISTED = 8  # of what there is instead


class MatrixExplaining:
    """node: our name."""

    def __init__(self, node: str, controller: FirewallController) -> None:
        self._node = node
        self._controller = controller

    def answer(self, parameters: Mapping[str, str]) -> Response:
        """To /matrix?namespaces=x,y&port=80/udp&outside=...&with=YAML&file=its name&without=x/a,y/b."""
        try:
            at = self._controller.inquire(moment)
            asked = _asked(parameters, at)
            return json_response(matrix_document(self._node, asked, matrix(asked, at)))
        except (Unanswerable, EdgeError) as error:
            return text_response(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}\n")


def _asked(parameters: Mapping[str, str], at: Moment) -> Asked:
    port, protocol = _port(parameters.get("port", ""))
    return Asked(
        _namespaces(parameters.get("namespaces", ""), at),
        protocol,
        port,
        _outside(parameters.get("outside", "")),
        tuple(_tried(parameters.get("with", ""), parameters.get("file", ""))),
        tuple(_without(parameters.get("without", ""), at)),
    )


def _namespaces(text: str, at: Moment) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not names:
        raise Unanswerable("--matrix: of which namespaces?")
    known = {each.key.name for each in at.namespaces}
    for name in names:
        if name not in known:
            raise Unanswerable(f"there is no namespace {name}; there are {_some(known)}")
    pods = pods_of(names, at)
    if not pods:
        raise Unanswerable(f"there is no Pod in {', '.join(names)}")
    if len(pods) > MOST:
        raise Unanswerable(f"{len(pods)} Pods are too many for one table, {MOST} are the most: name fewer namespaces")
    return names


def _port(text: str) -> tuple[int, int]:
    """ "80", "53/udp"."""
    number, _, name = text.partition("/")
    protocols = {protocol.name.lower(): protocol for protocol in Protocol}
    protocol = protocols.get(name.lower() or "tcp")
    if protocol is None or not number.isdecimal() or not 0 < int(number) < 65536:
        raise Unanswerable(f"--port {text}: neither a number nor NUMBER/udp or NUMBER/sctp")
    return int(number), protocol


def _outside(text: str) -> tuple[bytes, ...]:
    try:
        return tuple(ip_address(each).packed for each in ((text,) if text else OUTSIDE))
    except ValueError:
        raise Unanswerable(f"--outside {text}: no address") from None


def _tried(text: str, file: str) -> Sequence[NetworkPolicy]:
    """All of them, or none: a table under half of a file would mislead."""
    if not text and not file:
        return ()
    try:
        manifest = read_manifest(file, text.encode(), [NETWORK_POLICIES])
    except FileError as error:
        raise Unanswerable(str(error)) from None
    if manifest.undecodable:
        reasons = (f"{each.place}: NetworkPolicy {each.key}: {each.reason}" for each in manifest.undecodable)
        raise Unanswerable("; ".join(reasons))
    found: dict[ObjectKey, NetworkPolicy] = {}
    for each in manifest.found:
        if each.key in found:
            raise Unanswerable(f"{each.place}: NetworkPolicy {each.key} stands there twice")
        if isinstance(each.object, NetworkPolicy):
            found[each.key] = each.object
    if not found:
        raise Unanswerable(f"{file} holds no NetworkPolicy of networking.k8s.io/v1")
    return list(found.values())


def _without(text: str, at: Moment) -> Iterator[ObjectKey]:
    known = {policy.key for policy in at.policies}
    for name in filter(None, text.split(",")):
        namespace, _, rest = name.partition("/")
        key = ObjectKey(namespace, rest)
        if key not in known:
            there = [str(each) for each in known if each.namespace == namespace] or map(str, known)
            raise Unanswerable(f"--without {name}: there is no such NetworkPolicy; there are {_some(there)}")
        yield key


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return f"{', '.join(listed[:LISTED]) or 'none'}{more}"
