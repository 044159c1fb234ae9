"""The IPVS table: virtual servers with their destinations, read whole and written as differences.

Owns the order of the messages, what an answer means for its server, and which servers are ours: those that the
ownership set names, those on a VIP of kube-dummy-if, and those that this process wrote. What a Service wants is decided
elsewhere; bytes are ipvs_codec.py's, words ipvs_notation.py's. Servers inside `excluded` and those on a firewall mark
are other people's: listed, never touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from errno import EEXIST, ENOENT, ERANGE, ESRCH
from itertools import chain

from kuberouter_py.kernel import ipvs_codec as codec
from kuberouter_py.kernel import ipvs_notation as notation
from kuberouter_py.kernel.netlink import NETLINK_GENERIC, Batch, NetlinkError, error_text, generic_family
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import Destination, DestinationKey, Protocol, VirtualServer, VirtualServerKey
from kuberouter_py.model.notation import endpoint_text
from kuberouter_py.ports import Actual, Busy, EdgeError, Plan, Refused, Unavailable

# thread-self, because the socket is of its thread's network namespace, and /proc/net of the process' first thread's.
_TABLE = "/proc/thread-self/net/ip_vs"
_READ_ATTEMPTS = 5
_AT_ONCE = 4000  # messages in memory before they are sent
# The kernel keeps deleted destinations in a list for two to three minutes, the newest first, and walks it for each one
# that is added (ip_vs_trash_get_dest). Adding 100,000 back in any order took 187 s; newest first, 0.5 s.
_MANY = 500
# Where a scheduler is tried: an address for documentation (TEST-NET-2, RFC 5737), which no packet goes to. kube-proxy
# probes at 198.51.100.0:20000 (S10.04); ours must not meet it.
_PROBE = VirtualServerKey(Protocol.TCP, bytes((198, 51, 100, 158)), 158)

Servers = dict[VirtualServerKey, VirtualServer]


class VirtualServers:
    """ports.Table[VirtualServerKey, VirtualServer].

    owned: (address, protocol, port) of every server that an earlier process of ours noted as ours (the ownership set).
    vip_addresses: addresses on kube-dummy-if, packed. Both are asked at each `read`; what they raise, `read` raises.
    """

    name = "virtual servers"

    def __init__(
        self,
        owned: Callable[[], Collection[tuple[bytes, int, int]]],
        vip_addresses: Callable[[], Collection[bytes]],
        excluded: Sequence[Cidr] = (),
    ) -> None:
        self._owned = owned
        self._vip_addresses = vip_addresses
        self._excluded = tuple(excluded)
        self._batch = Batch(NETLINK_GENERIC)
        self._lock = threading.RLock()
        self._messages: codec.Messages | None = None
        self._written: set[VirtualServerKey] = set()
        self._foreign_lines: tuple[str, ...] = ()
        self._deletion_order: Sequence[VirtualServerKey] = ()

    @property
    def sent(self) -> int:
        """Netlink messages sent since the start."""
        return self._batch.sent

    def read(self) -> Actual[VirtualServerKey, VirtualServer]:
        """The whole table. Raises Unavailable without ip_vs, Busy where others change it all the time."""
        with self._lock:
            messages = self._connect(again=True)
            for _ in range(_READ_ATTEMPTS):
                services = [codec.parse_service(each) for each in self._batch.dump(messages.list_servers())]
                destinations, _marks = codec.parse_table(_read_table())
                # Two looks at a table that others may write: only where both show the same servers it is one picture.
                if destinations.keys() == {service.key for service in services if service.key is not None}:
                    return self._sort(services, destinations)
            raise Busy(f"the IPVS table changed during each of {_READ_ATTEMPTS} reads")

    def apply(self, plan: Plan[VirtualServerKey, VirtualServer]) -> dict[VirtualServerKey, Refused]:
        """Adds, then changes, then removes. A server that exists already is adopted: it ends as the plan says.

        A scheduler that the kernel lacks is Refused(missing=True); an existing server keeps its old one then, and its
        destinations still follow the plan.
        """
        if not plan:
            return {}
        keys = chain(plan.add, plan.change, plan.remove)
        refused = {key: Refused("inside --excluded-cidrs") for key in keys if self._is_excluded(key)}
        with self._lock:
            try:
                write = _Write(self._batch, self._connect())
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
            self._written.difference_update(key for key in plan.remove if key not in refused)
        return refused

    def foreign_lines(self) -> tuple[str, ...]:
        """Servers that were not ours at the last read, those on firewall marks included, in ipvsadm's notation."""
        return self._foreign_lines

    def connections(
        self, keys: Iterable[VirtualServerKey]
    ) -> dict[VirtualServerKey, dict[DestinationKey, codec.Connections]]:
        """Live counters of just these servers, one dump each; a server that is gone has none. Raises EdgeError."""
        with self._lock:
            look = _Write(self._batch, self._connect())
            return {key: {where: counters for where, _, counters in look.destinations(key)} for key in keys}

    def statistics(self) -> dict[VirtualServerKey, codec.Statistics]:
        """Traffic counters of every server, ours or not. Raises EdgeError."""
        with self._lock:
            found = {}
            for payload in self._batch.dump(self._connect().list_servers()):
                key, counters = codec.parse_service(payload).key, codec.parse_statistics(payload)
                if key is not None and counters is not None:
                    found[key] = counters
            return found

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
        self._batch.close()

    def _connect(self, again: bool = False) -> codec.Messages:
        """again: ask for the family's number anew, which differs after ip_vs was unloaded and loaded."""
        if self._messages is None or again:
            family = generic_family(self._batch, "IPVS", "ip_vs")
            if self._messages is None or self._messages.family != family:
                self._messages = codec.Messages(family)
        return self._messages

    def _order_to_add(self, keys: Collection[VirtualServerKey]) -> Collection[VirtualServerKey]:
        """Those deleted last come first; those of which that is not known, in the order of their keys (see _MANY)."""
        if len(keys) < _MANY:
            return keys
        place = {key: -index for index, key in enumerate(self._deletion_order)}
        return sorted(keys, key=lambda key: (place.get(key, 1), key))

    def _order_to_remove(self, keys: Collection[VirtualServerKey]) -> Collection[VirtualServerKey]:
        """So that a process which adds them all in the order of their keys meets the one deleted last first."""
        if len(keys) < _MANY:
            return keys
        self._deletion_order = sorted(keys, reverse=True)
        return self._deletion_order

    def _is_excluded(self, key: VirtualServerKey) -> bool:
        return any(key.address in cidr for cidr in self._excluded)

    def _sort(
        self, services: Sequence[codec.Service], destinations: Mapping[VirtualServerKey, codec.Destinations]
    ) -> Actual[VirtualServerKey, VirtualServer]:
        owned, vips = set(self._owned()), set(self._vip_addresses())
        ours: Servers = {}
        foreign: Servers = {}
        lines = []
        for service in services:
            key = service.key
            if key is None:
                lines.append(notation.mark_text(service))
                continue
            mine = (key.address, key.protocol, key.port) in owned or key.address in vips or key in self._written
            server = VirtualServer(service.scheduler, service.flags, service.timeout, destinations[key])
            if mine and not self._is_excluded(key):
                ours[key] = server
            else:
                foreign[key] = server
                lines.append(notation.server_text(key, server.scheduler, server.flags, server.timeout))
        self._foreign_lines = tuple(sorted(lines))
        # `ipvsadm -C` deletes in the order in which the table is listed: the last full list tells it, not an empty one.
        if len(destinations) >= len(self._deletion_order) // 2:
            self._deletion_order = tuple(destinations)
        return Actual(ours, foreign)


class _Write:
    """One plan on its way into the kernel. What the kernel holds may differ from what the plan says it holds: such
    servers are looked at and written once more; what fails then is refused.
    """

    def __init__(self, batch: Batch, messages: codec.Messages) -> None:
        self._batch = batch
        self._messages = messages
        self._pending: list[bytes] = []
        self._about: list[tuple[VirtualServerKey, int, DestinationKey | None]] = []
        self._wanted: dict[VirtualServerKey, VirtualServer] = {}
        self._surprises: dict[VirtualServerKey, VirtualServer] = {}
        self._refused: dict[VirtualServerKey, Refused] = {}
        self._second_look = False
        self._packed: tuple[Mapping[DestinationKey, Destination] | None, list[tuple[DestinationKey, bytes]]] = (
            None,
            [],
        )

    def add(self, key: VirtualServerKey, server: VirtualServer) -> None:
        self._wanted[key] = server
        self._queue(self._messages.server(codec.NEW_SERVICE, key, server), key, codec.NEW_SERVICE, None)
        name = codec.server_key(key)
        for where, packed in self._pack(server.destinations):
            self._queue(self._messages.pair(codec.NEW_DEST, name, packed), key, codec.NEW_DEST, where)

    def change(self, key: VirtualServerKey, old: VirtualServer, new: VirtualServer) -> None:
        self._wanted[key] = new
        if old[:3] != new[:3]:
            self._queue(self._messages.server(codec.SET_SERVICE, key, new), key, codec.SET_SERVICE, None)
        if old.destinations is new.destinations:
            return
        name, pair = codec.server_key(key), self._messages.pair
        for where, wanted in new.destinations.items():
            present = old.destinations.get(where)
            if present != wanted:
                command = codec.NEW_DEST if present is None else codec.SET_DEST
                self._queue(pair(command, name, codec.target(where, wanted)), key, command, where)
        for where in old.destinations:
            if where not in new.destinations:
                self._queue(pair(codec.DEL_DEST, name, codec.target_key(where)), key, codec.DEL_DEST, where)

    def remove(self, key: VirtualServerKey) -> None:
        self._queue(self._messages.delete(key), key, codec.DEL_SERVICE, None)

    def finish(self) -> dict[VirtualServerKey, Refused]:
        self._send()
        self._second_look = True
        for key, wanted in self._surprises.items():
            self._refused.pop(key, None)
            try:
                present = self._look(key)
            except (EdgeError, ValueError) as error:
                self._refused[key] = Refused(str(error))
                continue
            if present is None:
                self.add(key, wanted)
            else:
                self.change(key, present, wanted)
        self._send()
        return self._refused

    def destinations(self, key: VirtualServerKey) -> Iterable[tuple[DestinationKey, Destination, codec.Connections]]:
        family = 4 if len(key.address) == 4 else 6
        answers = self._batch.dump(self._messages.list_destinations(key))
        return (codec.parse_connections(each, family) for each in answers)

    def _look(self, key: VirtualServerKey) -> VirtualServer | None:
        try:
            service = codec.parse_service(self._batch.request(self._messages.get_server(key))[0])
        except NetlinkError as error:
            if error.errno == ESRCH:
                return None
            raise
        present = {where: destination for where, destination, _ in self.destinations(key)}
        return VirtualServer(service.scheduler, service.flags, service.timeout, present)

    def _pack(self, destinations: Mapping[DestinationKey, Destination]) -> list[tuple[DestinationKey, bytes]]:
        """Frontends of one Service port follow each other and share one mapping: packed once for all of them."""
        if self._packed[0] is not destinations:
            packed = [(where, codec.target(where, destination)) for where, destination in destinations.items()]
            self._packed = destinations, packed
        return self._packed[1]

    def _queue(self, message: bytes, key: VirtualServerKey, command: int, where: DestinationKey | None) -> None:
        self._pending.append(message)
        self._about.append((key, command, where))
        if len(self._pending) >= _AT_ONCE:
            self._send()

    def _send(self) -> None:
        for index, number in self._batch.send(self._pending).items():
            key, command, where = self._about[index]
            if key not in self._refused:
                self._failed(key, command, where, number)
        self._pending, self._about = [], []

    def _failed(self, key: VirtualServerKey, command: int, where: DestinationKey | None, number: int) -> None:
        """What one answer means (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_set_cmd).

        ESRCH: the server is not there. ENOENT: the scheduler is not there, or the destination. EEXIST: it is there.
        """
        if command in (codec.NEW_SERVICE, codec.SET_SERVICE) and number == ENOENT:
            name = self._wanted[key].scheduler
            reason = f"this kernel has no IPVS scheduler {name} (module ip_vs_{name})"
            self._refused[key] = Refused(reason, missing=True)
        elif (command == codec.DEL_SERVICE and number in (ESRCH, ENOENT)) or (
            command == codec.DEL_DEST and number == ENOENT
        ):
            return
        elif number in (EEXIST, ENOENT, ESRCH) and command != codec.DEL_SERVICE and not self._second_look:
            self._surprises[key] = self._wanted[key]
        else:
            self._refused[key] = Refused(f"{self._words(key, command, where)}: {error_text(number)}")

    def _words(self, key: VirtualServerKey, command: int, where: DestinationKey | None) -> str:
        if command == codec.DEL_SERVICE:
            return f"-D {notation.key_text(key)}"
        server = self._wanted[key]
        if where is None:
            return notation.server_text(key, server.scheduler, server.flags, server.timeout)
        if command == codec.DEL_DEST:
            return f"-d {notation.key_text(key)} -r {endpoint_text(where.address, where.port)}"
        return notation.destination_text(key, where, server.destinations[where])


def _read_table() -> bytes:
    try:
        with open(_TABLE, "rb", buffering=0) as table:
            return table.readall()
    except OSError as error:
        raise Unavailable(f"{_TABLE}: {error.strerror}; on the host, try: modprobe ip_vs") from error
