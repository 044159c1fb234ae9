"""News of sessions out of BIRD's log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.bgp.replies import Line
from kuberouter_py.bgp.states import SessionStates
from kuberouter_py.model.bgp import SessionNews
from tests.fakes.speakers import packed

V4, V6 = packed("192.0.2.254"), packed("fd00::1")


def told(states: SessionStates, *lines: str) -> list[SessionNews]:
    news = (states.line(f"2026-11-30 02:43:06.416 {line}") for line in lines)
    return [each for each in news if each is not None]


def test_up_and_down_and_why() -> None:
    states = SessionStates()
    assert told(
        states,
        "<INFO> Started",
        "<TRACE> peer_192_0_2_254: Initializing",
        "<TRACE> peer_192_0_2_254: State changed to start",
        "<WARN> peer_192_0_2_254: Error: Hold timer expired",
        "<TRACE> learn4: State changed to up",
        "<TRACE> peer_192_0_2_254: State changed to up",
        "<TRACE> node_fd00__1: State changed to up",
        "<RMT> peer_192_0_2_254: Received: Administrative shutdown",
        "<TRACE> peer_192_0_2_254: State changed to stop",
        "<TRACE> peer_192_0_2_254: State changed to down",
        "<TRACE> node_fd00__1: State changed to start",
    ) == [
        SessionNews(V4, up=True),
        SessionNews(V6, up=True),
        SessionNews(V4, up=False, why="Received: Administrative shutdown"),
        SessionNews(V6, up=False),
    ]


def test_how_it_stands_is_no_news() -> None:
    states = SessionStates()
    states.begin(
        [
            Line(1002, "learn4     Kernel     handover4  up     2026-11-30 02:43:05.524  "),
            Line(1002, "peer_192_0_2_254 BGP        ---        up     2026-11-30 02:43:57.509  Established   "),
            Line(1002, "node_fd00__1 BGP        ---        start  2026-11-30 02:43:57.509  Active   "),
            Line(0, ""),
        ]
    )
    assert told(states, "<TRACE> peer_192_0_2_254: State changed to up") == []
    assert list(states.ended()) == [SessionNews(V4, up=False, why="BIRD ended")]
    assert list(states.ended()) == []
    assert told(states, "<TRACE> peer_192_0_2_254: State changed to up") == [SessionNews(V4, up=True)]


@given(st.lists(st.text() | st.sampled_from(["1 2 <TRACE> peer_: State changed to up", "1 2 <RMT> node_x: y"])))
def test_other_lines_are_no_news(lines: list[str]) -> None:
    states = SessionStates()
    assert [states.line(line) for line in lines] == [None] * len(lines)
