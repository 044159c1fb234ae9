"""The other Service proxies of this node, looked at: what they left, whether they live, what we would not serve of
theirs. Used by the running agent (beside.py) and by `kuberouter-py takeover` (takeover.py).
"""

from __future__ import annotations

from typing import NamedTuple

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.takeover.alive import HOSTS, signs
from kuberouter_py.controllers.takeover.differences import Compared, compare, policies_end
from kuberouter_py.controllers.takeover.kubelets import kept_for_kubelet
from kuberouter_py.controllers.takeover.served import (
    direct_return_marks,
    mark_servers,
    mode,
    owners,
    policy_chains,
    served,
    virtual_servers,
)
from kuberouter_py.kernel.others import OthersInKernel
from kuberouter_py.kernel.processes import Processes, listeners
from kuberouter_py.model.kernel import ServerKey, VirtualServerKey
from kuberouter_py.model.names import VIP_LINK
from kuberouter_py.model.others import PROXY, ROUTER_POLICIES, Away, Gone, Other, Owner, Part, Remains, Sign
from kuberouter_py.watchers.cache import Cache


class Found(NamedTuple):
    """What one look at the node found."""

    remains: Remains
    owners: frozenset[Owner]
    signs: tuple[Sign, ...]

    @property
    def enforced(self) -> bool:
        """Whether it enforced policies."""
        return ROUTER_POLICIES in self.owners

    def __str__(self) -> str:
        """ "kube-proxy (ipvs mode), kube-router"; "" where there is nothing of anybody."""
        how = mode(self.remains)
        names = {owner.other: f" ({how} mode)" if owner == PROXY and how else "" for owner in self.owners}
        return ", ".join(f"{name}{detail}" for name, detail in sorted(names.items()))


class Others:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._kernel = OthersInKernel((config.vip_link, VIP_LINK))
        self._processes = Processes((*Other, "hyperkube", *HOSTS))

    def look(self) -> Found:
        """Everything. Raises EdgeError."""
        remains = self._kernel.read()
        found = owners(remains)
        return Found(remains, found, signs(self._processes.read(), listeners(), found))

    def glance(self) -> tuple[Sign, ...]:
        """Whether one is alive, as cheaply as can be: the kernel is looked at only where that decides. Raises
        EdgeError.
        """
        processes = self._processes.read()
        found = signs(processes, (), ())
        if any(sign.owner.part is Part.SERVICES for sign in found):
            return found
        answers = listeners()
        if answers or any(process.name.startswith(HOSTS) for process in processes):
            return signs(processes, answers, owners(self._kernel.read()))
        return found

    def blind(self) -> str:
        """Why a living one might not be seen; "" where it would be."""
        if self._processes.sees_the_machine():
            return ""
        return "only processes of this process namespace are seen (hostPID shows all), and who answers on 10249, 10256"

    def remove(self, found: Found, wanted: frozenset[ServerKey], kubelet: str) -> Gone:
        theirs = virtual_servers(found.remains) | mark_servers(found.remains)
        unwanted = frozenset(key for key in theirs - wanted if not self._is_excluded(key))
        marks, kept = direct_return_marks(found.remains), kept_for_kubelet(kubelet, found.remains)
        return self._kernel.remove(found.remains, Away(found.owners, unwanted, marks, kept))

    def compare(self, found: Found, controller: ServicesController, cache: Cache, *, policies_go_on: bool) -> Compared:
        """controller: has decided everything (`plan`), and need not have written anything. policies_go_on: our firewall
        enforces them.
        """
        theirs = served(found.remains)
        services = filter(None, map(cache.service, cache.service_keys()))
        compared = compare(
            theirs, controller.frontends(), services, controller.families(), {*filter(self._is_excluded, theirs)}
        )
        ending = policies_end(policy_chains(found.remains)) if found.enforced and not policies_go_on else ()
        return compared._replace(differences=(*compared.differences, *ending))

    def _is_excluded(self, key: ServerKey) -> bool:
        return isinstance(key, VirtualServerKey) and any(key.address in cidr for cidr in self._config.excluded_cidrs)
