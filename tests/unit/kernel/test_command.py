from __future__ import annotations

import select
from pathlib import Path

import pytest

from kuberouter_py.kernel import command
from kuberouter_py.kernel.command import (
    Child,
    CommandFailed,
    LockHeld,
    could_load,
    load_modules,
    module_parameter,
    programs_run,
    run,
)
from kuberouter_py.ports import Busy, Unavailable


def script(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_output_input_locale_and_count() -> None:
    before = programs_run()
    assert run(["sh", "-c", "cat; echo $LC_ALL"], input="in ") == "in C\n"
    assert run(["cat"]) == ""
    assert programs_run() == before + 2


def test_a_program_that_fails_says_everything() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo no >&2; exit 3"])
    assert (caught.value.status, caught.value.stderr) == (3, "no")
    assert str(caught.value) == "sh -c echo no >&2; exit 3: exit status 3: no"


def test_a_program_that_is_missing_or_may_not_run(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-program"):
        run(["no-such-program"])
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="Permission denied"):
        run([str(tmp_path / "file")])


def test_a_held_lock_and_a_slow_program_are_busy(tmp_path: Path) -> None:
    held = "echo 'Another app is currently holding the xtables lock. Stopped waiting after 5s.' >&2; exit 4"
    with pytest.raises(LockHeld):
        run([script(tmp_path, "restore", held)])
    with pytest.raises(Busy, match="no end within"):
        run(["sleep", "60"], timeout=0.01)


def test_modules_that_the_kernel_lacks_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nf_conntrack").mkdir()
    modprobe = script(tmp_path, "modprobe", 'echo "modprobe: FATAL: Module ip_vs not found in directory" >&2; exit 1')
    asked: list[list[str]] = []

    def fake(argv: list[str]) -> str:
        asked.append(argv)
        return run([modprobe, *argv[1:]])

    monkeypatch.setattr(command, "run", fake)
    assert load_modules(["nf-conntrack"], tmp_path) == {}
    assert asked == []
    reasons = load_modules(["nf_conntrack", "ip_vs", "dummy"], tmp_path)
    assert asked == [["modprobe", "-a", "ip_vs", "dummy"]]
    assert reasons == {"ip_vs": "modprobe: FATAL: Module ip_vs not found in directory"}


def test_what_could_be_loaded_is_asked_without_loading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def modprobe(argv: list[str]) -> str:
        asked.append(argv)
        if "ip_vs_ovf" in argv:
            raise CommandFailed(argv, 1, "")
        return ""

    monkeypatch.setattr(command, "run", modprobe)
    monkeypatch.setattr(command, "Path", lambda *parts: tmp_path)  # the node has modules
    (tmp_path / "ip_vs_rr").mkdir()
    assert could_load("ip_vs_rr", tmp_path)
    assert asked == []
    assert could_load("ip_vs_sh", tmp_path)
    assert not could_load("ip_vs_ovf", tmp_path)
    assert asked[0] == ["modprobe", "--dry-run", "--quiet", "ip_vs_sh"]


def test_a_node_without_modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(argv: list[str]) -> str:
        raise Unavailable("modprobe: No such file or directory")

    monkeypatch.setattr(command, "run", absent)
    assert load_modules(["ip_vs"], tmp_path) == {"ip_vs": "modprobe: No such file or directory"}


def test_a_module_with_a_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def fake(argv: list[str]) -> str:
        asked.append(argv)
        return ""

    monkeypatch.setattr(command, "run", fake)
    assert load_modules(["ip_vs"], tmp_path, ["conn_tab_bits=16"]) == {}
    assert asked == [["modprobe", "ip_vs", "conn_tab_bits=16"]]
    assert module_parameter("ip_vs", "conn_tab_bits", tmp_path) == ""
    (tmp_path / "ip_vs" / "parameters").mkdir(parents=True)
    (tmp_path / "ip_vs" / "parameters" / "conn_tab_bits").write_text("12\n")
    assert module_parameter("ip_vs", "conn_tab_bits", tmp_path) == "12"
    assert load_modules(["ip_vs"], tmp_path, ["conn_tab_bits=16"]) == {}
    assert len(asked) == 1


def test_a_program_that_stays() -> None:
    child = Child(["sleep", "60"])
    poll = select.poll()
    poll.register(child, select.POLLIN)
    assert poll.poll(0) == []
    child.kill()
    assert poll.poll(10_000)
    assert child.collect() == -9 and child.fileno() == -1
    child = Child(["sleep", "60"])
    child.terminate()
    assert child.collect() == -15
    assert Child(["sh", "-c", "exit 3"]).collect() == 3
    with pytest.raises(Unavailable, match="no-such-program"):
        Child(["no-such-program"])
