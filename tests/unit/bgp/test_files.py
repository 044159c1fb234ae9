"""Files between us and BIRD, and the log that is read while BIRD writes it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kuberouter_py.bgp.files import Files, files, read_text, remove, write_private
from kuberouter_py.bgp.tail import Tail
from kuberouter_py.ports import EdgeError


def test_a_socket_beside_us_says_where_the_others_are() -> None:
    assert files("/run/bird/control").configuration == Path("/run/bird/bird.conf")
    assert files("/run/bird/control").socket == Path("/run/bird/control")
    assert files().socket == Path("/run/kuberouter-py/bird.ctl")
    assert len(set(files().all())) == 8


def test_what_holds_passwords_is_for_root_alone(tmp_path: Path) -> None:
    there = Files(tmp_path / "new" / "bird.ctl").configuration
    write_private(there, "one")
    there.chmod(0o644)
    write_private(there, "two")
    assert read_text(there) == "two" and stat.S_IMODE(there.stat().st_mode) == 0o600
    assert list(there.parent.iterdir()) == [there]


def test_reasons_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory" / "more").mkdir(parents=True)
    with pytest.raises(EdgeError, match=r"bird\.conf: File exists"):
        write_private(tmp_path / "file" / "bird.conf", "")
    with pytest.raises(EdgeError, match="directory: Is a directory"):
        write_private(tmp_path / "directory", "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["directory", "file"]
    with pytest.raises(EdgeError, match="directory: Is a directory"):
        read_text(tmp_path / "directory")
    with pytest.raises(EdgeError, match="directory: Is a directory"):
        remove(tmp_path / "directory")
    assert read_text(tmp_path / "missing") == ""
    remove(tmp_path / "missing")


def test_a_log_is_read_while_it_grows_and_when_it_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "bird.log"
    tail = Tail(path)
    tail.to_the_end()
    assert list(tail.lines()) == []
    path.write_text("one\ntw")
    assert list(tail.lines()) == ["one"]
    with path.open("ab") as log:
        log.write(b"o\nthr\xffee\n")
    assert list(tail.lines()) == ["two", "thr\ufffdee"]
    with path.open("a") as log:
        log.write("last\n")
    path.rename(tmp_path / "bird.log.1")
    path.write_text("first\n")
    assert list(tail.lines()) == ["last", "first"]
    assert list(tail.lines()) == []
    tail.close()


def test_what_stood_there_before_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "bird.log"
    path.write_text("old\n")
    tail = Tail(path)
    tail.to_the_end()
    with path.open("a") as log:
        log.write("new\n")
    assert list(tail.lines()) == ["new"]
    tail.close()
