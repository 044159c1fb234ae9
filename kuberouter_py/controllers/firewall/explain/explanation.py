"""One connection: what the policies say, what this node's rules do with it, as decided and in the kernel. Pure.

The policies are judged by judge.py, the rules are followed by reading.py: two readings that know nothing of each other,
so that where they differ something is not as it should be (yet), and is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall.explain.known import KnownPolicies
from kuberouter_py.controllers.firewall.explain.states import Actual, Decided
from kuberouter_py.controllers.firewall.judge import Attempt, Case, Cluster, Direction, Side, Verdict, case_of, verdict
from kuberouter_py.controllers.firewall.rung import POD
from kuberouter_py.controllers.firewall.standing import CHAINS, MEMBERS, SETS, SYSCTLS
from kuberouter_py.controllers.firewall.view import BRIDGE_NF
from kuberouter_py.controllers.matches import Packet
from kuberouter_py.controllers.reading import Met, pass_hook
from kuberouter_py.model.cluster import Namespace, ObjectKey, Pod
from kuberouter_py.model.kernel import Chain, Rules, SetEntry, SetMember, family_of
from kuberouter_py.model.names import CONNMARK_SERVICE
from kuberouter_py.model.notation import key_text
from kuberouter_py.model.notation_sets import entry_text
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.ports import FirewallLookups, Refused

FORWARD, INPUT, OUTPUT = "FORWARD", "INPUT", "OUTPUT"


class Frontend(NamedTuple):
    address: bytes
    port: int


class Connection(NamedTuple):
    """hook: where this node's rules meet its first packet. own: a process of this node sends it. frontend: of the
    Service that led it here; the rules meet it at INPUT as well then, before ip_vs.
    """

    attempt: Attempt
    hook: str = FORWARD
    own: bool = False
    frontend: Frontend | None = None

    @property
    def hooks(self) -> tuple[str, ...]:
        return (INPUT, self.hook) if self.frontend and not self.own else (self.hook,)


@dataclass(frozen=True)
class Moment:
    """What answers are made of, taken between two syncs. pod_notes: of those that are closed or under earlier rules."""

    node: str
    policies: Sequence[NetworkPolicy]
    pods: Sequence[Pod]
    namespaces: Sequence[Namespace]
    decided: Decided
    refused: Mapping[tuple[str, object], Refused]
    pod_notes: Mapping[ObjectKey, Sequence[str]]

    @cached_property
    def cluster(self) -> Cluster:
        return Cluster(self.policies, self.pods, self.namespaces)


def moment(known: KnownPolicies) -> Moment:
    """What needs the controller to stand still."""
    notes: dict[ObjectKey, list[str]] = {}
    for note in known.notes:
        if note.kind == POD and note.owner is not None:
            notes.setdefault(note.owner, []).append(note.message)
    return Moment(
        node=known.node,
        policies=known.cluster.policies(),
        pods=known.cluster.pods_in_full(),
        namespaces=known.cluster.namespaces(),
        decided=Decided(known),
        refused=known.refused,
        pod_notes=notes,
    )


class Passed(NamedTuple):
    """Through one state's rules. asked: what sets were asked on the way."""

    allowed: bool
    met: tuple[Met, ...]
    unread: tuple[Met, ...]
    asked: Mapping[SetMember, bool]


@dataclass(frozen=True)
class Path:
    """here: the directions that this node judges, for the pod is its own. decided: None where its rules have nothing to
    do with it. notes: of the ends' pods. refused: what of the rules on its way the kernel does not take.
    """

    connection: Connection
    case: Case
    verdict: Verdict
    here: tuple[Direction, ...]
    decided: Passed | None
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    actual: Passed | None = None
    differences: tuple[str, ...] = ()

    def side(self, direction: Direction) -> Side:
        return self.verdict.egress if direction is Direction.EGRESS else self.verdict.ingress

    @property
    def allowed_here(self) -> bool:
        """By policies, as far as this node judges."""
        return all(self.side(direction).allowed for direction in self.here)

    @property
    def passed(self) -> Passed | None:
        return self.actual or self.decided

    @property
    def allowed(self) -> bool:
        """What its sender finds: this node's rules, and what the other node's should be."""
        if self.passed is None:
            return self.verdict.allowed
        there = [self.side(direction).allowed for direction in Direction if direction not in self.here]
        return self.passed.allowed and all(there)


def explain(connection: Connection, at: Moment, *, follow: bool = True) -> Path:
    """follow: through this node's rules too, which takes a millisecond where there are a hundred guards."""
    case = case_of(connection.attempt, at.cluster)
    judged = verdict(connection.attempt, at.cluster)
    here = tuple(
        direction for direction in Direction if (pod := case.near(direction).pod) is not None and pod.node == at.node
    )
    passed = _pass(at.decided, connection) if follow else None
    concerned = passed is not None and (here or not passed.allowed)
    path = Path(connection, case, judged, here, passed if concerned else None)
    if path.decided is None:
        return path
    pods = [case.near(direction).pod for direction in here]
    return replace(
        path,
        notes=tuple(f"{pod.key}: {text}" for pod in pods if pod for text in at.pod_notes.get(pod.key, ())),
        refused=tuple(_refused(connection, path.decided, at.refused)),
        differences=tuple(_disagreements(path, path.decided, at.decided.chains)),
    )


def compared(path: Path, state: Actual, wanted: Mapping[Chain, Rules]) -> Path:
    """With what the kernel has now. Raises EdgeError."""
    if path.decided is None:
        return path
    actual = _pass(state, path.connection)
    met = {each.chain for each in (*path.decided.met, *actual.met)}
    changed = sorted(chain for chain in met if not state.is_as_written(chain))
    differences = [f"{key_text(CHAINS, chain)} is not as written" for chain in changed]
    for member in path.decided.asked.keys() & actual.asked.keys():
        if path.decided.asked[member] != actual.asked[member]:
            which = "lacks" if path.decided.asked[member] else "holds, and should not,"
            differences.append(f"ipset {member.set} {which} {entry_text(member.entry)}")
    if path.decided.allowed != actual.allowed:
        differences.append(f"so packets find it {_word(actual.allowed)}, decided is {_word(path.decided.allowed)}")
    else:
        differences += path.differences
    return replace(path, actual=actual, differences=tuple(differences))


class _State(Protocol):
    def rules(self, chain: Chain) -> Sequence[str]: ...
    def holds(self, name: str, entry: SetEntry) -> bool: ...


class _Asked:
    """reading.Tables of one walk. own: the address that is the node's, b"" none."""

    def __init__(self, state: _State, own: bytes) -> None:
        self._state = state
        self._own = own
        self.rules = state.rules
        self.answers: dict[SetMember, bool] = {}

    def holds(self, name: str, entry: SetEntry) -> bool:
        held = self._state.holds(name, entry)
        self.answers[SetMember(name, entry)] = held
        return held

    def mark_of(self, name: str, entry: SetEntry) -> int:
        return 0

    def is_local(self, address: bytes) -> bool:
        return address == self._own


def _pass(state: _State, connection: Connection) -> Passed:
    attempt = connection.attempt
    tables = _Asked(state, attempt.source if connection.own else b"")
    packet = Packet(attempt.source, attempt.destination, attempt.protocol, attempt.port)
    met: list[Met] = []
    unread: list[Met] = []
    for hook in connection.hooks:
        at_hook = packet
        if hook != connection.hook and (frontend := connection.frontend):
            at_hook = replace(
                packet, destination=frontend.address, port=frontend.port, connection_mark=CONNMARK_SERVICE
            )
        passage = pass_hook(tables, at_hook, hook, ("filter",))
        met += passage.met
        unread += passage.unread
        if passage.lost:
            break
    return Passed(not passage.lost, tuple(met), tuple(unread), tables.answers)


def _disagreements(path: Path, passed: Passed, chains: Mapping[Chain, Rules]) -> Iterator[str]:
    """Between the policies and the rules. A pod that is closed or held back is no news: its note says so."""
    if passed.allowed == path.allowed_here or path.notes:
        return
    family = family_of(path.connection.attempt.destination)
    if Chain(family, "filter", fixed.PODS) not in chains:
        yield f"this node has no rules for IPv{family}: its policies are not enforced there"
    else:
        said = "allow" if path.allowed_here else "deny"
        yield f"the policies {said} it, and the rules as decided do not: the next sync should bring them"


def _refused(connection: Connection, passed: Passed, standing: Mapping[tuple[str, object], Refused]) -> Iterator[str]:
    """Of what it meets or asks, and of whole tables; and what leads it from one port of a bridge to another past all
    rules.
    """
    bridged = BRIDGE_NF[family_of(connection.attempt.destination)] if connection.hook == FORWARD else None
    chains = {each.chain for each in passed.met}
    sets = {member.set for member in passed.asked}
    for (table, key), refused in standing.items():
        concerned = (
            key is None
            or (table == CHAINS and key in chains)
            or (table == SETS and key in sets)
            or (table == MEMBERS and key in passed.asked)
            or (table == SYSCTLS and key == bridged)
        )
        if concerned:
            yield f"{table if key is None else key_text(table, key)}: {refused.reason}"


def _word(allowed: bool) -> str:
    return "allowed" if allowed else "denied"


def actual_state(lookups: FirewallLookups, at: Moment) -> Actual:
    """One for all connections. Raises EdgeError."""
    return Actual(lookups, lookups.chains(), at.decided.chains)


def headline(path: Path, because: str) -> str:
    """because: the judge's reason, in words."""
    word = _word(path.allowed)
    if path.allowed == path.verdict.allowed:
        return f"{word}: {because}"
    if path.notes and not path.allowed:
        return f"{word}: {'; '.join(path.notes)} (its policies would allow it)"
    return f"{word} by this node's rules, and should be {_word(path.verdict.allowed)}: {because}"
