"""`explain`: from a question's words to its answer, on the thread of whoever asks.

What becomes of a connection is the Service proxy's and the firewall's to say, who know nothing of each other: here the
two answers become one. Where a Service leads is asked first, then what the policies say of each place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from kuberouter_py.agent.explaining_policies import FOLLOWED, Asked, PolicyExplaining
from kuberouter_py.agent.source import Source, node_name
from kuberouter_py.config import Config
from kuberouter_py.controllers.firewall.explain.explanation import Frontend
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.services.explain.document import document, origin_document
from kuberouter_py.controllers.services.explain.explanation import Path, begin, compared, finish
from kuberouter_py.controllers.services.explain.question import (
    LISTED,
    NODE,
    POD,
    Origin,
    Target,
    Unanswerable,
    origin_of,
    target_of,
)
from kuberouter_py.controllers.services.explain.source import is_direct
from kuberouter_py.controllers.services.explain.way import End
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.observe.http import Response, json_response, text_response
from kuberouter_py.ports import EdgeError, Lookups

ATTEMPTS = 3  # to see decided and actual of one moment


class Explaining:
    def __init__(
        self,
        config: Config,
        services: ServicesController,
        policies: PolicyExplaining,
        source: Source,
        lookups: Lookups,
    ) -> None:
        self._config = config
        self._node = node_name(config)
        self._services = services
        self._policies = policies
        self._source = source
        self._lookups = lookups

    def answer(self, parameters: Mapping[str, str]) -> Response:
        """To /explain?from=...&to=...&actual=true."""
        try:
            return json_response(self._document(parameters))
        except (Unanswerable, EdgeError) as error:
            return text_response(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}\n")

    def _document(self, parameters: Mapping[str, str]) -> object:
        target = target_of(parameters.get("to", ""))
        origin = origin_of(parameters.get("from", ""))
        actual = parameters.get("actual") == "true"
        remarks: list[str] = []
        if origin.kind == POD:
            pod = self._pod(ObjectKey(*origin.name.split("/")), "--from ADDRESS")
            origin = origin._replace(addresses=pod.ips, node=pod.node)
            if origin.node and origin.node != self._node:
                remarks.append(
                    f"{origin.name} runs on {origin.node}, whose agent knows the path from there; "
                    f"this is what {self._node} does with what comes to it from {address_text(origin.addresses[0])}"
                )
        if self._is_for_policies(target):
            return self._of_policies(origin, target, actual, remarks)
        paths = self._paths(origin, target, actual)
        asked = [*dict.fromkeys(one for path in paths for one in self._through(path, remarks))]
        told = self._policies.tell(asked, actual=actual)
        if told["enforced"] and len(asked) > FOLLOWED:
            remarks.append(f"the firewall's rules are followed to {FOLLOWED} of {len(asked)} destinations only")
        return _combined(document(self._node, origin, paths, [*dict.fromkeys(remarks)]), told)

    # -- to a Pod: no Service is asked -------------------------------------------------------------------------------

    def _is_for_policies(self, target: Target) -> bool:
        if target.pod or self._policies.has_pod(target.address):
            return True
        return bool(target.address) and self._config.run_firewall and not self._config.run_service_proxy

    def _straight(self, origin: Origin, target: Target) -> Iterator[Asked]:
        """To each address for which the sender has one of the same family. Raises Unanswerable."""
        addresses: Sequence[bytes] = (target.address,)
        if target.pod:
            pod = self._pod(target.pod, "--to ADDRESS:PORT")
            addresses, port = pod.ips, _port(pod, target)
        else:
            port = int(target.port)
        sources = {address: self._source_towards(origin, address) for address in addresses}
        if not any(sources.values()):
            families = " or ".join(f"IPv{family_of(each)}" for each in addresses)
            raise Unanswerable(f"{origin.kind} {origin.name} has no {families} address: it cannot send there")
        for address, source in sources.items():
            if source:
                own = origin.kind == NODE or self._lookups.is_local(source)
                at_node = self._lookups.is_local(address)
                yield Asked(source, address, target.protocol, port, own=own, at_node=at_node)

    def _source_towards(self, origin: Origin, address: bytes) -> bytes:
        """b"" where it has none of that family."""
        if origin.kind == NODE:
            hop = self._lookups.toward(address)
            return hop.source if hop else b""
        return next((each for each in origin.addresses if family_of(each) == family_of(address)), b"")

    def _of_policies(self, origin: Origin, target: Target, actual: bool, remarks: list[str]) -> object:
        asked = list(self._straight(origin, target))
        told = self._policies.tell(asked, actual=actual)
        if told["enforced"]:
            names = origin.name if origin.kind == POD else "", str(target.pod or "")
            remarks += dict.fromkeys(_others(told["connections"], *names))
            first = told["connections"][0]
            outcome, verdict = _word(first["allowed"]), first["verdict"]
        else:
            outcome, verdict = "not ours", f"not ours: {told['reason']}"
        return {
            "node": self._node,
            "from": origin_document(origin),
            "outcome": outcome,
            "verdict": verdict,
            "remarks": remarks,
            "paths": [],
            "policies": told,
        }

    # -- to whatever a Service may lead to ---------------------------------------------------------------------------

    def _paths(self, origin: Origin, target: Target, actual: bool) -> Sequence[Path]:
        def decide() -> list[Path]:
            begun = self._services.inquire(lambda known: begin(origin, target, known, self._lookups))
            return [finish(each, self._lookups) for each in begun]

        paths = decide()
        if not actual:
            return paths
        for _ in range(ATTEMPTS):
            chains = self._lookups.chains()
            both = [compared(path, self._lookups, chains) for path in paths]
            again = decide()
            if [path.decided for path in again] == [path.decided for path in paths]:
                break
            paths = again  # a sync came between
        return both

    def _through(self, path: Path, remarks: list[str]) -> list[Asked]:
        """Where the connection may get, as the destination sees it (P6.01): masquerading comes after the policies."""
        case, way = path.case, path.decided.way
        source, key = case.packet.source, case.frontend.key
        if way.end in (End.AWAY, End.LOCAL) and not case.taken:
            at_node = way.end is End.LOCAL
            return [Asked(source, key.address, key.protocol, key.port, own=case.from_node, at_node=at_node)]
        if way.end is not End.SERVED or case.taken or case.foreign:
            return []
        frontend = Frontend(key.address, key.port)
        legs = [arrival.leg for arrival in path.decided.arrivals if arrival.leg.value.weight]
        if any(map(is_direct, legs)):
            remarks.append("direct server return: policies see the tunnel and not the client, nothing is said of them")
        return [
            Asked(source, leg.where.address, key.protocol, leg.where.port, own=case.from_node, frontend=frontend)
            for leg in legs
            if not is_direct(leg)
        ]

    def _pod(self, key: ObjectKey, instead: str) -> Pod:
        """With addresses. Raises Unanswerable."""
        try:
            pod = self._source.find_pod(key)
            others = [] if pod else self._source.pods_of(key.namespace, LISTED)
        except EdgeError as error:
            raise Unanswerable(f"{error}; ask with {instead}") from None
        if pod is None:
            raise Unanswerable(f"there is no Pod {key}; in {key.namespace} there are {', '.join(others) or 'none'}")
        if not pod.ips:
            raise Unanswerable(f"Pod {key} has no address yet; ask with {instead}")
        return pod


def _port(pod: Pod, target: Target) -> int:
    """A port's number, or what the Pod calls so."""
    if target.port.isdecimal():
        if not 0 < int(target.port) < 65536:
            raise Unanswerable(f"--to: {target.port} is no port")
        return int(target.port)
    named = {port.name: port.port for port in pod.ports if port.protocol == target.protocol and port.name}
    if target.port not in named:
        there = ", ".join(sorted(named)) or "none by name"
        raise Unanswerable(f"Pod {pod.key} has no port {target.port}/{protocol_text(target.protocol)}; it has {there}")
    return named[target.port]


def _others(connections: Sequence[Mapping[str, Any]], sender: str, receiver: str) -> Iterator[str]:
    """Of Pods by name: an address that is not theirs to policies is the node's, or another Pod has it now."""
    for connection in connections:
        for name, end in ((sender, connection["source"]), (receiver, connection["destination"])):
            if name and end["pod"] != name:
                yield f"{end['address']} is not {name}'s own: to policies it is {end['pod'] or 'no Pod'}"


def _combined(told: dict[str, Any], policies: dict[str, Any]) -> dict[str, Any]:
    """What the policies deny is not open, whatever the Service says."""
    connections = policies["connections"]
    denied = [each for each in connections if not each["allowed"]]
    answer = {**told, "policies": policies}
    if denied and len(denied) == len(connections):
        answer |= {"outcome": "denied", "verdict": f"{denied[0]['verdict']} (without policies {told['verdict']})"}
    elif denied:
        answer["verdict"] = f"{told['verdict']}; NetworkPolicy denies {len(denied)} of {len(connections)}"
    return answer


def _word(allowed: bool) -> str:
    return "allowed" if allowed else "denied"
