"""What BIRD's answers mean: lines of its control socket to sessions and routes. Pure.

Of what it says nothing is taken that is not understood: a session or a route shows with what is known of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from kuberouter_py.bgp.replies import Line
from kuberouter_py.bgp.sessions import NODE, address_of
from kuberouter_py.model.bgp import PeerRoute, PeerState
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import family_of

# Codes of BIRD's lines.
_PROTOCOL, _DETAIL, _BFD, _ROUTE, _ATTRIBUTE = 1002, 1006, 1020, 1007, 1012
# BIRD's words for states of RFC 4271.
_STATES: Final = {"Down": "Idle", "Passive": "Active", "Close": "Idle"}
_NO_SOCKET: Final = "No listening socket"
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?")
_COUNT = re.compile(r"(\d{1,18}) (imported|filtered|exported)")
_ROUTE_LINE = re.compile(r"(\S*)\s+\S+ \[(\S+) [^]]*\](?: (\*))?")
_HOP = re.compile(r"\s+via (\S+ on \S+)")
_COMMUNITY = re.compile(r"\(([^()]*)\)")


class Counts(NamedTuple):
    imported: int = 0
    filtered: int = 0
    exported: int = 0


@dataclass
class Session:
    """What `show protocols all` says of one: labels to values, and what stands indented below a label."""

    name: str
    since: float = 0.0
    fields: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    counts: dict[int, Counts] = field(default_factory=dict)
    next_hops: dict[int, bytes] = field(default_factory=dict)

    @property
    def address(self) -> bytes:
        return address_of(self.name)

    @property
    def asn(self) -> int:
        return _number(self.fields.get("Neighbor AS", ""))

    @property
    def external(self) -> bool:
        return self.fields.get("Session", "").startswith("external")


def constant(lines: Sequence[Line]) -> str:
    """The answer to `eval`."""
    return lines[-1].text.strip()


def peers(status: Sequence[Line], protocols: Sequence[Line], bfd: Sequence[Line], now: float) -> tuple[PeerState, ...]:
    """Of `show status`, `show protocols all` and `show bfd sessions`; now: seconds since 1970.

    BIRD tells the time of its own zone, so what counts is how long ago something was.
    """
    there = next((when for line in status if "time is" in line.text and (when := _moment(line.text))), 0.0)
    states = _bfd_states(bfd)
    return tuple(_peer(each, now - max(there - each.since, 0.0), states) for each in sessions(protocols))


def _peer(session: Session, since: float, bfd: Mapping[bytes, str]) -> PeerState:
    state = session.fields.get("BGP state", "Idle")
    return PeerState(
        address=session.address,
        asn=session.asn,
        node=session.fields.get("Description", "") if session.name.startswith(NODE) else "",
        state=_STATES.get(state, state),
        since=since,
        reason=session.fields.get("Last error", ""),
        capabilities=tuple(session.capabilities),
        received={family: each.imported + each.filtered for family, each in session.counts.items()},
        accepted={family: each.imported for family, each in session.counts.items()},
        announced={family: each.exported for family, each in session.counts.items()},
        bfd=bfd.get(session.address, ""),
        hold_time=_number(session.fields.get("Hold timer", "").partition("/")[2]),
    )


def given_up(lines: Iterable[Line]) -> Iterator[bytes]:
    """Peers whose sessions BIRD gave up since it had no socket to listen on: it tries again when it is configured, and
    never by itself. Out of `show protocols`.
    """
    for line in lines:
        words = line.text.split()
        down = line.code == _PROTOCOL and words[3:4] == ["down"] and line.text.rstrip().endswith(_NO_SOCKET)
        if down and (address := address_of(words[0])):
            yield address


def sessions(lines: Iterable[Line]) -> Iterator[Session]:
    """Those of our configuration, out of `show protocols all`."""
    current: Session | None = None
    above, family = "", 0
    for line in lines:
        if line.code == _PROTOCOL:
            if current:
                yield current
            name = line.text.split(" ", 1)[0]
            current = Session(name, _moment(line.text)) if address_of(name) else None
            above, family = "", 0
        elif line.code == _DETAIL and current:
            indent = len(line.text) - len(line.text.lstrip())
            text = line.text.strip()
            label, _, value = text.partition(":")
            if text.startswith("Channel "):
                family = _number(text.removeprefix("Channel ipv"))
            elif family:
                _channel_field(current, family, label, value.strip())
            elif indent <= 4:
                above = label
                current.fields[label] = value.strip()
            elif above == "Neighbor capabilities":
                _capability(current, indent, label, value.strip())
    if current:
        yield current


def _channel_field(session: Session, family: int, label: str, value: str) -> None:
    if label == "Routes":
        session.counts[family] = Counts(**{what: int(number) for number, what in _COUNT.findall(value)})
    elif label == "BGP Next hop":
        session.next_hops[family] = _packed(value.partition(" ")[0])


def _capability(session: Session, indent: int, label: str, value: str) -> None:
    """ "Multiprotocol ipv4 ipv6": the families of a capability stand in the lines below it."""
    if indent <= 6:
        session.capabilities.append(label)
    elif label in ("AF announced", "AF supported") and value and session.capabilities:
        session.capabilities[-1] += f" {value}"


def routes_in(kept: Iterable[Line], filtered: Iterable[Line], written: Iterable[Line]) -> Iterator[PeerRoute]:
    """What a peer gave us: `show route table all protocol P all`, and the same with `filtered`. written: what BIRD
    writes into the main table, where equal routes of several peers are one with the hops of all.
    """
    hops = {route.network: route.hops for route in _routes(written)}
    for route in _routes(kept):
        shared = bool(route.hops) and route.hops <= hops.get(route.network, set())
        yield route.told(route.best or shared)
    for route in _routes(filtered):
        yield route.told(False)


def routes_out(lines: Iterable[Line], session: Session) -> Iterator[PeerRoute]:
    """What a peer got from us: `show route export P all`. BIRD shows it as it is before the session's own part is put
    to it: our AS number in front, for an external peer, and the next hop where the route has none of its own.
    """
    own = (_number(session.fields.get("Local AS", "")),) if session.external else ()
    for route in _routes(lines):
        told = route.told(True)
        hop = told.next_hop or session.next_hops.get(family_of(told.network.network), b"")
        yield told._replace(as_path=own + told.as_path, next_hop=hop)


class _Route(NamedTuple):
    network: Cidr
    best: bool
    hops: set[str]
    attributes: dict[str, str]

    def told(self, accepted: bool) -> PeerRoute:
        of = self.attributes.get
        pairs = [part for name in ("BGP.community", "BGP.large_community") for part in _COMMUNITY.findall(of(name, ""))]
        return PeerRoute(
            network=self.network,
            next_hop=_packed(of("BGP.next_hop", "").partition(" ")[0]),
            as_path=tuple(int(each) for each in re.findall(r"\d{1,10}", of("BGP.as_path", ""))),
            communities=tuple(":".join(part.replace(" ", "").split(",")) for part in pairs),
            accepted=accepted,
        )


def _routes(lines: Iterable[Line]) -> Iterator[_Route]:
    current: _Route | None = None
    network: Cidr | None = None
    for line in lines:
        if line.code == _ROUTE and (found := _ROUTE_LINE.match(line.text)):
            if current:
                yield current
            if found[1]:  # else another way to the same network
                network = _network(found[1])
            current = _Route(network, found[3] is not None, set(), {}) if network else None
        elif line.code == _ROUTE and current and (hop := _HOP.match(line.text)):
            current.hops.add(hop[1])
        elif line.code == _ATTRIBUTE and current:
            label, _, value = line.text.strip().partition(":")
            current.attributes[label] = value.strip()
    if current:
        yield current


def _bfd_states(lines: Iterable[Line]) -> dict[bytes, str]:
    words = [line.text.split() for line in lines if line.code == _BFD]
    return {address: each[2] for each in words if len(each) > 3 and (address := _packed(each[0]))}


def _moment(text: str) -> float:
    """Seconds since 1970, if it were of our zone; 0.0 where there is no time."""
    found = _TIME.search(text)
    try:
        return datetime.fromisoformat(found[0]).timestamp() if found else 0.0
    except (ValueError, OverflowError, OSError):
        return 0.0


def _number(text: str) -> int:
    found = re.match(r"\s*(\d{1,10})", text, re.ASCII)
    return int(found[1]) if found else 0


def _packed(text: str) -> bytes:
    try:
        return ip_address(text.partition("%")[0]).packed
    except ValueError:
        return b""


def _network(text: str) -> Cidr | None:
    try:
        found = ip_network(text)
    except ValueError:
        return None
    return Cidr(found.network_address.packed, found.prefixlen)
