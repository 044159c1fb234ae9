"""Owns the pods' bridge: made where it is not there, up, and with the MTU that fits.

One that is there already (made by the CNI plugin, or by hand) is brought up and gets the MTU, but not our alias: it is
never removed. Its ports and their hairpin mode are left to kernel/bridge.py, its addresses to the CNI plugin.
"""

from __future__ import annotations

import errno
from typing import Final

from kuberouter_py.kernel import rtnetlink
from kuberouter_py.kernel.links import find_link
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.kernel.rtnetlink import IFF_UP, LinkMessage
from kuberouter_py.model.names import POD_BRIDGE_ALIAS
from kuberouter_py.model.podnet import PodBridge
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused

DOWN: Final = PodBridge(-1)  # equal to nothing that is wanted
_KIND: Final = "bridge"


class PodBridges:
    """Table[str, PodBridge]: name -> bridge. Every bridge that does not bear our alias is foreign. One whose MTU was
    left as it is reads so, in the process that did it.
    """

    name = "pod bridges"

    def __init__(self, batch: Batch) -> None:
        """batch: of NETLINK_ROUTE."""
        self._batch = batch
        self._mtu_as_it_is: set[str] = set()

    def read(self) -> Actual[str, PodBridge]:
        actual: Actual[str, PodBridge] = Actual({})
        for link in map(rtnetlink.read_link, self._batch.dump(rtnetlink.all_links())):
            if link.kind == _KIND:
                (actual.ours if _is_ours(link) else actual.foreign)[link.name] = self._value(link)
        return actual

    def apply(self, plan: Plan[str, PodBridge]) -> dict[str, Refused]:
        wanted = {**plan.add, **{name: new for name, (_old, new) in plan.change.items()}}
        refused: dict[str, Refused] = {}
        for name in [*wanted, *plan.remove]:
            try:
                number = self._bring(name, wanted[name]) if name in wanted else self._remove(name)
            except EdgeError as error:
                refused[name] = Refused(str(error))
                continue
            if number:
                hint = "; on the host, try: modprobe bridge" if number == errno.EOPNOTSUPP else ""
                missing = number in (errno.EOPNOTSUPP, errno.EPERM)
                refused[name] = Refused(f"link {name}: {error_text(number)}{hint}", missing)
        return refused

    def _value(self, link: LinkMessage) -> PodBridge:
        if not link.flags & IFF_UP:
            return DOWN
        return PodBridge(0 if link.name in self._mtu_as_it_is else link.mtu)

    def _bring(self, name: str, bridge: PodBridge) -> int:
        """The error's number, or 0. Raises EdgeError."""
        found = find_link(self._batch, name)
        if found is not None and found.kind != _KIND:
            raise EdgeError(f"link {name} is there already, of kind {found.kind or 'hardware'}")
        (self._mtu_as_it_is.discard if bridge.mtu else self._mtu_as_it_is.add)(name)
        if found is None:
            messages = [rtnetlink.new_link(name, _KIND, up=False), rtnetlink.describe(name, POD_BRIDGE_ALIAS)]
        else:
            messages = []
        messages.append(rtnetlink.adjust_link(name, bridge.mtu))
        failed = self._batch.send(messages)
        if failed and found is None and 0 not in failed:
            self._batch.send([rtnetlink.delete_named(name)])
        return next(iter(failed.values()), 0)

    def _remove(self, name: str) -> int:
        """Also with ports: they lose their master, as when the node's last pod went. Raises EdgeError."""
        self._mtu_as_it_is.discard(name)
        found = find_link(self._batch, name)
        if found is None or not _is_ours(found):
            return 0
        number = self._batch.send([rtnetlink.delete_link(found.index)]).get(0, 0)
        return 0 if number == errno.ENODEV else number


def _is_ours(link: LinkMessage) -> bool:
    return link.kind == _KIND and link.alias == POD_BRIDGE_ALIAS
