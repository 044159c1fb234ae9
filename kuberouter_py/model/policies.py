"""NetworkPolicy's nouns (networking.k8s.io/v1), as decoded: selectors, peers, ports, rules. Frozen and hashable: two
that say the same are equal, so that they can be keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from kuberouter_py.model.cluster import Cidr, ObjectKey


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(NamedTuple):
    """values: sorted, without repetition; empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """P1.08: NotIn and DoesNotExist hold for an object without the key."""
        if self.operator is Operator.EXISTS:
            return self.key in labels
        if self.operator is Operator.DOES_NOT_EXIST:
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator is Operator.IN)


class Selector(NamedTuple):
    """All of them must hold; none: everything is selected (P1.03, P1.07). requirements: sorted. A matchLabels entry is
    an In with one value.
    """

    requirements: tuple[Requirement, ...] = ()

    def words(self) -> Iterator[str]:
        """Its parts, and how many there are, for a name that stands for it: a value with a comma is one value."""
        for requirement in self.requirements:
            yield from (requirement.key, requirement.operator, str(len(requirement.values)), *requirement.values)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)


EVERYTHING = Selector()


class IpBlock(NamedTuple):
    """Host bits are masked (P3.02). excepts: sorted; each inside cidr and of its family; they take from this block only
    (P3.01).
    """

    cidr: Cidr
    excepts: tuple[Cidr, ...] = ()


class PodPeer(NamedTuple):
    """namespaces None: those of the policy's own namespace (P1.07). Never an address of a hostNetwork pod (P4.01)."""

    pods: Selector
    namespaces: Selector | None = None


Peer = PodPeer | IpBlock


class PolicyPort(NamedTuple):
    """port: the pod's own (P2.04): a number, a container port's name, or None for every port of the protocol (P2.01).
    end: last of a range, the same as port for a single one; 0 with a name or None.
    """

    protocol: int
    port: int | str | None = None
    end: int = 0


class PolicyRule(NamedTuple):
    """peers None: anybody, also outside the cluster; ports None: everything that is IP (P1.05, P1.10).

    An empty tuple matches nothing: what was written could not be understood, and must not widen (P2.06).
    """

    peers: tuple[Peer, ...] | None = None
    ports: tuple[PolicyPort, ...] | None = None


class NetworkPolicy(msgspec.Struct, frozen=True, gc=False):
    """ingress, egress None: that direction is not isolated by it; (): isolated, nothing is allowed (P1.04)."""

    key: ObjectKey
    uid: str
    pods: Selector
    ingress: tuple[PolicyRule, ...] | None = None
    egress: tuple[PolicyRule, ...] | None = None
    unusable: tuple[str, ...] = ()  # parts that match nothing because they were not understood, each with its reason
