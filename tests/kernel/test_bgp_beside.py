"""A BIRD beside the agent, kept by `kuberouter-py bird`, and the engine that only tells it what to do."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuberouter_py.bgp.engine import BROKEN, KEY, Engine
from kuberouter_py.bgp.process import answers, end
from kuberouter_py.kernel.command import run
from kuberouter_py.model.bgp import GracefulRestart
from tests.kernel.birds import SPEAKER, WITHIN, Router, announce, established, until
from tests.kernel.exam import bring, settle, sh

pytestmark = pytest.mark.usefixtures("netns")


class Beside:
    """The container."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kuberouter_py", "bird", "--bird-socket", str(self._engine.files.socket)],
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> str:
        """What it said."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        _, said = self._process.communicate(timeout=WITHIN)
        assert self._process.returncode == 0, said
        self._process = None
        return said

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        end(self._engine.files)
        if self._process:
            self._process.communicate()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(run, bird_socket=str(tmp_path / "shared" / "bird.ctl"))


@pytest.fixture
def beside(engine: Engine) -> Iterator[Beside]:
    found = Beside(engine)
    yield found
    found.kill()


def announcing(engine: Engine, beside: Beside, router: Router) -> None:
    """A router that would keep routes over a restart has one of ours."""
    router.configure(session="graceful restart on;")
    announce("10.96.0.10/32", 2)
    bring(engine, {KEY: SPEAKER})
    beside.start()
    router.wait_for("10.96.0.10/32")


def test_it_waits_for_the_configuration(engine: Engine, beside: Beside) -> None:
    [refused] = bring(engine, {KEY: SPEAKER}).values()
    assert "nobody answers" in refused.reason
    assert engine.read().ours == {KEY: BROKEN}
    engine.files.configuration.unlink()
    beside.start()
    bring(engine, {KEY: SPEAKER})
    until(lambda: answers(engine.files), "it does not start")
    settle(engine, {KEY: SPEAKER})
    settle(engine, {KEY: SPEAKER._replace(hold_time=30)})
    assert engine.revive() == "" and engine.read().ours == {KEY: SPEAKER._replace(hold_time=30)}


def test_it_is_started_again_and_ends_without_a_configuration(engine: Engine, beside: Beside) -> None:
    beside.start()
    bring(engine, {KEY: SPEAKER})
    until(lambda: answers(engine.files), "it does not start")
    settle(engine, {KEY: SPEAKER})
    pid = engine.files.pid.read_text()
    sh(f"kill -9 {pid}")
    until(lambda: engine.files.pid.exists() and engine.files.pid.read_text() not in ("", pid), "it stays dead")
    until(lambda: answers(engine.files), "it stays dead")
    pid = engine.files.pid.read_text().strip()
    settle(engine, {})
    assert list(engine.files.socket.parent.iterdir()) == []
    until(lambda: not Path("/proc", pid).exists(), "nobody has collected it")
    said = beside.stop()
    assert "BIRD was ended by signal 9\n" in said and "BIRD ended with status 0\n" in said


def test_one_that_hangs_is_ended_with_it(engine: Engine, beside: Beside) -> None:
    bring(engine, {KEY: SPEAKER})
    beside.start()
    until(lambda: answers(engine.files), "it does not start")
    pid = engine.files.pid.read_text().strip()
    sh(f"kill -STOP {pid}")
    assert f"no answer from BIRD on {engine.files.socket} within 10 s\n" in beside.stop()
    assert not Path("/proc", pid).exists()


def test_one_whose_socket_is_gone_is_ended_with_it(engine: Engine, beside: Beside, router: Router) -> None:
    announcing(engine, beside, router)
    pid = engine.files.pid.read_text().strip()
    engine.files.socket.unlink()
    assert "BIRD has not ended" not in beside.stop()
    assert not Path("/proc", pid).exists()
    until(lambda: "10.96.0.10/32" not in router.routes(), "the router keeps what it was told")


def test_it_withdraws_when_it_is_stopped(engine: Engine, beside: Beside, router: Router) -> None:
    announcing(engine, beside, router)
    beside.stop()
    until(lambda: "10.96.0.10/32" not in router.routes(), "the router keeps what it was told")
    assert not answers(engine.files)


def test_peers_keep_its_routes_where_it_restarts_gracefully(engine: Engine, beside: Beside, router: Router) -> None:
    router.configure(session="graceful restart on;", routes="route 203.0.113.0/24 blackhole;")
    announce("10.96.0.10/32", 2)
    bring(engine, {KEY: SPEAKER._replace(graceful_restart=GracefulRestart())})
    beside.start()
    router.wait_for("10.96.0.10/32")
    until(lambda: "203.0.113.0/24" in sh("ip route"), "nothing is taken")
    beside.stop()
    for _ in range(2):
        assert "10.96.0.10/32" in router.routes() and "203.0.113.0/24" in sh("ip route")
        if answers(engine.files):
            break
        beside.start()
        until(lambda: answers(engine.files), "it does not start")
        established(engine)
    beside.stop()
