"""DECIDE, what depends on how much there is: whether a VIP gets an address, whether IPVS estimates rates. Pure.

The figures behind the limits are in docs/decisions/007-scale.md. Neither answer goes to and fro: an address that stands
stays, and estimation that was stopped begins again only at half the size at which it is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kuberouter_py.config import Config
from kuberouter_py.controllers.services.desired import ADDRESSES, SERVERS
from kuberouter_py.controllers.services.nodestate import ESTIMATION, SYSCTLS
from kuberouter_py.model.cluster import Service
from kuberouter_py.model.kernel import Address

# VIPs. Each further address on a link costs a walk over those before it: 5,000 take 0.9 s in all, 45,000 take 95 s.
MOST_ADDRESSES = 5_000
# Virtual servers and destinations. One timer goes through all of them every 2 s, 1 ms for each 7,000, and the packets
# of that CPU wait.
MOST_ESTIMATED = 20_000

Tables = Callable[[str], Mapping[Any, Any]]


class Scale:
    """wanted, held: the content of a table, by its name, as it is to be and as it is."""

    def __init__(self, config: Config, wanted: Tables, held: Tables) -> None:
        self._config = config
        self._by_address, self._by_route = (replace(config, vip_binding=how) for how in ("address", "route"))
        self._wanted = wanted
        self._held = held
        self._stopped = False  # estimation, by --ipvs-estimation=auto

    def config_for(self, service: Service, vips: int) -> Config:
        """The configuration with what --vip-binding=auto means for this Service. vips: how many there are in all."""
        if self._config.vip_binding != "auto":
            return self._config
        if vips <= MOST_ADDRESSES:
            return self._by_address
        wanted, held = self._wanted(ADDRESSES), self._held(ADDRESSES)
        own = [*service.cluster_ips, *service.external_ips, *service.ingress_ips]
        keys = [Address(self._config.vip_link, each) for each in own]
        return self._by_address if any(key in wanted or key in held for key in keys) else self._by_route

    def estimates(self) -> bool | None:
        """Whether IPVS is to estimate rates; None: as it was before us."""
        if self._config.ipvs_estimation != "auto":
            return self._config.ipvs_estimation == "on"
        self._stopped = self._entries() > (MOST_ESTIMATED // 2 if self._stopped else MOST_ESTIMATED)
        return False if self._stopped else None

    def _entries(self) -> int:
        """Before the first decision what an earlier process left counts, so that a restart changes nothing."""
        tables = (self._wanted(SERVERS), self._held(SERVERS))
        return max(len(table) + sum(len(server.destinations) for server in table.values()) for table in tables)

    def facts(self, vips: int, sysctl: Callable[[str], str | None]) -> dict[str, str]:
        """What `status` says. sysctl: a value that is not ours."""
        now = self._held(SYSCTLS).get(ESTIMATION) or sysctl(ESTIMATION)
        return {"vip binding": self._binding(vips), "rate estimation": self._estimation(now)}

    def _binding(self, vips: int) -> str:
        if self._config.vip_binding != "auto":
            return self._config.vip_binding
        if vips <= MOST_ADDRESSES:
            return "address (auto)"
        return f"route (auto: more than {MOST_ADDRESSES} VIPs); {len(self._wanted(ADDRESSES))} keep their addresses"

    def _estimation(self, now: str | None) -> str:
        if now == "0":
            why = "as asked" if self._config.ipvs_estimation == "off" else "as it was before"
            if self._stopped:
                why = f"auto: more than {MOST_ESTIMATED} servers and destinations"
            return f"off ({why}); the metrics have no rates"
        return "on; this kernel cannot stop it" if now is None else "on"
