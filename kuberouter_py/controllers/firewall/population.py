"""What of each pod the sets of peers are to hold, and what comes and goes when pods, namespaces or rules change. Pure.

A pod that changed is looked at in full; one whose namespace changed, or of whose sets one came or went, only in the
sets that this is about: a label that moves 500 pods out of one set touches nothing else of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kuberouter_py.controllers.firewall.peers import Peers, PeerSet
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import SetMember


class Population:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._members: dict[ObjectKey, tuple[SetMember, ...]] = {}  # of each pod, as settled last
        self._anew: set[ObjectKey] = set()
        self._anew_in: dict[ObjectKey, set[PeerSet]] = {}

    def look_at(self, pods: Iterable[ObjectKey]) -> None:
        self._anew.update(pods)

    def look_at_in(self, pods: Iterable[ObjectKey], peers: PeerSet) -> None:
        """These pods, in this set: otherwise they are where they were."""
        for pod in pods:
            self._anew_in.setdefault(pod, set()).add(peers)

    def fill(self, peers: PeerSet, families: Collection[int]) -> list[SetMember]:
        """A set that is new: what comes, now, whatever else of these pods is still to be settled."""
        come: list[SetMember] = []
        for pod, member in self._peers.all_members(peers, families):
            self._members[pod] = (*self._members.get(pod, ()), member)
            come.append(member)
        return come

    def begin(self) -> None:
        """Every pod is known, and no set yet: each will be filled, and nobody has to be looked at."""
        self._anew, self._anew_in = set(), {}

    def settle(
        self, families: Collection[int], but: Collection[ObjectKey] = ()
    ) -> tuple[list[SetMember], list[SetMember]]:
        """What comes and what goes. A member that goes from one pod to another is in both. but: who stays as it was."""
        come: list[SetMember] = []
        gone: list[SetMember] = []
        later, later_in = self._anew.intersection(but), {pod: self._anew_in[pod] for pod in but if pod in self._anew_in}
        for pod in self._anew - later:
            self._replace(pod, (), tuple(self._peers.members(pod, families)), come, gone)
        for pod, sets in self._anew_in.items():
            if pod not in self._anew and pod not in later_in:
                names = {name for each in sets for name in each.names.values()}
                stay = tuple(member for member in self._members.get(pod, ()) if member.set not in names)
                self._replace(pod, stay, tuple(self._peers.members_of(pod, sets, families)), come, gone)
        self._anew, self._anew_in = later, later_in
        return come, gone

    def _replace(
        self,
        pod: ObjectKey,
        stay: tuple[SetMember, ...],
        more: tuple[SetMember, ...],
        come: list[SetMember],
        gone: list[SetMember],
    ) -> None:
        before, now = self._members.pop(pod, ()), stay + more
        if now:
            self._members[pod] = now
        come += [member for member in more if member not in before]
        gone += [member for member in before if member not in now]
