"""The IPVS table: virtual servers with their destinations, read whole and written as differences.

Owns the order of the messages, what an answer means for its server, and which servers are ours: those that the
ownership set names, those on a VIP of kube-dummy-if, those on a mark of our range, and those that this process wrote.
What a Service wants is decided elsewhere; bytes are ipvs_codec.py's and ipvs_table.py's, words
model/notation_servers.py's. Servers inside `excluded` and those on other marks are other people's: listed, never
touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT, ERANGE
from itertools import chain

from kuberouter_py.kernel import ipvs_codec as codec
from kuberouter_py.kernel import ipvs_table
from kuberouter_py.kernel.generic_netlink import generic_family
from kuberouter_py.kernel.ipvs_write import Writing, look
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, Batch, NetlinkError
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import (
    DestinationKey,
    MarkServerKey,
    Protocol,
    ServerKey,
    VirtualServer,
    VirtualServerKey,
    server_family,
)
from kuberouter_py.model.names import is_balancing_mark
from kuberouter_py.model.notation_servers import scheduling_options, server_option
from kuberouter_py.ports import Actual, Busy, EdgeError, Part, Plan, Refused, Unavailable

# thread-self, because the socket is of its thread's network namespace, and /proc/net of the process' first thread's.
_TABLE = "/proc/thread-self/net/ip_vs"
_READ_ATTEMPTS = 5
# The kernel keeps deleted destinations in a list for two to three minutes, the newest first, and walks it for each one
# that is added (ip_vs_trash_get_dest). Adding 100,000 back in any order took 187 s; newest first, 0.5 s.
_MANY = 500
_A_PART = 50  # servers, or ten times as many of these and their destinations: some 10 ms in the lab kernel
# Where a scheduler is tried: an address for documentation (TEST-NET-2, RFC 5737), which no packet goes to. kube-proxy
# probes at 198.51.100.0:20000 (S10.04); ours must not meet it.
_PROBE = VirtualServerKey(Protocol.TCP, bytes((198, 51, 100, 158)), 158)

Servers = dict[ServerKey, VirtualServer]


class VirtualServers:
    """ports.Table[ServerKey, VirtualServer].

    owned: (address, protocol, port) of every server that an earlier process of ours noted as ours (the ownership set).
    vip_addresses: addresses on kube-dummy-if, packed. Both are asked at each `read`; what they raise, `read` raises.
    marked: which of some servers carry either mark; where it is given, servers that appear are judged by it one by one.
    """

    name = "virtual servers"

    def __init__(
        self,
        owned: Callable[[], Collection[tuple[bytes, int, int]]],
        vip_addresses: Callable[[], Collection[bytes]],
        excluded: Sequence[Cidr] = (),
        marked: Callable[[Sequence[VirtualServerKey]], Collection[VirtualServerKey]] | None = None,
    ) -> None:
        self._owned = owned
        self._vip_addresses = vip_addresses
        self._excluded = tuple(excluded)
        self._marked = marked or self._marked_of_all
        self._batch = Batch(NETLINK_GENERIC)
        self._listing = Batch(NETLINK_GENERIC)  # of parts(), whose dump goes on while the other one writes
        self._asking = Batch(NETLINK_GENERIC)  # of whoever asks from another thread, and shall not delay a write
        self._lock = threading.RLock()
        self._messages: codec.Messages | None = None
        self._written: set[ServerKey] = set()
        self._ours: set[ServerKey] = set()  # as of the last read, like the next two
        self._foreign: set[ServerKey] = set()
        self._foreign_lines: tuple[str, ...] = ()
        self._deletion_order: Sequence[ServerKey] = ()

    @property
    def sent(self) -> int:
        """Netlink messages sent since the start."""
        return self._batch.sent + self._listing.sent + self._asking.sent

    def read(self) -> Actual[ServerKey, VirtualServer]:
        """The whole table. Raises Unavailable without ip_vs, Busy where others change it all the time."""
        with self._lock:
            messages = self._connect(again=True)
            for _ in range(_READ_ATTEMPTS):
                services = [codec.parse_service(each) for each in self._batch.dump(messages.list_servers())]
                destinations = ipvs_table.parse_table(_read_table())
                # Two looks at a table that others may write: only where both show the same servers it is one picture.
                if set(map(_place, destinations)) == {_place(service.key) for service in services}:
                    return self._sort(services, destinations)
            raise Busy(f"the IPVS table changed during each of {_READ_ATTEMPTS} reads")

    def parts(self, known: Sequence[ServerKey]) -> Iterator[Part[ServerKey, VirtualServer]]:
        """First the list of all servers, without destinations; then these, fifty servers at a time.

        One dump for each server, 0.2 ms in the lab kernel: /proc/net/ip_vs costs a tenth of that where there are few,
        but cannot be read on without starting over (ip_vs_info_array), so ten thousand cost 1 s without a pause.
        """
        listed: dict[ServerKey, codec.Service] = {}
        for page in self._listing.pages(self._connect(again=True).list_servers()):
            listed.update({service.key: service for service in map(codec.parse_service, page)})
            yield Part()
        self._remember_order(tuple(listed))
        self._foreign = foreign = self._judge(listed)
        self._ours = listed.keys() - foreign
        self._tell_foreign(listed.values(), foreign)
        yield Part()
        waiting = iter(tuple(listed))
        while looked := self._look_at(waiting, listed, foreign):
            yield looked
        for chunk in _chunks(tuple(self._order_to_add([key for key in known if key not in listed]))):
            yield self._look_for(chunk)

    def _look_at(
        self,
        waiting: Iterator[ServerKey],
        listed: Mapping[ServerKey, codec.Service],
        foreign: Collection[ServerKey],
    ) -> Part[ServerKey, VirtualServer] | None:
        """As many of those that wait as one part holds; None: none was left."""
        found: tuple[Servers, Servers] = ({}, {})
        cost = 0
        with self._lock:
            messages = self._connect()
            for key in waiting:
                destinations = codec.parse_destinations(self._batch.dump(messages.list_destinations(key)), key)
                found[key in foreign][key] = _server(listed[key], destinations)
                cost += max(10, 1 + len(destinations))
                if cost >= 10 * _A_PART:
                    break
        return Part(*found) if cost else None

    def _look_for(self, keys: Iterable[ServerKey]) -> Part[ServerKey, VirtualServer]:
        """Servers that were not listed. The list goes by position: one deleted while it was made hides another one."""
        with self._lock:
            messages = self._connect()
            gone = [key for key in keys if look(self._batch, messages, key) is None]
        return Part(gone=gone)

    def _judge(self, listed: Collection[ServerKey]) -> set[ServerKey]:
        """Which of them are foreign: as at the last read; one that has appeared since is ours where it bears a sign."""
        mine = self._ours | self._written
        foreign = {key for key in listed if key not in mine and not _on_our_mark(key)}
        fresh = [key for key in foreign if isinstance(key, VirtualServerKey) and key not in self._foreign]
        foreign.difference_update(self._marked(fresh) if fresh else ())
        if self._excluded:
            foreign.update(key for key in listed if self._is_excluded(key))
        return foreign

    def _marked_of_all(self, keys: Sequence[VirtualServerKey]) -> Collection[VirtualServerKey]:
        owned, vips = set(self._owned()), set(self._vip_addresses())
        return [key for key in keys if (key.address, key.protocol, key.port) in owned or key.address in vips]

    def apply(self, plan: Plan[ServerKey, VirtualServer]) -> dict[ServerKey, Refused]:
        """Adds, then changes, then removes. A server that exists already is adopted: it ends as the plan says.

        A scheduler that the kernel lacks is Refused(missing=True); an existing server keeps its old one then, and its
        destinations still follow the plan.
        """
        if not plan:
            return {}
        keys: Iterable[ServerKey] = chain(plan.add, plan.change, plan.remove)
        refused = {key: Refused("inside --excluded-cidrs") for key in keys if self._is_excluded(key)}
        with self._lock:
            try:
                write = Writing(self._batch, self._connect())
            except EdgeError as error:
                return dict.fromkeys(chain(plan.add, plan.change, plan.remove), Refused(str(error))) | refused
            for key in self._order_to_add(plan.add):
                if key not in refused:
                    write.add(key, plan.add[key])
            for key, (old, new) in plan.change.items():
                if key not in refused:
                    write.change(key, old, new)
            for key in self._order_to_remove(plan.remove):
                if key not in refused:
                    write.remove(key)
            refused |= write.finish()
            self._written.update(key for key in chain(plan.add, plan.change) if key not in refused)
            gone = [key for key in plan.remove if key not in refused]
            self._written.difference_update(gone)
            self._ours.difference_update(gone)
        return refused

    def foreign_lines(self) -> tuple[str, ...]:
        """Servers that were not ours when last looked for, in ipvsadm's notation."""
        return self._foreign_lines

    def look_for_foreign(self) -> None:
        """Look at the list of servers now, for foreign_lines; no write has to wait for that. Raises EdgeError."""
        services = [codec.parse_service(each) for each in self._asking.dump(self._connect().list_servers())]
        self._tell_foreign(services, self._judge([service.key for service in services]))

    def _tell_foreign(self, services: Iterable[codec.Service], foreign: Collection[ServerKey]) -> None:
        lines = (
            f"-A {server_option(one.key)} {scheduling_options(one.scheduler, one.flags, one.timeout)}"
            for one in services
            if one.key in foreign
        )
        self._foreign_lines = tuple(sorted(lines))

    def connections(self, keys: Iterable[ServerKey]) -> dict[ServerKey, dict[DestinationKey, codec.Connections]]:
        """Live counters of just these servers, one dump each; a server that is gone has none. Raises EdgeError."""
        found = {}
        with self._lock:
            messages = self._connect()
            for key in keys:
                dump = self._batch.dump(messages.list_destinations(key))
                answers = [codec.parse_connections(each, server_family(key)) for each in dump]
                found[key] = {where: counters for where, _, counters in answers}
        return found

    def statistics(self) -> dict[ServerKey, codec.Statistics]:
        """Traffic counters of every server, ours or not. Raises EdgeError."""
        found = {}
        for payload in self._asking.dump(self._connect().list_servers()):
            key, counters = codec.parse_service(payload).key, codec.parse_statistics(payload)
            if counters is not None:
                found[key] = counters
        return found

    def look_at(self, key: ServerKey) -> VirtualServer | None:
        """One server as it is now, whoever's; no write has to wait for that. Raises EdgeError."""
        return look(self._asking, self._connect(), key)

    def set_timeouts(self, tcp: int = 0, tcp_fin: int = 0, udp: int = 0) -> None:
        """Seconds that idle connections live, for the whole node (S10.03); 0 keeps the kernel's. Raises EdgeError."""
        with self._lock:
            self._batch.request(self._connect().set_timeouts(codec.Timeouts(tcp, tcp_fin, udp)))

    def timeouts(self) -> codec.Timeouts:
        with self._lock:
            messages = self._connect()
            return codec.parse_timeouts(self._batch.request(messages.make(codec.GET_CONFIG))[0])

    def probe_scheduler(self, name: str) -> bool:
        """Whether the kernel has this scheduler, or could load it now. Raises EdgeError.

        Makes and deletes a server within one system call, so nothing stays whatever happens to this process.
        """
        with self._lock:
            messages = self._connect()
            server = VirtualServer(name, 0, 0, {})
            add, delete = messages.server(codec.NEW_SERVICE, _PROBE, server), messages.delete(_PROBE)
            number = self._batch.send([add, delete]).get(0, 0)
        if number not in (0, ENOENT, ERANGE):
            raise NetlinkError(number, f"trying scheduler {name}")
        return number == 0

    def close(self) -> None:
        for batch in (self._batch, self._listing, self._asking):
            batch.close()

    def _connect(self, again: bool = False) -> codec.Messages:
        """again: ask for the family's number anew, which differs after ip_vs was unloaded and loaded."""
        if self._messages is None or again:
            family = generic_family(self._batch, "IPVS", "ip_vs")
            if self._messages is None or self._messages.family != family:
                self._messages = codec.Messages(family)
        return self._messages

    def _order_to_add(self, keys: Collection[ServerKey]) -> Collection[ServerKey]:
        """Those deleted last come first; those of which that is not known, in the order of their keys (see _MANY)."""
        if len(keys) < _MANY:
            return keys
        place = {key: -index for index, key in enumerate(self._deletion_order)}
        return sorted(keys, key=lambda key: (place.get(key, 1), _place(key)))

    def _order_to_remove(self, keys: Collection[ServerKey]) -> Collection[ServerKey]:
        """So that a process which adds them all in the order of their keys meets the one deleted last first."""
        if len(keys) < _MANY:
            return keys
        self._deletion_order = sorted(keys, key=_place, reverse=True)
        return self._deletion_order

    def _is_excluded(self, key: ServerKey) -> bool:
        return isinstance(key, VirtualServerKey) and any(key.address in cidr for cidr in self._excluded)

    def _sort(
        self, services: Sequence[codec.Service], destinations: Mapping[ServerKey, ipvs_table.Destinations]
    ) -> Actual[ServerKey, VirtualServer]:
        bearing = set(self._marked_of_all([one.key for one in services if isinstance(one.key, VirtualServerKey)]))
        ours: Servers = {}
        foreign: Servers = {}
        for service in services:
            key = service.key
            mine = key in bearing or _on_our_mark(key) or key in self._written
            side = ours if mine and not self._is_excluded(key) else foreign
            side[key] = _server(service, destinations[key])
        self._ours, self._foreign = set(ours), set(foreign)
        self._tell_foreign(services, foreign)
        self._remember_order(tuple(destinations))
        return Actual(ours, foreign)

    def _remember_order(self, listed: Sequence[ServerKey]) -> None:
        """`ipvsadm -C` deletes in the order in which the table is listed: the last full list tells it."""
        if len(listed) >= len(self._deletion_order) // 2:
            self._deletion_order = listed


def _server(service: codec.Service, destinations: ipvs_table.Destinations) -> VirtualServer:
    return VirtualServer(service.scheduler, service.flags, service.timeout, destinations)


def _on_our_mark(key: ServerKey) -> bool:
    return isinstance(key, MarkServerKey) and is_balancing_mark(key.mark)


def _place(key: ServerKey) -> tuple[int, bytes, int]:
    """To sort and to compare by: servers on marks last, the two families of a mark at one place."""
    return (1 << 8, b"", key.mark) if isinstance(key, MarkServerKey) else key


def _chunks(keys: Sequence[ServerKey]) -> Iterator[Sequence[ServerKey]]:
    return (keys[first : first + _A_PART] for first in range(0, len(keys), _A_PART))


def _read_table() -> bytes:
    try:
        with open(_TABLE, "rb", buffering=0) as table:
            return table.readall()
    except OSError as error:
        raise Unavailable(f"{_TABLE}: {error.strerror}; on the host, try: modprobe ip_vs") from error
