"""BIRDs for the tests beside the engine's own: a router on the same link, with a configuration of the test's own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kuberouter_py.bgp.control import command
from kuberouter_py.bgp.engine import Engine
from kuberouter_py.model.bgp import BgpPeer, PeerState, SessionNews, Speaker
from tests.fakes.speakers import cidr, packed
from tests.kernel.exam import sh

WITHIN = 60.0

US, US6, ROUTER = packed("192.0.2.1"), packed("fd00:9::1"), packed("192.0.2.254")
PEER = BgpPeer(ROUTER, 65001)
SPEAKER = Speaker(
    asn=64512,
    router_id=US,
    families=(4, 6),
    next_hops={4: US, 6: US6},
    refused=(cidr("10.96.0.0/12"), cidr("fd00:96::/108")),
    peers=(PEER,),
)


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Router:
    """A BIRD in the namespace "router", on the same link, with a configuration of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "router.ctl")
        self._file = directory / "router.conf"
        self._running = False

    def configure(self, session: str = "", routes: str = "", routes6: str = "") -> None:
        self._file.write_text(f"""
            router id 192.0.2.254;
            protocol device {{ }}
            protocol bfd {{ }}
            protocol static s4 {{ ipv4; {routes} }}
            protocol static s6 {{ ipv6; {routes6} }}
            protocol bgp node {{
              local 192.0.2.254 as 65001; neighbor 192.0.2.1 as 64512;
              connect delay time 1; error wait time 1, 2; {session}
              ipv4 {{ import all; export all; }};
              ipv6 {{ import all; export all; next hop address fd00:9::fe; }};
            }}""")
        if self._running:
            command(self.socket, "configure")
        else:
            sh(f"ip netns exec router bird -c {self._file} -s {self.socket} -P {self.socket}.pid")
            self._running = True

    def routes(self, family: int = 4) -> str:
        return "\n".join(line.text for line in command(self.socket, f"show route table master{family} all"))

    def wait_for(self, prefix: str) -> str:
        family = 6 if ":" in prefix else 4
        until(lambda: prefix in self.routes(family), f"{prefix} is not announced")
        return self.routes(family)

    def stop(self) -> None:
        if self._running:
            command(self.socket, "down")


def state(engine: Engine) -> PeerState:
    [found] = engine.peers()
    return found


def established(engine: Engine) -> None:
    until(lambda: state(engine).state == "Established", f"no session: {state(engine)}")


def announce(prefix: str, metric: int) -> None:
    family = 6 if ":" in prefix else 4
    sh(f"ip -{family} route add blackhole {prefix} table 159 proto 158 metric {metric}")


class Listening:
    """What News tells while the test goes on."""

    def __init__(self, engine: Engine) -> None:
        self.sessions: queue.SimpleQueue[SessionNews] = queue.SimpleQueue()
        self.process: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._news = engine.news(self.sessions.put, self.process.put)
        self._news.open()
        self._thread = threading.Thread(target=self._news.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._news.stop()
        self._thread.join(WITHIN)
        assert not self._thread.is_alive()
