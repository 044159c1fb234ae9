"""What BGP shall be, as commands."""

from __future__ import annotations

from kuberouter_py.bgp.engine import BROKEN, KEY
from kuberouter_py.model.bgp import BgpPeer, GracefulRestart, Password, Speaker
from kuberouter_py.model.notation import key_text, lines
from kuberouter_py.ports import Plan
from tests.fakes.speakers import PLAIN, packed

WHOLE = [
    "bird  # AS 64512, router ID 192.0.2.1",
    "birdc configure  # a session with 192.0.2.2 AS 64512 Node worker-2",
    "birdc configure  # a session with 192.0.2.254 AS 65001",
]


def change(old: Speaker, new: Speaker) -> list[str]:
    return lines({"bgp": Plan(change={KEY: (old, new)})})


def test_bgp_comes_and_goes() -> None:
    assert lines({"bgp": Plan(add={KEY: PLAIN})}) == WHOLE
    assert change(BROKEN, PLAIN) == WHOLE
    assert lines({"bgp": Plan(remove={KEY: PLAIN})}) == ["birdc down"]
    assert key_text("bgp", KEY) == "the BGP configuration"


def test_bgp_changes() -> None:
    _, router = PLAIN.peers
    other = BgpPeer(packed("192.0.2.3"), 64512, node="worker-3")
    new = PLAIN._replace(
        hold_time=30,
        graceful_restart=GracefulRestart(),
        peers=(other, router._replace(password=Password("hush"))),
    )
    assert change(PLAIN, new) == [
        "birdc configure  # AS 64512, router ID 192.0.2.1: another hold time, graceful restart",
        "birdc configure  # a session with 192.0.2.3 AS 64512 Node worker-3",
        "birdc configure  # another session with 192.0.2.254 AS 65001",
        "birdc configure  # no session with 192.0.2.2 AS 64512 Node worker-2",
    ]
