from __future__ import annotations

import json
from pathlib import Path

import pytest

from kuberouter_py.kernel.former import Former, FormerValues
from kuberouter_py.kernel.sysctl import Sysctls
from kuberouter_py.ports import EdgeError, Plan, Refused

KEY = "net/ipv4/conf/eth0.100/rp_filter"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "sys" / KEY
    path.parent.mkdir(parents=True)
    path.write_text("1\n")
    (tmp_path / "sys/net/ipv4/tcp_rmem").write_text("4096\t131072\t6291456\n")
    return tmp_path / "sys"


@pytest.fixture
def sysctls(root: Path, tmp_path: Path) -> Sysctls:
    return Sysctls(run_dir=tmp_path / "run", root=root)


def test_values_are_compared_without_their_blanks(sysctls: Sysctls, root: Path) -> None:
    assert sysctls.current("net/ipv4/tcp_rmem") == "4096 131072 6291456"
    assert sysctls.apply(Plan(add={"net/ipv4/tcp_rmem": "4096 131072 6291456"})) == {}
    assert (root / "net/ipv4/tcp_rmem").read_text() == "4096\t131072\t6291456\n"  # not written: it was right


def test_the_former_value_is_on_disk_and_stays_the_first(sysctls: Sysctls, root: Path, tmp_path: Path) -> None:
    assert sysctls.apply(Plan(add={KEY: "2"})) == {}
    assert sysctls.apply(Plan(change={KEY: ("2", "0")})) == {}
    assert json.loads((tmp_path / "run/sysctls-services.json").read_text()) == {KEY: ["1", "0"]}
    assert sysctls.before_us(KEY) == "1"
    (root / KEY).write_text("7")
    assert sysctls.before_us(KEY) == "7"  # another hand's value is what there is now
    (root / KEY).unlink()
    assert sysctls.before_us(KEY) is None


@pytest.mark.parametrize("first_off", ["services", "firewall"])
def test_what_two_controllers_hold_is_given_back_by_the_last_of_them(
    root: Path, tmp_path: Path, first_off: str
) -> None:
    services = Sysctls("services", tmp_path / "run", root)
    firewall = Sysctls("firewall", tmp_path / "run", root)
    assert services.apply(Plan(add={KEY: "2"})) == {}
    assert firewall.apply(Plan(add={KEY: "2"})) == {}
    first, last = (services, firewall) if first_off == "services" else (firewall, services)
    assert first.apply(Plan(remove={KEY: "2"})) == {}
    assert services.current(KEY) == "2"
    assert KEY not in first.read().ours
    assert last.read().ours == {KEY: "2"}
    assert last.before_us(KEY) == "1"
    assert last.apply(Plan(remove={KEY: "2"})) == {}
    assert services.current(KEY) == "1"


def test_what_cannot_be_handed_over_is_not_given_back_either(root: Path, tmp_path: Path) -> None:
    services = Sysctls("services", tmp_path / "run", root)
    assert services.apply(Plan(add={KEY: "2"})) == {}
    (tmp_path / "run/sysctls-firewall.json").mkdir()
    assert "sysctls-firewall.json" in services.apply(Plan(remove={KEY: "2"}))[KEY].reason
    assert services.current(KEY) == "2"
    assert KEY in services.read().ours


def test_what_is_only_wanted_reads_as_foreign(sysctls: Sysctls) -> None:
    sysctls.expect({KEY: "2", "net/ipv4/none": "1"})
    actual = sysctls.read()
    assert (actual.ours, actual.foreign) == ({}, {KEY: "1"})


def test_a_key_that_leaves_the_directory_is_refused(sysctls: Sysctls) -> None:
    for key in ("../etc/passwd", "net//ipv4", "/net"):
        assert isinstance(sysctls.apply(Plan(add={key: "1"}))[key], Refused)
        assert sysctls.current(key) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": ["0"]}'])
def test_a_broken_record_tells_nothing_and_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "former.json"
    path.write_text(content)
    values = FormerValues(path)
    assert list(values) == []
    values.update({"b": Former("0", "1")})
    assert json.loads(path.read_text()) == {"b": ["0", "1"]}
    assert FormerValues(path).get("b") == Former("0", "1")
    values.forget({"b"})
    assert not path.exists()


def test_a_record_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "former.json").mkdir()
    with pytest.raises(EdgeError, match=r"former\.json"):
        list(FormerValues(tmp_path / "former.json"))
