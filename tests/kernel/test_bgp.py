"""The engine's table, and its BIRD that is refused, dies, is restarted and ended."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from kuberouter_py import inotify
from kuberouter_py.bgp.control import command
from kuberouter_py.bgp.engine import BROKEN, KEY, Engine
from kuberouter_py.bgp.files import files
from kuberouter_py.bgp.news import News
from kuberouter_py.bgp.process import end
from kuberouter_py.kernel.command import run
from kuberouter_py.model.bgp import BgpPeer, GracefulRestart, Password, SessionNews
from kuberouter_py.model.kernel import address_text
from kuberouter_py.ports import EdgeError
from tests.fakes.speakers import FULL, NODE, NODE6, packed
from tests.kernel.birds import (
    PEER,
    ROUTER,
    SPEAKER,
    WITHIN,
    Listening,
    Router,
    announce,
    established,
    state,
    until,
)
from tests.kernel.exam import bring, difference, settle, sh

pytestmark = pytest.mark.usefixtures("netns")


def test_it_reads_what_it_was_told(engine: Engine) -> None:
    assert engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})
    settle(engine, {KEY: SPEAKER._replace(hold_time=30, graceful_restart=GracefulRestart())})
    sh(f"ip address add {address_text(NODE)}/24 dev lo; ip address add {address_text(NODE6)}/64 dev lo nodad")
    settle(engine, {KEY: FULL})
    assert Engine(run, run_dir=str(engine.files.socket.parent)).read() == engine.read()
    settle(engine, {})
    assert list(engine.files.socket.parent.iterdir()) == []


def test_a_session_that_is_not_up_has_no_routes(engine: Engine) -> None:
    settle(engine, {KEY: SPEAKER})
    assert state(engine).state != "Established"
    assert engine.routes(ROUTER) == ((), ())
    with pytest.raises(EdgeError, match=r"no session with 192\.0\.2\.77"):
        engine.routes(packed("192.0.2.77"))


def test_a_session_that_is_as_before_stays_up(engine: Engine, router: Router) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    established(engine)
    since = _since(engine)
    settle(engine, {KEY: SPEAKER._replace(peers=(PEER, BgpPeer(packed("192.0.2.77"), 65002)))})
    assert len(engine.peers()) == 2
    settle(engine, {KEY: SPEAKER})
    assert _since(engine) == since and state(engine).state == "Established"


def test_a_wrong_configuration_is_refused_and_the_last_good_one_stays(engine: Engine, router: Router) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    established(engine)
    text = engine.files.configuration.read_text()
    wrong = SPEAKER._replace(peers=(PEER._replace(password=Password("hush"), multihop=1000),))
    [refused] = bring(engine, {KEY: wrong}).values()
    assert refused.reason.startswith("BIRD: bird.conf:") and "hush" not in refused.reason
    assert engine.read().ours == {KEY: SPEAKER} and state(engine).state == "Established"
    assert engine.files.configuration.read_text() == text and not engine.files.candidate.exists()


def test_a_first_configuration_may_be_refused_too(engine: Engine) -> None:
    [refused] = bring(engine, {KEY: SPEAKER._replace(hold_time=1)}).values()
    assert "bird.conf" in refused.reason and "old time" in refused.reason
    assert engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})


def test_one_that_died_is_started_again(engine: Engine) -> None:
    assert engine.revive() == "" and engine.read().ours == {}
    settle(engine, {KEY: SPEAKER})
    sh(f"kill -9 $(cat {engine.files.pid})")
    until(lambda: engine.read().ours == {KEY: BROKEN}, "it lives")
    assert engine.revive() == ""
    assert engine.read().ours == {KEY: SPEAKER}


def test_routes_go_with_it_even_where_they_are_kept_for_a_restart(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    settle(engine, {KEY: SPEAKER._replace(graceful_restart=GracefulRestart())})
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    settle(engine, {})
    assert "203.0.113.0/24" not in sh("ip route")
    until(lambda: "10.96.0.10/32" not in router.routes(), "the router keeps what it was told")
    assert list(engine.files.socket.parent.iterdir()) == []


def test_routes_that_it_left_go_too(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    settle(engine, {KEY: SPEAKER._replace(graceful_restart=GracefulRestart())})
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    end(engine.files, "graceful restart")
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()
    settle(engine, {})
    assert "203.0.113.0/24" not in sh("ip route")
    assert list(engine.files.socket.parent.iterdir()) == []


def test_a_restart_is_waited_for_only_where_one_ran_before(engine: Engine, router: Router) -> None:
    router.configure(routes="route 203.0.113.0/24 blackhole;", session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    wanted = SPEAKER._replace(graceful_restart=GracefulRestart())
    settle(engine, {KEY: wanted})
    assert "Graceful restart started" not in engine.files.log.read_text()
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    sh(f"kill -9 $(cat {engine.files.pid})")
    until(lambda: engine.read().ours == {KEY: BROKEN}, "it lives")
    assert engine.revive() == ""
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()
    assert "Graceful restart started" in engine.files.log.read_text()
    established(engine)
    assert "203.0.113.0/24" in sh("ip route") and "10.96.0.10/32" in router.routes()


def test_sessions_that_come_and_go_are_told(engine: Engine, router: Router, listening: Listening) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    assert listening.process.get(timeout=WITHIN)
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(ROUTER, up=True)
    command(router.socket, "disable node")
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(
        ROUTER, up=False, why="Received: Administrative shutdown"
    )
    assert state(engine).reason == "Received: Administrative shutdown"
    command(router.socket, "enable node")
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(ROUTER, up=True)
    assert listening.sessions.empty() and listening.process.empty()


def test_what_stands_when_listening_begins_is_no_news(engine: Engine, router: Router) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    established(engine)
    listening = Listening(engine)
    command(router.socket, "disable node")
    assert listening.sessions.get(timeout=WITHIN) == SessionNews(
        ROUTER, up=False, why="Received: Administrative shutdown"
    )
    listening.stop()
    assert listening.process.empty()


def test_one_that_dies_is_started_again_at_once(engine: Engine, router: Router, listening: Listening) -> None:
    router.configure()
    settle(engine, {KEY: SPEAKER})
    assert listening.process.get(timeout=WITHIN)
    assert listening.sessions.get(timeout=WITHIN).up
    for _ in range(2):
        sh(f"kill -9 $(cat {engine.files.pid})")
        assert listening.sessions.get(timeout=WITHIN) == SessionNews(ROUTER, up=False, why="BIRD ended")
        assert [listening.process.get(timeout=WITHIN) for _ in range(2)] == [False, True]
        assert engine.read().ours == {KEY: SPEAKER}
        assert listening.sessions.get(timeout=WITHIN) == SessionNews(ROUTER, up=True)
    settle(engine, {})
    assert not listening.process.get(timeout=WITHIN)
    assert engine.read().ours == {}


def test_one_that_hangs_is_not_started_again(engine: Engine) -> None:
    settle(engine, {KEY: SPEAKER})
    pid = engine.files.pid.read_text().strip()
    sh(f"kill -STOP {pid}")
    try:
        with ExitStack() as waiting:
            with pytest.raises(BlockingIOError):
                while True:
                    connection = waiting.enter_context(socket.socket(socket.AF_UNIX))
                    connection.setblocking(False)
                    connection.connect(str(engine.files.socket))
            assert engine.revive() == f"no answer from BIRD on {engine.files.socket} within 10 s"
        assert engine.files.pid.read_text().strip() == pid
    finally:
        sh(f"kill -CONT {pid}")
    assert engine.read().ours == {KEY: SPEAKER}


def test_sessions_are_told_where_no_inotify_instance_is_left(engine: Engine, router: Router) -> None:
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    limit.write_text("0")
    try:
        listening = Listening(engine)
        with pytest.raises(OSError, match="inotify_init1"):
            inotify.watch(engine.files.socket.parent, inotify.CREATE)
        router.configure()
        settle(engine, {KEY: SPEAKER})
        assert listening.process.get(timeout=WITHIN)
        assert listening.sessions.get(timeout=WITHIN) == SessionNews(ROUTER, up=True)
        listening.stop()
    finally:
        limit.write_text(before)


def test_a_port_that_another_program_has_is_tried_again(engine: Engine, router: Router) -> None:
    """BIRD by itself never does."""
    router.configure()
    with socket.create_server(("0.0.0.0", 179)):
        refused = bring(engine, {KEY: SPEAKER})[KEY]
        assert refused.reason == f"BIRD cannot listen for the session with 192.0.2.254: {engine.files.log} says why"
        assert engine.read().ours == {KEY: BROKEN}
        assert engine.apply(difference(engine, {KEY: SPEAKER})) == {KEY: refused}
    settle(engine, {KEY: SPEAKER})
    established(engine)


def test_a_session_that_came_up_has_bird_asked_again_and_again(tmp_path: Path) -> None:
    where = files(run_dir=str(tmp_path))
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(where.socket))
        door.listen()
        threading.Thread(target=_answer, args=(door, asked), daemon=True).start()
        news = News(where, lambda _session: None, lambda _runs: None)
        news.open()
        assert asked.get(timeout=WITHIN) == "show protocols"
        thread = threading.Thread(target=news.run, daemon=True)
        thread.start()
        where.log.write_text("2026-11-30 02:43:06.416 <TRACE> peer_192_0_2_254: State changed to up\n")
        assert [asked.get(timeout=WITHIN) for _ in range(3)] == ["show status"] * 3
        news.stop()
        thread.join(WITHIN)
        assert not thread.is_alive()


def _since(engine: Engine) -> str:
    """When the session came up, to the millisecond, as BIRD tells it: PeerState's is reckoned from now."""
    lines = command(str(engine.files.socket), "show protocols")
    [told] = [line.text for line in lines if "peer_192_0_2_254" in line.text]
    return told


def _answer(door: socket.socket, asked: queue.SimpleQueue[str]) -> None:
    """As a BIRD that knows nothing."""
    connection, _ = door.accept()
    with connection, connection.makefile("rw", newline="\n") as control:
        print("0001 BIRD 2.0.12 ready.", file=control, flush=True)
        for line in control:
            asked.put(line.strip())
            print("0000 ", file=control, flush=True)
