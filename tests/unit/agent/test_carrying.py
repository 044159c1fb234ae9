"""What is carried over from another proxy: applied, remembered over a restart, and forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.agent import carrying
from kuberouter_py.agent.carrying import carry_over, forget, kube_proxy_settings, remember, remembered
from kuberouter_py.agent.others import Found
from kuberouter_py.config import Config
from kuberouter_py.controllers.takeover.served import owners
from kuberouter_py.model.others import Remains
from kuberouter_py.ports import EdgeError
from tests.unit.controllers.takeover.remains import ipvs_mode


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run" / "takeover.json"
    monkeypatch.setattr(carrying, "REMEMBERED", path)
    return path


def found(remains: Remains) -> Found:
    return Found(remains, owners(remains), ())


def configured(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "config.conf"
    file.write_text(text)
    return Config(manifests="/somewhere", kube_proxy_config=str(file), takeover=True)


def test_from_takeover_to_restart_to_cleanup(tmp_path: Path, file: Path) -> None:
    config = configured(tmp_path, "ipvs: {tcpTimeout: 2h0m0s}\nnodePortAddresses: [192.0.2.0/24]\n")
    carried = carry_over(config, found(ipvs_mode()))
    flags = ("--nodeport-addresses=192.0.2.0/24", "--service-tcp-timeout=2h0m0s")
    assert (carried.whose, carried.flags) == ("kube-proxy (ipvs mode)", flags)
    assert carried.config.service_tcp_timeout == 7200.0
    assert not file.exists()
    remember(carried)
    again = carry_over(Config(takeover=True), found(Remains()))
    assert (again.whose, again.flags, again.config.service_tcp_timeout) == (carried.whose, flags, 7200.0)
    forget()
    forget()
    assert remembered(Config()).config == Config()


def test_a_flag_that_comes_later_counts_more(tmp_path: Path) -> None:
    remember(carry_over(configured(tmp_path, "ipvs: {tcpTimeout: 2h0m0s}\n"), found(ipvs_mode())))
    assert remembered(Config(service_tcp_timeout=60.0)).config.service_tcp_timeout == 60.0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"from": 1}', '{"from": "x", "options": {"no-such": "1", "service-tcp-timeout": "soon"}}']
)
def test_a_file_that_makes_no_sense_carries_nothing(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert remembered(Config()).config == Config()
    assert remembered(Config()).flags == ()


@pytest.mark.parametrize(("text", "said"), [("[1]", "is no mapping"), ("a: [", "ParserError"), ("\x00", "ReaderError")])
def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, text: str, said: str) -> None:
    settings, (notice,) = kube_proxy_settings(configured(tmp_path, text))
    assert settings == {}
    assert "kube-proxy's configuration is not known" in notice and said in notice


def test_a_file_that_is_not_there_is_told() -> None:
    settings, (notice,) = kube_proxy_settings(Config(manifests="/x", kube_proxy_config="/no/such/file"))
    assert settings == {} and "/no/such/file" in notice


def test_not_to_be_remembered_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    carried = carry_over(configured(tmp_path, "ipvs: {tcpTimeout: 2h0m0s}\n"), found(ipvs_mode()))
    with pytest.raises(EdgeError, match=r"takeover\.json"):
        remember(carried, tmp_path / "file" / "takeover.json")
