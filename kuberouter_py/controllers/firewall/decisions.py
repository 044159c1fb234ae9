"""DECIDE, for all that was rung: claims at the reconciler, in the stages that keep every moment safe (P5.06).

grow()     what is spoken of stands: sets, their members, guards that are new, and the chains that lead to the guards
enter()    pods are in the guards that they want, beside those that they were in: both must allow
isolate()  they are isolated as they should be, beside what they were isolated for
replace()  guards that stood say what they should: they may allow more, now that everything new denies
move()     pods are in the sets of peers that they belong in, and in no other
release()  they are isolated for nothing else
leave()    they are out of the guards that they do not want any more
tidy()     guards that nobody wants and sets that no rule speaks of are given up

After each, the controller writes. A pod whose new guard could not be written stays in its last good one, isolated and a
peer as it was; one that has none is closed. What the cluster says is world.py's, who is in which set peers.py's, what a
policy means in iptables rules.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.claims import Item, Share
from kuberouter_py.controllers.firewall import chains as fixed
from kuberouter_py.controllers.firewall.concerned import Concerned
from kuberouter_py.controllers.firewall.guards import Guard, Guards, guard_chain, guards_of, policies_of
from kuberouter_py.controllers.firewall.intake import Intake
from kuberouter_py.controllers.firewall.membership import Membership
from kuberouter_py.controllers.firewall.notes import Notes, bridge_notes
from kuberouter_py.controllers.firewall.peers import Peers, PeerSet
from kuberouter_py.controllers.firewall.population import Population
from kuberouter_py.controllers.firewall.rules import EGRESS, allowed
from kuberouter_py.controllers.firewall.rung import POD, Rung
from kuberouter_py.controllers.firewall.sets import Need, block_members, families_of, header, holds_peers
from kuberouter_py.controllers.firewall.standing import CHAINS, FILTER, MEMBERS, SETS, SYSCTLS, Standing, led_to
from kuberouter_py.controllers.firewall.view import BRIDGE_NF, View
from kuberouter_py.controllers.firewall.world import World
from kuberouter_py.controllers.reconcile import Reconciler
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import Chain, IpSet, Rules, SetMember
from kuberouter_py.model.policies import IpBlock
from kuberouter_py.ports import PoliciesOfCluster, Refused

Dirty = dict[str, set[Any]]


class Decisions:
    """view: this node; see look(). notes: for who reports."""

    def __init__(self, config: Config, node_name: str, cluster: PoliciesOfCluster, reconciler: Reconciler) -> None:
        self._config = config
        self._node_name = node_name
        self._reconciler = reconciler
        self.view = View()
        self.world = World(node_name)
        self.peers = Peers(self.world)
        self.guards = Guards()
        self.notes = Notes()
        self.membership = Membership(config, self.world, self.guards)
        self.standing = Standing(reconciler)
        self._population = Population(self.peers)
        self.concerned = Concerned()
        self._intake = Intake(
            cluster, self.world, self.peers, self.guards, self._population, self.concerned, self.notes
        )
        self._written_for: dict[Guard, frozenset[Need]] = {}  # what a guard's rules speak of, as decided last
        self._lead_anew = True
        self._led: set[str] = set()  # names of the guards that ways lead to, as claimed last
        self._led_as_of: tuple[int, ...] = ()
        self._replaced: set[Chain] = set()  # of guards that stand, whose new rules wait for replace()
        self._late: set[SetMember] = set()  # wait for move()
        self._outgrown: set[Guard] = set()  # guards whose rules before spoke of more: until those of now are written
        self._tidy = True

    @property
    def unknown_are(self) -> str:
        """What becomes of an address of this node's pods that was not decided yet."""
        if not self._config.netpol_default_deny:
            return "open (--netpol-default-deny=false)"
        return "closed" if self.view.pod_cidrs else "open (--netpol-default-deny has no podCIDRs to go by)"

    # -- what was rung ---------------------------------------------------------------------------------------------

    def take_all(self) -> None:
        """Everything there is."""
        self._intake.take_all()
        self._population.begin()

    def take(self, rung: Iterable[Rung]) -> None:
        self._intake.take(rung)

    def look(self, view: View) -> None:
        """The node is so now."""
        if view == self.view:
            return
        if view.families != self.view.families:
            self._intake.recompile |= self.guards.known()
            self._population.look_at(self.world.pods)
            self._intake.targets.update(pod.key for pod in self.world.local())
        self.view = view
        self._lead_anew = True

    # -- the stages ------------------------------------------------------------------------------------------------

    def grow(self, dirty: Dirty) -> None:
        for key in self._intake.targets:
            pod = self.world.pods.get(key)
            self.concerned.changed(self.world.addresses(key))
            wanted = guards_of(self.world, pod) if pod is not None and self.world.is_local(pod) else {}
            new = self.guards.want(key, wanted)
            self._intake.recompile |= new
            self._lead_anew = self._lead_anew or bool(new)
        for guard in self._intake.recompile & self.guards.known():
            self._compile(guard, dirty)
        self._intake.recompile = set()
        self._tidy = self._tidy or bool(self._intake.targets)
        if self._lead_anew:
            self._lead(dirty, {guard.name for guard in self.guards.known()} | self.membership.names())

    def hold_back(self, dirty: Dirty) -> None:
        """Of what is to be written: what must not be seen before isolate().

        Guards that pods are in: a policy may allow more in one direction and isolate the other as well, and whom the
        second forbids must never meet the first alone. And pods of this node in sets of peers that decide of packets
        already, from before this process: one that became a peer may be isolated by the same change.
        """
        if dirty[CHAINS]:
            held, entered = self._reconciler.held(CHAINS), set(map(guard_chain, self.membership.names()))
            self._replaced |= {key for key in dirty[CHAINS] if key in held and key.chain in entered}
            dirty[CHAINS] -= self._replaced
        late = self._new_in_old_sets(dirty[MEMBERS])
        dirty[MEMBERS] -= late
        self._late |= late

    def _new_in_old_sets(self, members: Collection[SetMember]) -> set[SetMember]:
        there, held = self._reconciler.held(SETS), self._reconciler.held(MEMBERS)
        new = {each for each in members if each.set in there and each not in held and holds_peers(each.set)}
        if not new:
            return new
        # An earlier process may have ended as it filled a set that nobody meets: whose guard is empty still.
        met = self.standing.met_sets()
        local = {address for pod in self.world.local() for address in self.world.addresses(pod.key)}
        return {each for each in new if each.set in met and each.entry.address in local}

    def leads_astray(self) -> bool:
        """Whether ways lead to guards that are not there (then no way could be written), or not to all that are."""
        as_of = self.standing.version, self.guards.version, self.membership.version
        if self._led_as_of == as_of:
            return False
        self._led_as_of = as_of
        return self._led != self._to_be_led()

    def lead(self, dirty: Dirty) -> None:
        """Ways to the guards that are there, and to no other."""
        self._lead(dirty, self._to_be_led())

    def _to_be_led(self) -> set[str]:
        return self.standing.written(self.guards.known(), self.view.families) | self.membership.names()

    def _lead(self, dirty: Dirty, guards: Collection[str]) -> None:
        """The fixed sets and chains, with a way to these guards."""
        self._lead_anew = False
        self._led, self._led_as_of = set(guards), ()
        self._claim({"node": _share("node", self._node(guards))}, dirty)

    def enter(self, dirty: Dirty) -> set[ObjectKey]:
        """Returns the pods that this and the stages after it are about."""
        pods = self.membership.unsettled(self._intake.targets)
        self._intake.targets = set()
        standing = self.standing.led_to(self.view.families)
        self._claim({("in", pod): self._in(pod, standing, stay=True) for pod in pods}, dirty)
        return pods

    def isolate(self, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        self._isolate(pods, dirty, stay=True)

    def replace(self, _pods: Collection[ObjectKey], dirty: Dirty) -> None:
        dirty[CHAINS] |= self._replaced
        self._replaced = set()

    def move(self, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        come, gone = self._population.settle(self.view.families, self._waiting(pods))
        self.concerned.allowed_less(member.entry.address for member in gone)
        self.concerned.allowed_more(member.entry.address for member in come)
        self._want(come, gone, dirty)
        dirty[MEMBERS] |= self._late
        self._late = set()

    def release(self, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        self._isolate(pods, dirty, stay=False, waiting=self._waiting(pods))

    def _waiting(self, pods: Collection[ObjectKey]) -> set[ObjectKey]:
        """Who is judged by rules of before, because its own could not be written: nothing else of it changes either."""
        standing = self.standing.led_to(self.view.families)
        written = self._written(pods, standing)
        return {pod for pod in pods if self.membership.waits(pod, standing, written)}

    def _written(self, pods: Collection[ObjectKey], standing: Mapping[int, Collection[str]]) -> Callable[[Guard], bool]:
        """Whether a guard says what it is to say."""
        families = tuple(standing)
        return {guard: self.standing.as_wanted(guard, families) for guard in self.guards.of(pods)}.__getitem__

    def leave(self, pods: Collection[ObjectKey], dirty: Dirty) -> None:
        standing, waiting = self.standing.led_to(self.view.families), self._waiting(pods)
        self._claim({("in", pod): self._in(pod, standing, stay=pod in waiting) for pod in pods}, dirty)
        written = self._written(pods, standing)
        for pod in pods:
            notes = self.membership.settled(pod, standing, self.view.families, written)
            self.notes.about(POD, pod, notes)

    def has_to_tidy(self) -> bool:
        return self._tidy

    def tidy_again(self) -> None:
        """After a failure something may stand by now that did not."""
        self._tidy = True

    def tidy(self, dirty: Dirty) -> None:
        self._tidy = False
        held = self.membership.names()
        for guard in self.guards.idle():
            if guard.name not in held:
                self.guards.drop(guard)
                del self._written_for[guard]
                self._speaks_of(guard, frozenset(), dirty)
                self._claim({("guard", guard): Share((), {})}, dirty)
                self._outgrown.discard(guard)
        if self.leads_astray():
            self.lead(dirty)
        for guard in [each for each in self._outgrown if self.standing.as_wanted(each, self.view.families)]:
            self._speaks_of(guard, self._written_for[guard], dirty)
            self._outgrown.discard(guard)
        self.move((), dirty)

    def note_bridges(self, refused: Mapping[str, Refused]) -> None:
        """refused: the sysctls that could not be set."""
        reasons = [f"{key}: {refused[key].reason}" for key in BRIDGE_NF.values() if key in refused]
        isolated = sorted(pod.key for pod in self.world.local() if self.guards.wanted(pod.key)) if reasons else []
        self.notes.about("Node", None, bridge_notes(self._node_name, isolated, reasons))

    # -- flows that were allowed once ------------------------------------------------------------------------------

    def cut(self, members: Iterable[SetMember], dirty: Dirty) -> None:
        """None of these flows is to be picked up again."""
        self._claim({("cut", member): _share(("cut", member), _members([member])) for member in members}, dirty)

    def end_cut(self, members: Iterable[SetMember], dirty: Dirty) -> None:
        self._claim({("cut", member): Share((), {}) for member in members}, dirty)

    # -- what stands -----------------------------------------------------------------------------------------------

    def as_if_written(self, dirty: Dirty) -> None:
        """The stages after grow(), had everything been written that was claimed."""
        standing = led_to(self._reconciler.wanted(CHAINS), self.view.families)
        pods, self._intake.targets = self._intake.targets, set()
        self.move((), dirty)
        self._claim({("isolated", pod): self._isolated(pod, standing, stay=False) for pod in pods}, dirty)
        self._claim({("in", pod): self._in(pod, standing, stay=False) for pod in pods}, dirty)

    def chains_left_behind(self) -> Dirty:
        return {CHAINS: self.standing.chains_left_behind()}

    def sets_left_behind(self) -> Dirty:
        names = self.standing.sets_left_behind()
        members = {key for key in self._reconciler.unwanted(MEMBERS) if key.set in names} if names else set()
        return {SETS: names, MEMBERS: members}

    # -- shares ----------------------------------------------------------------------------------------------------

    def _claim(self, shares: Mapping[Any, Share], dirty: Dirty) -> None:
        for name, found in self._reconciler.claim(shares).items():
            dirty[name] |= found

    def _compile(self, guard: Guard, dirty: Dirty) -> None:
        """Its rules as decided now. Until they are written, what the ones before speak of is kept as well."""
        policies = policies_of(self.world, guard)
        if policies is None:
            return
        pods = self.guards.pods(guard)
        self.concerned.changed([address for pod in pods for address in self.world.addresses(pod)])
        items: list[Item] = []
        needs: set[Need] = set()
        last = f"{guard.words()} -g {fixed.REFUSE_FROM if guard.direction == EGRESS else fixed.REFUSE_TO}"
        for family in self.view.families:
            rules, spoken = allowed(policies, guard.direction, family)
            needs |= spoken
            items.append(Item(SETS, guard.pods_set(family), IpSet("hash:ip", family)))
            items.append(Item(CHAINS, Chain(family, FILTER, guard.chain), Rules((*rules, last))))
        self._written_for[guard] = frozenset(needs)
        if not self.peers.used(guard) <= needs:
            self._outgrown.add(guard)
        self._speaks_of(guard, self.peers.used(guard) | needs, dirty)
        self._claim({("guard", guard): _share(("guard", guard), items)}, dirty)
        self._tidy = True

    def _speaks_of(self, guard: Guard, needs: frozenset[Need], dirty: Dirty) -> None:
        come, gone = self.peers.use(guard, needs)
        for each in come:  # at once; of others it is in or not, a pod is moved when it is in its guards
            self._want(self._population.fill(each, self.view.families), (), dirty)
        for each in gone:
            self._population.look_at_in(self.peers.in_set(each.need), each)
        shares = {("set", each.need): Share((), {}) for each in gone}
        shares.update((("set", each.need), _share(("set", each.need), self._set(each))) for each in come)
        self._claim(shares, dirty)

    def _set(self, peers: PeerSet) -> Iterator[Item]:
        need = peers.need
        for family in families_of(need, self.view.families):
            yield Item(SETS, peers.names[family], header(need, family))
            if isinstance(need, IpBlock):
                for member, value in block_members(need, family):
                    yield Item(MEMBERS, member, value)

    def _want(self, come: Collection[SetMember], gone: Collection[SetMember], dirty: Dirty) -> None:
        self._reconciler.want(MEMBERS, ((member, None) for member in come), gone)
        dirty[MEMBERS].update(come, gone)

    def _node(self, guards: Collection[str]) -> Iterator[Item]:
        for family in self.view.families:
            if self.view.bridges:  # pods of one bridge are judged only if what passes between them comes to iptables
                yield Item(SYSCTLS, BRIDGE_NF[family], "1")
            for name, kind in fixed.sets(self._config, family):
                yield Item(SETS, name, kind)
            for chain, rules in fixed.chains(self._config, self.view, family, guards):
                yield Item(CHAINS, chain, rules)

    def _in(self, pod: ObjectKey, standing: Mapping[int, Collection[str]], *, stay: bool) -> Share:
        return _share(("in", pod), _members(self.membership.guards(pod, standing, stay=stay)))

    def _isolate(
        self, pods: Collection[ObjectKey], dirty: Dirty, *, stay: bool, waiting: Collection[ObjectKey] = ()
    ) -> None:
        standing = self.standing.led_to(self.view.families)
        self._claim(
            {("isolated", pod): self._isolated(pod, standing, stay=stay, waits=pod in waiting) for pod in pods}, dirty
        )

    def _isolated(
        self, pod: ObjectKey, standing: Mapping[int, Collection[str]], *, stay: bool, waits: bool = False
    ) -> Share:
        members = self.membership.isolation(pod, standing, self.view.families, stay=stay, waits=waits)
        return _share(("isolated", pod), _members(members))


def _share(claim: Hashable, items: Iterable[Item]) -> Share:
    unit = tuple(items)
    return Share((), {claim: unit} if unit else {})


def _members(members: Iterable[SetMember]) -> Iterator[Item]:
    return (Item(MEMBERS, member, None) for member in members)
