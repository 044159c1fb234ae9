"""NetworkPolicy: from the API's JSON to model/policies.py. Pure.

Owns the rules P1.03-P1.08, P2.01, P2.08, P3.01 and P3.02 as far as they are about one object. What is not understood
matches nothing and is told with its path: a peer or a port leaves its list, a rule stays with empty lists, so that a
rule's position is the one in the object. A podSelector that is not understood is a DecodeError: no guess at whom a
policy protects is safe. A field that we do not know is not understood either, for skipping it could widen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from sys import intern
from typing import TypeVar

import msgspec

from kuberouter_py.model.cluster import Cidr, ObjectKey
from kuberouter_py.model.policies import (
    EVERYTHING,
    IpBlock,
    NetworkPolicy,
    Operator,
    Peer,
    PodPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)
from kuberouter_py.watchers.decode_fields import DecodeError, Metadata, cidr, port_number, protocol_number, shared

T = TypeVar("T")
V = TypeVar("V")

INGRESS, EGRESS = "Ingress", "Egress"
# A container port's name (RFC 6335): a port written as the text "80" is none.
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


class RequirementJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    key: str | None = None
    operator: str | None = None
    values: list[str] | None = None


class SelectorJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    matchLabels: dict[str, str | None] | None = None
    matchExpressions: list[RequirementJson] | None = None


class IpBlockJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    cidr: str | None = None
    excepts: list[str] | None = msgspec.field(default=None, name="except")


class PeerJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    podSelector: SelectorJson | None = None
    namespaceSelector: SelectorJson | None = None
    ipBlock: IpBlockJson | None = None


class PortJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    protocol: str | None = None
    port: int | str | None = None
    endPort: int | None = None


class IngressRuleJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Elements stay as they were written, so that a broken one costs nobody else: its reader is _each."""

    peers: list[msgspec.Raw] | None = msgspec.field(default=None, name="from")
    ports: list[msgspec.Raw] | None = None


class EgressRuleJson(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    peers: list[msgspec.Raw] | None = msgspec.field(default=None, name="to")
    ports: list[msgspec.Raw] | None = None


class PolicySpecJson(msgspec.Struct, gc=False):
    podSelector: SelectorJson | None = None
    policyTypes: list[str | None] | None = None
    ingress: list[msgspec.Raw] | None = None
    egress: list[msgspec.Raw] | None = None


class NetworkPolicyJson(msgspec.Struct, gc=False):
    metadata: Metadata
    spec: PolicySpecJson | None = None


_PEER = msgspec.json.Decoder(PeerJson)
_PORT = msgspec.json.Decoder(PortJson)
_INGRESS_RULE = msgspec.json.Decoder(IngressRuleJson)
_EGRESS_RULE = msgspec.json.Decoder(EgressRuleJson)


class _NotUnderstood(ValueError):
    """path: of the part below the one that is being read, "" for that one itself."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def network_policy(key: ObjectKey, json: NetworkPolicyJson, unusable: list[str]) -> NetworkPolicy:
    """Raises DecodeError for a podSelector that is not understood."""
    spec = json.spec or PolicySpecJson()
    try:
        pods = _selector(spec.podSelector, "spec.podSelector")
    except _NotUnderstood as error:
        raise DecodeError(str(error)) from None
    types = _isolated(spec, unusable)
    return NetworkPolicy(
        key=key,
        uid=json.metadata.uid or "",
        pods=pods,
        ingress=_rules(spec.ingress, "spec.ingress", _ingress_rule, unusable) if INGRESS in types else None,
        egress=_rules(spec.egress, "spec.egress", _egress_rule, unusable) if EGRESS in types else None,
        unusable=tuple(unusable),
    )


def _isolated(spec: PolicySpecJson, unusable: list[str]) -> Sequence[str]:
    """P1.04."""
    if not spec.policyTypes:
        return (INGRESS, EGRESS) if spec.egress else (INGRESS,)
    for position, name in enumerate(spec.policyTypes):
        if name not in (INGRESS, EGRESS):
            unusable.append(f"spec.policyTypes[{position}]: {name!r:.40} is not known")
    return [name for name in spec.policyTypes if name in (INGRESS, EGRESS)]


_Read = Callable[[msgspec.Raw, str, list[str]], T]


def _rules(
    written: list[msgspec.Raw] | None, path: str, read: _Read[PolicyRule], unusable: list[str]
) -> tuple[PolicyRule, ...]:
    nothing = PolicyRule(peers=(), ports=())
    return tuple(rule or nothing for rule in _each(written or (), path, read, unusable))


def _ingress_rule(raw: msgspec.Raw, path: str, unusable: list[str]) -> PolicyRule:
    json = _INGRESS_RULE.decode(raw)
    return PolicyRule(
        _several(json.peers, f"{path}.from", _peer, unusable), _several(json.ports, f"{path}.ports", _port, unusable)
    )


def _egress_rule(raw: msgspec.Raw, path: str, unusable: list[str]) -> PolicyRule:
    json = _EGRESS_RULE.decode(raw)
    return PolicyRule(
        _several(json.peers, f"{path}.to", _peer, unusable), _several(json.ports, f"{path}.ports", _port, unusable)
    )


def _several(written: list[msgspec.Raw] | None, path: str, read: _Read[T], unusable: list[str]) -> tuple[T, ...] | None:
    """None where nothing is written, which is no limit (P1.05); () where nothing of what is written is understood."""
    if not written:
        return None
    found = _each(written, path, read, unusable)
    return tuple(dict.fromkeys(element for element in found if element is not None))


def _each(written: Iterable[msgspec.Raw], path: str, read: _Read[T], unusable: list[str]) -> Iterator[T | None]:
    """Every element of a list, None in place of one that is not understood."""
    for position, raw in enumerate(written):
        place = f"{path}[{position}]"
        try:
            yield read(raw, place, unusable)
        except _NotUnderstood as error:
            unusable.append(f"{_joined(place, error.path)}: {error.reason}")
            yield None
        except msgspec.ValidationError as error:
            reason, _, below = str(error).partition(" - at `$")
            unusable.append(f"{place}{below.removesuffix('`')}: {reason:.200}")
            yield None


def _joined(path: str, below: str) -> str:
    return f"{path}.{below}" if below else path


def _peer(raw: msgspec.Raw, path: str, unusable: list[str]) -> Peer:
    """P1.07."""
    json = _PEER.decode(raw)
    if json.ipBlock is not None:
        if json.podSelector is not None or json.namespaceSelector is not None:
            raise _NotUnderstood("", "ipBlock stands together with a selector")
        return _ip_block(json.ipBlock)
    if json.podSelector is None and json.namespaceSelector is None:
        raise _NotUnderstood("", "names no peer")
    pods = _selector(json.podSelector, "podSelector")
    if json.namespaceSelector is None:
        return PodPeer(pods)
    return PodPeer(pods, _selector(json.namespaceSelector, "namespaceSelector"))


def _ip_block(json: IpBlockJson) -> IpBlock:
    """P3.01, P3.02. An except that is not understood takes its whole block with it: without it the block is wider."""
    block = _cidr(json.cidr or "", "ipBlock.cidr")
    excepts = set()
    for position, text in enumerate(json.excepts or ()):
        place = f"ipBlock.except[{position}]"
        taken = _cidr(text, place)
        if taken.network not in block or taken.prefix < block.prefix:
            raise _NotUnderstood(place, f"{text:.80} is not inside {json.cidr:.80}")
        excepts.add(taken)
    return shared(IpBlock(block, tuple(sorted(excepts))))


def _cidr(text: str, place: str) -> Cidr:
    try:
        return cidr(text)
    except ValueError as error:
        raise _NotUnderstood(place, str(error)) from None


def _port(raw: msgspec.Raw, path: str, unusable: list[str]) -> PolicyPort:
    """P2.01, P2.08."""
    json = _PORT.decode(raw)
    protocol = _value("protocol", protocol_number, json.protocol)
    if isinstance(json.port, int):
        port = _value("port", port_number, json.port)
        end = port if json.endPort is None else _value("endPort", port_number, json.endPort)
        if end < port:
            raise _NotUnderstood("endPort", f"{end} is below port {port}")
        return shared(PolicyPort(protocol, port, end))
    if json.endPort is not None:
        raise _NotUnderstood("endPort", "stands without a port number")
    if json.port is not None and not _PORT_NAME.fullmatch(json.port):
        raise _NotUnderstood("port", f"{json.port[:40]!r} is not the name of a port")
    return shared(PolicyPort(protocol, json.port))


def _value(place: str, read: Callable[[V], int], value: V) -> int:
    try:
        return read(value)
    except ValueError as error:
        raise _NotUnderstood(place, str(error)) from None


def _selector(json: SelectorJson | None, place: str) -> Selector:
    """Canonical: two selectors that say the same in another order, or as labels and as expressions, are equal."""
    if json is None:
        return EVERYTHING
    labels = (json.matchLabels or {}).items()
    found = {Requirement(intern(key), Operator.IN, (intern(value or ""),)) for key, value in labels}
    for position, expression in enumerate(json.matchExpressions or ()):
        found.add(_requirement(expression, f"{place}.matchExpressions[{position}]"))
    return shared(Selector(tuple(sorted(found))))


def _requirement(json: RequirementJson, place: str) -> Requirement:
    if not json.key:
        raise _NotUnderstood(f"{place}.key", "is missing")
    try:
        operator = Operator(json.operator or "")
    except ValueError:
        raise _NotUnderstood(f"{place}.operator", f"{json.operator!r:.40} is not known") from None
    with_values = operator in (Operator.IN, Operator.NOT_IN)
    if bool(json.values) != with_values:
        raise _NotUnderstood(f"{place}.values", f"{operator} goes {'with' if with_values else 'without'} values")
    return Requirement(intern(json.key), operator, tuple(sorted({intern(value) for value in json.values or ()})))
