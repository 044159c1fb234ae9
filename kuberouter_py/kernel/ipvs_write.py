"""One plan on its way into IPVS: the messages, in which order, and what each answer means for its server.

What is ours, and reading, is ipvs.py's; bytes are ipvs_codec.py's, words model/notation_servers.py's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from errno import EEXIST, ENOENT, ESRCH
from operator import itemgetter

from kuberouter_py.kernel import ipvs_codec as codec
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError, error_text
from kuberouter_py.model.kernel import DestinationKey, ServerKey, VirtualServer
from kuberouter_py.model.notation_servers import destination_option, scheduling_options, server_option
from kuberouter_py.ports import EdgeError, Refused

_AT_ONCE = 4000  # messages in memory before they are sent


class Writing:
    """One plan on its way into the kernel. What the kernel holds may differ from what the plan says it holds: such
    servers are looked at and written once more; what fails then is refused.
    """

    def __init__(self, batch: Batch, messages: codec.Messages) -> None:
        self._batch = batch
        self._messages = messages
        self._pending: list[bytes] = []
        # What they are about: the first one's place, the server, the command, and the destinations, one a message.
        self._about: list[tuple[int, ServerKey, int, Sequence[DestinationKey | None]]] = []
        self._wanted: dict[ServerKey, VirtualServer] = {}
        self._surprises: dict[ServerKey, VirtualServer] = {}
        self._refused: dict[ServerKey, Refused] = {}
        self._second_look = False

    def add(self, key: ServerKey, server: VirtualServer) -> None:
        self._wanted[key] = server
        self._queue(self._messages.server(codec.NEW_SERVICE, key, server), key, codec.NEW_SERVICE, None)
        messages = self._messages.new_destinations(codec.server_key(key), server.destinations)
        if messages:
            self._about.append((len(self._pending), key, codec.NEW_DEST, tuple(server.destinations)))
            self._pending += messages

    def change(self, key: ServerKey, old: VirtualServer, new: VirtualServer) -> None:
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

    def remove(self, key: ServerKey) -> None:
        self._queue(self._messages.delete(key), key, codec.DEL_SERVICE, None)

    def finish(self) -> dict[ServerKey, Refused]:
        self._send()
        self._second_look = True
        for key, wanted in self._surprises.items():
            self._refused.pop(key, None)
            try:
                present = look(self._batch, self._messages, key)
            except (EdgeError, ValueError) as error:
                self._refused[key] = Refused(str(error))
                continue
            if present is None:
                self.add(key, wanted)
            else:
                self.change(key, present, wanted)
        self._send()
        return self._refused

    def _queue(self, message: bytes, key: ServerKey, command: int, where: DestinationKey | None) -> None:
        if len(self._pending) >= _AT_ONCE:
            self._send()
        self._about.append((len(self._pending), key, command, (where,)))
        self._pending.append(message)

    def _send(self) -> None:
        for index, number in self._batch.send(self._pending).items():
            first, key, command, about = self._about[bisect_right(self._about, index, key=itemgetter(0)) - 1]
            if key not in self._refused:
                self._failed(key, command, about[index - first], number)
        self._pending, self._about = [], []

    def _failed(self, key: ServerKey, command: int, where: DestinationKey | None, number: int) -> None:
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

    def _words(self, key: ServerKey, command: int, where: DestinationKey | None) -> str:
        if command == codec.DEL_SERVICE:
            return f"-D {server_option(key)}"
        server = self._wanted[key]
        if where is None:
            return f"-A {server_option(key)} {scheduling_options(*server[:3])}"
        if command == codec.DEL_DEST:
            return f"-d {server_option(key)} {destination_option(where)}"
        return f"-a {server_option(key)} {destination_option(where, server.destinations[where])}"


def look(batch: Batch, messages: codec.Messages, key: ServerKey) -> VirtualServer | None:
    """The server as it is now; None where there is none. Raises EdgeError."""
    try:
        service = codec.parse_service(batch.request(messages.get_server(key))[0])
    except NetlinkError as error:
        if error.errno == ESRCH:
            return None
        raise
    answers = batch.dump(messages.list_destinations(key))
    return VirtualServer(service.scheduler, service.flags, service.timeout, codec.parse_destinations(answers, key))
