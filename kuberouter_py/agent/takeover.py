"""`kuberouter-py takeover`: moves this node over from a kube-proxy or kube-router that has ended, once.

Where our agent runs on the node, it has put ours in place already: then this only makes sure that nothing is missing.
Else one sync does it here, and the agent that is started afterwards adopts what it finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kuberouter_py.agent.carrying import Carrying, carry_over, remember
from kuberouter_py.agent.controllers import firewall_controller, services_controller
from kuberouter_py.agent.edges import ServicesEdges
from kuberouter_py.agent.firewall_edges import FirewallEdges
from kuberouter_py.agent.once import listed
from kuberouter_py.agent.others import Found, Others
from kuberouter_py.agent.source import KINDS_OF_SERVICES, Source, kinds_of, node_name
from kuberouter_py.config import Config
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.takeover.differences import Compared
from kuberouter_py.controllers.takeover.served import mode
from kuberouter_py.model.others import IPVS_LINK, Gone
from kuberouter_py.ports import EdgeError

DONE, DIFFERENT = 0, 2

Tell = Callable[[str], None]


class NotNow(EdgeError):
    """The node was not taken over; nothing of the other proxy was removed."""


def take_over(config: Config, *, agent_runs: bool, tell: Tell) -> int:
    """The exit status: 0 done, or nothing to do; 2 there are differences, and nothing was written. Raises EdgeError."""
    others = Others(config)
    found = others.look()
    if found.signs:
        raise NotNow("; ".join(map(str, found.signs)) + ". End it first: nothing is taken over from a living proxy")
    if not found.owners:
        tell("no kube-proxy or kube-router has left anything on this node")
        return DONE
    if found.remains.unread:
        raise NotNow(f"what {found} left cannot be read: {'; '.join(found.remains.unread)}")
    tell(f"{found} has ended and left its state on this node")
    if blind := others.blind():
        tell(f"note: {blind}")
    carrying = _with_agent(config, found) if agent_runs else carry_over(replace(config, takeover=True), found)
    _tell_carried(carrying, tell)
    enforces = agent_runs and carrying.config.run_firewall  # without an agent there is nobody to go on with policies
    kinds = kinds_of(carrying.config) if enforces else KINDS_OF_SERVICES
    with listed(carrying.config, kinds) as source:
        edges = ServicesEdges(carrying.config)
        controller = services_controller(carrying.config, edges, source.cache, looking_only=True)
        plans = controller.plan()
        compared = others.compare(found, controller, source.cache, policies_go_on=enforces)
        _tell_compared(compared, tell)
        if compared.differences and not config.accept_differences:
            tell("nothing was written; --accept-differences takes over all the same")
            return DIFFERENT
        if not agent_runs:
            remember(carrying)
            _put_in_place(controller, found)
        elif plans or (enforces and _firewall_plans(carrying.config, source)):
            raise NotNow(
                "the agent on this node has not put everything in place: `kuberouter-py plan` says what is missing, "
                "`kuberouter-py status` why"
            )
        gone = others.remove(found, controller.frontends(), source.kubelet_version(node_name(config)))
        if not agent_runs:
            controller.first_sync()  # with kube-ipvs0 routes may have gone that hid ours
    _tell_gone(gone, tell)
    return DONE


def _with_agent(config: Config, found: Found) -> Carrying:
    """The running agent's configuration is the one that counts. Raises NotNow where it has to change over itself."""
    if config.takeover:
        raise NotNow("the agent on this node runs with --takeover and does that itself, see `kuberouter-py status`")
    if found.remains.ipvs_link is not None:
        raise NotNow(
            f"the agent on this node leaves the addresses on {IPVS_LINK} where they are; started with --takeover, it "
            "changes over without a gap"
        )
    return Carrying(config)


def _firewall_plans(config: Config, source: Source) -> bool:
    """Whether anything of the firewall is not in place."""
    return bool(firewall_controller(config, FirewallEdges(config, load_modules=False), source.cache).plan())


def _put_in_place(controller: ServicesController, found: Found) -> None:
    if mode(found.remains) in ("iptables", "nftables"):
        controller.stand_aside_first()
    controller.first_sync()
    if missing := controller.missing():
        told = "; ".join(missing[:10])
        raise NotNow(f"not all of ours is in place, so that nothing of the other proxy's is removed: {told}")


def _tell_carried(carrying: Carrying, tell: Tell) -> None:
    for notice in carrying.notices:
        tell(f"note: {notice}")
    if carrying.flags:
        tell("carried over until the next boot, to be written into the agent's flags:")
        for flag in carrying.flags:
            tell(f"  {flag}")


def _tell_compared(compared: Compared, tell: Tell) -> None:
    for difference in compared.differences:
        tell(f"not served any more: {difference}")
    if compared.stale:
        tell(f"served for no Service of the cluster, and gone with it: {', '.join(compared.stale)}")


def _tell_gone(gone: Gone, tell: Tell) -> None:
    for chain in gone.kept:
        tell(f"stays: {chain}")
    done = ", ".join(f"{number} {kind}" for kind, number in gone.done.items())
    tell(f"taken over; removed: {done or 'nothing'}")
    if gone.failed:
        raise EdgeError("taken over, but not everything was removed: " + "; ".join(gone.failed))
