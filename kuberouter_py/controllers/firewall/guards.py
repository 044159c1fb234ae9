"""Guards: one chain for every set of policies that select a local pod, in one direction. Pure.

Pods with the same policies share a guard and enter or leave it by membership of its set: iptables is needed when a
policy changes, and not when a pod does.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView, Sequence

from kuberouter_py.controllers.firewall.rules import DIRECTIONS, EGRESS, rules_of
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.model.names import FIREWALL_CHAINS, fingerprint, firewall_set
from kuberouter_py.model.policies import NetworkPolicy

_ROOM = 200  # bytes of policies' names


class Guard:
    """policies: those that isolate its pods, in the order of their names; at least one. selectors: whom they select.

    name: not of what the policies allow: that may change, and the guard stays. A policy that selects others makes other
    guards: what it says to those whom it leaves stays as it was until they have left. The name is made once, and a
    guard is looked up by it.
    """

    __slots__ = ("chain", "direction", "name", "policies", "selectors")

    def __init__(self, direction: str, policies: Sequence[NetworkPolicy]) -> None:
        self.direction = direction
        self.policies = tuple(policy.key for policy in policies)
        self.selectors = tuple(policy.pods for policy in policies)
        words = [word for policy in policies for word in (*policy.key, *policy.pods.words())]
        self.name = f"{direction[0]}-{fingerprint(direction, *words)}"
        self.chain = guard_chain(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guard) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def words(self) -> str:
        """Its policies, as far as a comment in iptables has room (255 bytes, xt_comment.h, ours among them)."""
        told = [f"{policy.namespace}/{policy.name}" for policy in self.policies]
        shown, room = [], _ROOM + len(", ")
        for word in told:
            room -= len(word) + len(", ")
            if room < 0:
                break
            shown.append(word)
        shown = shown or [f"{told[0][:_ROOM]}..."]
        more = f" and {len(told) - len(shown)} more" if len(told) > len(shown) else ""
        return f'-m comment --comment "{", ".join(shown)}{more}"'

    def pods_set(self, family: int) -> str:
        return firewall_set(self.name, family)


def guard_chain(name: str) -> str:
    return f"{FIREWALL_CHAINS}{name.upper()}"


def guards_of(world: World, pod: Pod) -> dict[str, Guard]:
    """By direction; a direction that no policy isolates is absent."""
    found = {}
    selecting = world.selecting(pod)
    for direction in DIRECTIONS:
        isolating = [each for each in selecting if rules_of(each, direction) is not None]
        if isolating:
            found[direction] = Guard(direction, isolating)
    return found


def policies_of(world: World, guard: Guard) -> list[NetworkPolicy] | None:
    """None: one of them is not what the guard is for any more, and pods are about to leave it."""
    found = []
    for key, selector in zip(guard.policies, guard.selectors, strict=True):
        policy = world.policy(key)
        if policy is None or policy.pods != selector or rules_of(policy, guard.direction) is None:
            return None
        found.append(policy)
    return found


class Guards:
    """Which local pod wants which guard, and which pods a guard has."""

    def __init__(self) -> None:
        self._wanted: dict[ObjectKey, dict[str, Guard]] = {}
        self._pods: dict[Guard, set[ObjectKey]] = {}
        self._of_policy: dict[ObjectKey, set[Guard]] = {}
        self._idle: set[Guard] = set()
        self.version = 0  # another one when other guards are known

    def want(self, pod: ObjectKey, guards: dict[str, Guard]) -> set[Guard]:
        """What it wants from now on; returns the guards that are new by it."""
        before = self._wanted.pop(pod, {})
        if guards:
            self._wanted[pod] = guards
        for guard in before.values():
            self._pods[guard].discard(pod)
        new = set()
        for guard in guards.values():
            if guard not in self._pods:
                new.add(guard)
                self.version += 1
                self._pods[guard] = set()
                for policy in guard.policies:
                    self._of_policy.setdefault(policy, set()).add(guard)
            self._pods[guard].add(pod)
            self._idle.discard(guard)
        self._idle.update(guard for guard in before.values() if not self._pods[guard])
        return new

    def wanted(self, pod: ObjectKey) -> dict[str, Guard]:
        return self._wanted.get(pod, {})

    def of(self, pods: Iterable[ObjectKey]) -> set[Guard]:
        """Every guard that one of them wants."""
        return {guard for pod in pods for guard in self.wanted(pod).values()}

    def pods(self, guard: Guard) -> set[ObjectKey]:
        return self._pods.get(guard, set())

    def of_policy(self, policy: ObjectKey) -> set[Guard]:
        """Idle ones too, for as long as they stand."""
        return self._of_policy.get(policy, set())

    def known(self) -> KeysView[Guard]:
        return self._pods.keys()

    def idle(self) -> set[Guard]:
        """Those that have no pod any more."""
        return set(self._idle)

    def drop(self, guard: Guard) -> None:
        self.version += 1
        self._idle.discard(guard)
        self._pods.pop(guard, None)
        for policy in guard.policies:
            held = self._of_policy.get(policy)
            if held is not None:
                held.discard(guard)
                if not held:
                    del self._of_policy[policy]


def is_egress(name: str) -> bool:
    return name.startswith(EGRESS[0] + "-")
