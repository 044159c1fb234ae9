"""The process that answers for every pod and outside host of a world.

An answer is one line of JSON: the server's name, the port, and the source address and port it saw. TCP answers each
line with one (SCTP and UDP too, each message), and HTTP where the first bytes are a request's; both on one port.
Whoever asks for it (sockets.PUSH) is sent such lines again and again, with the time of each.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

from tests.labkit.traffic import exchange, sockets

_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_IP_PKTINFO: Final = 8
_LONGEST_DATAGRAM: Final = 65536
_BACKLOG: Final = 1024
_PUSH_EVERY: Final = 0.05
_PUSH_ENOUGH: Final = 65536  # bytes that wait to be sent


@dataclass
class Owner:
    """One pod or outside host: what is open in its name."""

    name: str
    terminating: bool = False
    servers: list[asyncio.Server] = field(default_factory=list)
    datagrams: list[socket.socket] = field(default_factory=list)
    connections: set[Connection] = field(default_factory=set)
    listening: set[tuple[str, str, int]] = field(default_factory=set)

    def answer(self, protocol: str, port: int, peer: tuple[Any, ...], asked: bytes) -> bytes:
        said = {"name": self.name, "protocol": protocol, "port": port, "source": peer[0], "source_port": peer[1]}
        if size := sockets.SIZE.match(asked):
            # Of a long question only what tells it from others, and how much of it came; the rest of as long an answer
            # is filling.
            said |= {"echo": size[0].decode(), "heard": len(asked)}
            return json.dumps(said).encode().ljust(int(size[1]) - 1) + b"\n"
        if asked:
            said["echo"] = asked.decode(errors="replace")
        return json.dumps(said).encode() + b"\n"


class Connection(asyncio.Protocol):
    """One accepted TCP connection or SCTP association; what it speaks shows in its first bytes."""

    def __init__(self, owner: Owner, protocol: str, port: int) -> None:
        self._owner = owner
        self._protocol = protocol
        self._port = port
        self._buffer = b""
        self._http = False
        self._push: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername") or ("", 0)
        self._owner.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.connections.discard(self)
        if self._push is not None:
            self._push.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._http = self._http or self._buffer.startswith(_METHODS)
        end = b"\r\n\r\n" if self._http else b"\n"
        while end in self._buffer and not self._transport.is_closing():
            asked, self._buffer = self._buffer.split(end, 1)
            if self._http:
                self._answer_http(asked)
            else:
                self._transport.write(self._owner.answer(self._protocol, self._port, self._peer, asked.strip()))
                if asked.strip().endswith(sockets.PUSH.encode()):
                    self._push_on()

    def _push_on(self) -> None:
        said = {"name": self._owner.name, "source": self._peer[0], "source_port": self._peer[1], "at": time.monotonic()}
        if self._transport.get_write_buffer_size() < _PUSH_ENOUGH:
            self._transport.write(json.dumps(said).encode() + b"\n")
        self._push = asyncio.get_running_loop().call_later(_PUSH_EVERY, self._push_on)

    def _answer_http(self, request: bytes) -> None:
        body = self._owner.answer("http", self._port, self._peer, b"")
        head = request.lower()
        close = self._owner.terminating or b"\nconnection: close" in head or b" http/1.0" in head.split(b"\r\n")[0]
        lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += ["Connection: close"] if close else []
        self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head.startswith(b"head ") else body))
        if close:
            self._transport.close()

    def reset(self) -> None:
        sockets.reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()


class Servers:
    """All owners, by the key that the lab gave them."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}

    async def serve(self, request: dict[str, Any]) -> None:
        """Listens on each endpoint at each address; `anywhere`: at the families' wildcard addresses instead."""
        owner = self._owners.setdefault(request["owner"], Owner(request["name"]))
        owner.terminating = False
        opened = []
        with sockets.visiting(request["namespace"]):
            for protocol, port in request["endpoints"]:
                for address in self._addresses(request, protocol):
                    if (protocol, address, port) not in owner.listening:
                        opened.append((protocol, port, self._listen(protocol, address, port)))
                        owner.listening.add((protocol, address, port))
        for protocol, port, listening in opened:
            await self._start(owner, protocol, port, listening)

    def _addresses(self, request: dict[str, Any], protocol: str) -> list[str]:
        # SCTP tells its peer every address it is bound to, and the peer may then go round a NAT: one each.
        if protocol == "sctp" or not request["anywhere"]:
            return list(request["addresses"])
        return list(dict.fromkeys("::" if ":" in address else "0.0.0.0" for address in request["addresses"]))

    def _listen(self, protocol: str, address: str, port: int) -> socket.socket:
        opened = sockets.open_socket(protocol, 6 if ":" in address else 4)
        try:
            if opened.family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if protocol == "udp":
                level, option = _packet_info(opened)
                opened.setsockopt(level, option, 1)
            opened.bind((address, port))
            if protocol != "udp":
                opened.listen(_BACKLOG)
        except OSError as error:
            opened.close()
            raise OSError(f"{protocol}/{port} at {address}: {error}") from error
        return opened

    async def _start(self, owner: Owner, protocol: str, port: int, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if protocol == "udp":
            owner.datagrams.append(listening)
            loop.add_reader(listening, _answer_datagram, owner, port, listening)
            return
        server = await loop.create_server(lambda: Connection(owner, protocol, port), sock=listening, backlog=_BACKLOG)
        owner.servers.append(server)

    async def terminating(self, request: dict[str, Any]) -> None:
        if request["owner"] in self._owners:
            self._owners[request["owner"]].terminating = True

    async def stop(self, request: dict[str, Any]) -> None:
        """Nothing listens any more, and what was open is reset."""
        owner = self._owners.pop(request["owner"], None)
        if owner is None:
            return
        for opened in owner.datagrams:
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        for server in owner.servers:
            server.close()
        while owner.connections:
            for connection in list(owner.connections):
                connection.reset()
            await asyncio.sleep(0)

    async def clear(self, request: dict[str, Any]) -> None:
        for owner in list(self._owners):
            await self.stop({"owner": owner})


def _packet_info(opened: socket.socket) -> tuple[int, int]:
    """The option by which a datagram tells the address it came to, so that the answer leaves from it."""
    if opened.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO
    return socket.IPPROTO_IP, _IP_PKTINFO


def _answer_datagram(owner: Owner, port: int, opened: socket.socket) -> None:
    try:
        data, ancillary, _, peer = opened.recvmsg(_LONGEST_DATAGRAM, 256)
        info = [(level, kind, _from_there(level, value)) for level, kind, value in ancillary]
        opened.sendmsg([owner.answer("udp", port, peer, data.strip())], info, 0, peer)
    except OSError:
        pass  # an ICMP error about an earlier answer, or no way back: the asker sees no answer


def _from_there(level: int, value: bytes) -> bytes:
    """Packet information as it has to be given back: any link; IPv4 wants the local address in the second field."""
    if level == socket.IPPROTO_IPV6:
        return value[:16] + bytes(4)
    return bytes(4) + value[4:8] + bytes(4)


def main() -> None:
    servers = Servers()
    doors = (servers.serve, servers.terminating, servers.stop, servers.clear)
    exchange.serve({door.__name__: door for door in doors})


if __name__ == "__main__":
    main()
