"""Answers on BIRD's control socket, cut into lines; whatever comes in their place is our error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.bgp.replies import Line, end_of, lines_of
from kuberouter_py.ports import EdgeError

ANSWER = b"""1007-Table master4:
 0.0.0.0/0            unicast [peer_10_0_0_2 2026-11-30 02:43:09.416] * (100) [AS65001i]
 \tvia 10.0.0.2 on ea
+this was not asked for
1012-\tBGP.as_path: 65001
0000 \n"""


def test_an_answer() -> None:
    assert list(lines_of(ANSWER)) == [
        Line(1007, "Table master4:"),
        Line(1007, "0.0.0.0/0            unicast [peer_10_0_0_2 2026-11-30 02:43:09.416] * (100) [AS65001i]"),
        Line(1007, "\tvia 10.0.0.2 on ea"),
        Line(1012, "\tBGP.as_path: 65001"),
        Line(0, ""),
    ]


def test_an_answer_ends_with_the_line_that_says_so() -> None:
    assert all(end_of(ANSWER[:size]) == -1 for size in range(len(ANSWER)))
    assert end_of(ANSWER) == end_of(ANSWER + b"1007-more") == len(ANSWER)
    assert end_of(b"9001 syntax error\n") == 18
    assert end_of(b"1007-x\n 0000 no end\n") == end_of(b"x\n1234\n") == -1


@given(st.integers(0, len(ANSWER)))
def test_looking_may_begin_at_any_line(start: int) -> None:
    line = ANSWER.rfind(b"\n", 0, start) + 1
    assert end_of(ANSWER, line) == (len(ANSWER) if line < len(ANSWER) else -1)


@given(st.binary())
def test_any_bytes_are_lines_or_our_error(data: bytes) -> None:
    end = end_of(data)
    assert end == -1 or data[end - 1 : end] == b"\n"
    try:
        lines = list(lines_of(data))
    except EdgeError:
        return
    assert all(0 <= line.code <= 9999 for line in lines)


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\n", b" text\n", b"\n", b"12\n"])
def test_somebody_else(data: bytes) -> None:
    with pytest.raises(EdgeError, match="not BIRD's control socket"):
        list(lines_of(data))
