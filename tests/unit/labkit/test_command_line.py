"""Every file is read before anything boots; the exit status tells what kind of no it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.labkit import __main__ as lab
from tests.labkit import side_by_side
from tests.labkit.model import Manner
from tests.labkit.ports import LabError

GOOD = "steps: [run: {at: node/n1, command: 'true'}]\n"
BAD = "step: []\n"
WORSE = "steps: [agent: {node: n1, do: kill-brid}]\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    names = {}
    for name, text in (("good", GOOD), ("bad", BAD), ("worse", WORSE)):
        (tmp_path / f"{name}.yaml").write_text(text)
        names[name] = str(tmp_path / f"{name}.yaml")
    return names


@pytest.fixture(autouse=True)
def no_boot(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing boots: what would have been played is noted, and every file passes."""
    played: list[Any] = []

    def boot_and_play(
        found: Any, texts: Any, machine: bool, keep: bool, manner: Manner
    ) -> tuple[list[dict[str, Any]], str]:
        played.append((len(found), machine, keep))
        return [{"file": str(entry.file), "outcome": "passed"} for entry in found], ""

    monkeypatch.setattr(lab, "boot_and_play", boot_and_play)
    return played


@pytest.mark.parametrize(("names", "status"), [(["good"], 0), (["good", "good"], 0), (["good", "bad"], 2)])
def test_exit_status(files: dict[str, str], names: list[str], status: int, no_boot: list[Any]) -> None:
    chosen = [files[name] for name in names]
    assert lab.main(["check", *chosen]) == status
    assert no_boot == []
    assert lab.main(["run", *chosen]) == status
    assert bool(no_boot) == (status == 0)


def test_errors_are_printed_all(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["run", "--json", files["bad"], files["worse"]]) == 2
    out, err = capsys.readouterr()
    assert [entry["key"] for entry in json.loads(out)["errors"]] == ["step", "steps", "agent.do"][:3]
    assert f"{files['bad']}:1: steps: is missing" in err


def test_closing_line(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["run", files["good"], files["good"]]) == 0
    assert capsys.readouterr().out == "2 passed, 0 failed\n"
    assert lab.close([{"outcome": "passed"}, {"outcome": "failed"}], 2, "", machine=False) == 1
    assert capsys.readouterr().out == "1 passed, 1 failed\n"


def test_a_file_that_was_not_played_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.close([{"outcome": "passed"}], 2, "the kernel ended", machine=True) == 125
    out, err = capsys.readouterr()
    assert json.loads(out)["failed"] == 1
    assert err == "lab: the kernel ended\n"


def test_keep_without_a_terminal_goes_on(
    files: dict[str, str], no_boot: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab.main(["run", "--keep", files["good"]]) == 0
    assert no_boot == [(1, False, False)]
    assert "--keep wants a terminal" in capsys.readouterr().err


def test_the_lab_itself_failing(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        raise LabError("no kernel for the lab")

    monkeypatch.setattr(lab, "boot_and_play", fails)
    assert lab.main(["run", files["good"]]) == 125
    assert capsys.readouterr().err == "lab: no kernel for the lab\n"


def test_several_kernels_play_a_share_each(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shares: list[tuple[list[str], str]] = []

    def play(say: side_by_side.Say, manner: Manner, share: list[Path], cpu: str) -> tuple[list[dict[str, Any]], str]:
        names = [str(file) for file in share]
        shares.append((names, cpu))
        assert manner == Manner(late=2.0, within=20.0)
        return [{"file": name, "outcome": "passed"} for name in names], "" if len(share) > 1 else "the kernel fell over"

    monkeypatch.setattr(side_by_side, "_play", play)
    monkeypatch.setenv("LAB_CPU", "3 5")
    chosen = [str(Path(files["good"]).with_name(f"{number}.yaml")) for number in range(3)]
    for name in chosen:
        Path(name).write_text(GOOD)
    assert lab.main(["run", "--json", "--labs", "2", "--late", "2", "--within", "20", *chosen]) == 0
    out, err = capsys.readouterr()
    assert [result["file"] for result in json.loads(out)["files"]] == chosen
    assert err == "lab: the kernel fell over\n"
    assert sorted(shares) == [([chosen[0], chosen[2]], "3"), ([chosen[1]], "5")]


def test_outputs_of_two_kernels_never_mix() -> None:
    said: list[str] = []
    side_by_side.whole(["a.yaml\n", "  ok\n", "\n", "b.yaml\n", "  cut sh"], said.append)
    assert said == ["a.yaml\n  ok\n\n", "b.yaml\n  cut sh"]


@pytest.mark.parametrize("number", ["0", "-1", "two", ""])
def test_a_number_of_kernels_that_is_none(
    files: dict[str, str], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        lab.main(["run", f"--labs={number}", files["good"]])
    assert f"{number!r} is no number of lab kernels" in capsys.readouterr().err


def test_the_manner_goes_on_to_each_kernel() -> None:
    assert Manner(2.5, 4.0).flags() == ["--late=2.5", "--within=4.0"]


@pytest.mark.parametrize("flag", ["late", "within"])
@pytest.mark.parametrize("seconds", ["-1", "two", "", "61", "nan"])
def test_a_time_that_is_none(
    files: dict[str, str], flag: str, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        lab.main(["run", f"--{flag}={seconds}", files["good"]])
    assert f"{seconds!r} is no number of seconds from 0 to 60" in capsys.readouterr().err
