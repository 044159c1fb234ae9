"""A small world that the judge is asked about by names: namespaces x, y, z with pods a, b, c each, as the upstream
suite has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kuberouter_py.controllers.firewall.judge import Attempt, Cluster, Verdict, verdict
from kuberouter_py.model.cluster import ContainerPort, Namespace, Pod
from kuberouter_py.model.policies import NetworkPolicy
from tests.fakes.objects import packed
from tests.fakes.policies import namespace, pod

TCP, UDP, SCTP, ICMP, ICMPV6, ESP = 6, 17, 132, 1, 58, 50
# Every pod's: "web" is 80 in a, 81 in b, and nobody's in c.
PORTS: Mapping[str, tuple[ContainerPort, ...]] = {
    "a": (ContainerPort("web", TCP, 80), ContainerPort("dns", UDP, 80), ContainerPort("", TCP, 81)),
    "b": (ContainerPort("web", TCP, 81), ContainerPort("dns", TCP, 80)),
    "c": (),
}


def address_of(name: str, family: int = 4) -> str:
    """ "y/b" is 10.0.2.2 and fd00:2::2."""
    first, _, second = name.partition("/")
    high, low = "xyz".index(first) + 1, "abc".index(second) + 1
    return f"10.0.{high}.{low}" if family == 4 else f"fd00:{high}::{low}"


NAMES = tuple(f"{first}/{second}" for first in "xyz" for second in "abc")
NAMESPACES = (namespace("x", ns="x"), namespace("y", ns="y", tier="low"), namespace("z", ns="z", tier="high"))
PODS = tuple(
    pod(name, address_of(name), address_of(name, 6), labels={"pod": name[-1]}, ports=PORTS[name[-1]]) for name in NAMES
)


OUTSIDE = {4: "192.0.2.7", 6: "2001:db8::7"}
ALL = "outside x/a x/b x/c y/a y/b y/c z/a z/b z/c"
PODS_ONLY = "x/a x/b x/c y/a y/b y/c z/a z/b z/c"


def judged(
    source: str,
    destination: str,
    *policies: NetworkPolicy,
    port: int = 80,
    protocol: int = TCP,
    family: int = 4,
    from_node: bool = False,
    pods: Iterable[Pod] = PODS,
    namespaces: Iterable[Namespace] = NAMESPACES,
) -> Verdict:
    """Ends by their names ("y/a", "outside") or addresses."""
    cluster = Cluster(policies, pods, namespaces)
    one, other = _address(source, family), _address(destination, family)
    return verdict(Attempt(packed(one), packed(other), protocol, port, from_node), cluster)


def _address(name: str, family: int) -> str:
    return OUTSIDE[family] if name == "outside" else address_of(name, family) if name in NAMES else name


def who_reaches(
    destination: str, *policies: NetworkPolicy, port: int = 80, protocol: int = TCP, family: int = 4
) -> str:
    """Everybody who does, beside the pod itself, which always does."""
    return _all_but(
        destination,
        [
            name
            for name in ALL.split()
            if judged(name, destination, *policies, port=port, protocol=protocol, family=family).allowed
        ],
    )


def whom_reaches(source: str, *policies: NetworkPolicy, port: int = 80, protocol: int = TCP, family: int = 4) -> str:
    return _all_but(
        source,
        [
            name
            for name in ALL.split()
            if judged(source, name, *policies, port=port, protocol=protocol, family=family).allowed
        ],
    )


def _all_but(itself: str, names: Sequence[str]) -> str:
    assert itself in names, "a pod always reaches itself"
    return " ".join(name for name in names if name != itself)


def but(itself: str, names: str) -> str:
    return " ".join(name for name in names.split() if name != itself)
