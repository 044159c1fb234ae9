"""The CNI configuration file: written whole, given back as it was, and left to others when they changed it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kuberouter_py.kernel.cni_file import CniFiles
from kuberouter_py.model import notation
from kuberouter_py.model.podnet import CniFile, CniSeen
from kuberouter_py.ports import Plan
from tests.kernel.exam import bring, difference, settle

OURS, NEXT = CniFile('{"plugins": []}\n'), CniFile('{"plugins": [], "name": "n"}\n')
THEIRS = '{"name": "théirs"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.d" / "10-kuberouter.conflist"


@pytest.fixture
def files(path: Path) -> CniFiles:
    return files_at(path)


def files_at(path: Path) -> CniFiles:
    """As another process sees it."""
    return CniFiles(str(path), folder=path.parent)


def beside(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent)) if path.parent.exists() else []


def test_made_and_taken_away(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    assert path.read_text() == OURS.text and path.stat().st_mode & 0o777 == 0o644
    settle(files, {str(path): NEXT})
    assert path.read_text() == NEXT.text
    settle(files, {})
    assert beside(path) == []


def test_what_lies_beside_it_is_read_by_no_runtime(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    assert [name for name in beside(path) if name.endswith((".conf", ".conflist", ".json"))] == [path.name]


def test_what_was_there_comes_back(files: CniFiles, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(THEIRS)
    path.chmod(0o600)
    assert files.read().foreign == {str(path): CniFile(THEIRS)}
    settle(files, {str(path): OURS})
    settle(files_at(path), {str(path): NEXT})
    assert path.read_text() == NEXT.text and path.stat().st_mode & 0o777 == 0o600
    settle(files_at(path), {})
    assert path.read_text() == THEIRS and beside(path) == [path.name]


def test_bytes_that_are_no_utf_8_come_back_too(files: CniFiles, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"\xff": "\r\n"}')
    settle(files, {str(path): OURS})
    settle(files, {})
    assert path.read_bytes() == b'{"\xff": "\r\n"}'


def test_one_that_is_as_it_shall_be_stays_theirs(files: CniFiles, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(OURS.text)
    settle(files, {str(path): OURS})
    assert files.apply(Plan(add={str(path): OURS})) == {}
    settle(files, {})
    assert path.read_text() == OURS.text and beside(path) == [path.name]


def test_what_others_changed_since_is_left_to_them_and_told_once(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    path.write_text(THEIRS)
    refused = bring(files, {})
    assert "changed by somebody else" in refused[str(path)].reason
    assert path.read_text() == THEIRS and beside(path) == [path.name]
    settle(files, {})


def test_what_others_changed_since_is_what_comes_back(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    path.write_text(THEIRS)
    settle(files, {str(path): NEXT})
    settle(files, {})
    assert path.read_text() == THEIRS


def test_deleted_by_somebody_it_is_written_again_and_goes(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    path.unlink()
    assert difference(files, {str(path): OURS})
    settle(files, {str(path): OURS})
    path.unlink()
    settle(files, {})
    assert beside(path) == []


def test_a_write_that_was_cut_short_is_taken_up_by_the_next_process(
    files: CniFiles, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered stands before the file itself is touched."""
    path.parent.mkdir()
    path.write_text(THEIRS)
    settle(files, {str(path): OURS})
    replace = Path.replace

    def only_hidden(self: Path, target: Path) -> Path:
        if target.name == path.name:
            raise OSError(5, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as cut:
        cut.setattr(Path, "replace", only_hidden)
        assert "Input/output error" in bring(files, {str(path): NEXT})[str(path)].reason
    later = files_at(path)
    assert later.read().ours == {str(path): OURS}
    settle(later, {})
    assert path.read_text() == THEIRS


def test_found_whatever_path_is_configured_now(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    elsewhere = path.parent.parent / "other.d" / "05-x.conf"
    later = CniFiles(str(elsewhere), folder=path.parent)
    assert later.read().ours == {str(path): OURS}
    settle(later, {str(elsewhere): NEXT})
    assert beside(path) == [] and elsewhere.read_text() == NEXT.text


def test_what_is_seen(files: CniFiles, path: Path) -> None:
    assert files.seen(str(path)) == CniSeen()
    path.parent.mkdir()
    path.write_text(THEIRS)
    assert files.seen(str(path)) == CniSeen(THEIRS)
    settle(files, {str(path): OURS})
    assert files.seen(str(path)) == CniSeen(OURS.text, OURS.text, THEIRS)


def test_a_link_stays_a_link(files: CniFiles, path: Path) -> None:
    real = path.parent.parent / "real.conflist"
    real.write_text(THEIRS)
    path.parent.mkdir()
    path.symlink_to(real)
    settle(files, {str(path): OURS})
    assert path.is_symlink() and real.read_text() == OURS.text
    settle(files, {})
    assert path.is_symlink() and real.read_text() == THEIRS


def test_a_memory_that_is_broken_takes_nothing_away(files: CniFiles, path: Path) -> None:
    settle(files, {str(path): OURS})
    (path.parent / f".{path.name}.kuberouter-py").write_text("{")
    assert bring(files_at(path), {}).keys() == {str(path)}
    assert path.read_text() == OURS.text


def test_one_that_cannot_be_written_is_refused_with_the_reason(files: CniFiles, path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    refused = files.apply(Plan(add={str(path): OURS}))
    assert str(path) in refused[str(path)].reason


def test_what_plan_prints() -> None:
    plan = Plan(add={"/etc/cni/net.d/a.conflist": OURS}, remove={"/etc/cni/net.d/b.conf": NEXT})
    assert notation.lines({"cni": plan}) == [
        "write /etc/cni/net.d/a.conflist  # 16 bytes",
        "restore /etc/cni/net.d/b.conf  # as it was before us",
    ]
