"""Every option once: defaults, text both ways, errors that name the flag."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.config import (
    OPTIONS,
    BadOption,
    Config,
    texts_of_environment,
    unknown_variables,
    without_effect,
)
from kuberouter_py.model.bgp import WITHHELD
from kuberouter_py.model.values import parse_cidr

# kube-router v2.11's defaults where it has the option (its pkg/options/options.go), kube-proxy 1.35's for the rest.
THEIR_DEFAULTS = {
    "run-service-proxy": "true",
    "run-router": "true",
    "run-firewall": "true",
    "cleanup": "false",
    "cache-sync-timeout": "1m0s",
    "enable-ipv4": "true",
    "ipvs-sync-period": "5m0s",
    "ipvs-permit-all": "true",
    "netpol-default-deny": "false",
    "iptables-sync-period": "5m0s",
    "use-nftables-for-netpol": "false",
    "excluded-cidrs": "",
    "nodeport-bindon-all-ip": "false",
    "masquerade-all": "false",
    "hairpin-mode": "false",
    "strict-external-ip-validation": "true",
    "service-external-ip-range": "",
    "loadbalancer-ip-range": "",
    "enable-overlay": "true",
    "overlay-type": "subnet",
    "overlay-encap": "ipip",
    "overlay-encap-port": "5555",
    "enable-pod-egress": "true",
    "enable-cni": "true",
    "auto-mtu": "true",
    "routes-sync-period": "5m0s",
    "injected-routes-sync-period": "1m0s",
    "disable-source-dest-check": "true",
    "advertise-pod-cidr": "true",
    "advertise-cluster-ip": "false",
    "advertise-external-ip": "false",
    "advertise-loadbalancer-ip": "false",
    "enable-ibgp": "true",
    "nodes-full-mesh": "true",
    "cluster-asn": "0",
    "router-id": "",
    "bgp-port": "179",
    "bgp-holdtime": "1m30s",
    "bgp-graceful-restart": "false",
    "bgp-graceful-restart-time": "1m30s",
    "bgp-graceful-restart-deferral-time": "6m0s",
    "override-nexthop": "false",
    "gobgp-admin-address": "127.0.0.1",
    "gobgp-admin-port": "50051",
    "peer-router-ips": "",
    "peer-router-asns": "",
    "peer-router-ports": "",
    "peer-router-multihop-ttl": "0",
    "peer-router-passwords": "",
    "peer-router-passwords-file": "",
    "enable-bfd": "false",
    "bfd-desired-min-tx-interval": "1000",
    "bfd-required-min-rx-interval": "1000",
    "bfd-detection-multiplier": "3",
    "bfd-port": "3784",
    "service-tcp-timeout": "0s",
    "service-tcpfin-timeout": "0s",
    "service-udp-timeout": "0s",
    "health-addr": "",
    "health-port": "20244",
    "metrics-addr": "",
    "metrics-port": "0",
    "metrics-path": "/metrics",
    "v": "0",
    "conntrack-max-per-core": "32768",
    "conntrack-min": "131072",
    "conntrack-tcp-timeout-established": "24h0m0s",
    "conntrack-tcp-timeout-close-wait": "1h0m0s",
    "proxy-healthz-port": "10256",
}


def test_defaults_are_the_peers() -> None:
    texts = Config().as_texts()
    assert {name: texts[name] for name in THEIR_DEFAULTS} == THEIR_DEFAULTS
    # Where we differ on purpose: IPv6 follows the Node, and no range is assumed.
    assert texts["enable-ipv6"] == "auto"
    assert texts["service-cluster-ip-range"] == ""


def test_every_default_is_what_its_own_text_says() -> None:
    config = Config()
    assert Config.from_texts({name: [text] for name, text in config.as_texts().items()}) == config
    assert Config.from_texts({}) == config
    assert len(OPTIONS) == len(fields(Config))


def test_lists_gather_everything_else_takes_the_last() -> None:
    config = Config.from_texts(
        {"excluded-cidrs": ["10.0.0.0/8,10.1.0.0/16", "fd00::/8"], "health-port": ["1", "2"], "run-router": ["false"]}
    )
    assert config.excluded_cidrs == tuple(map(parse_cidr, ("10.0.0.0/8", "10.1.0.0/16", "fd00::/8")))
    assert config.health_port == 2
    assert not config.run_router


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"ipvs-sync-period": "abc"}, '--ipvs-sync-period: "abc" is not a duration like 30s, 5m or 1h30m'),
        ({"ipvs-sync-period": "0s"}, "--ipvs-sync-period: must be more than 0"),
        ({"iptables-sync-period": "999ms"}, "--iptables-sync-period: 999ms is shorter than a second"),
        ({"run-router": "perhaps"}, '--run-router: "perhaps" is neither true nor false'),
        ({"health-port": "70000"}, '--health-port: "70000" is not a port (0 to 65535)'),
        ({"ipvs-conn-tab-bits": "7"}, "--ipvs-conn-tab-bits: 7 is neither 0 nor 8 to 20"),
        ({"ipvs-conn-tab-bits": "21"}, '--ipvs-conn-tab-bits: "21" is not a number of bits (0 to 20)'),
        ({"vip-binding": "link"}, '--vip-binding: "link" is none of auto, address, route'),
        ({"no-such": "1"}, "--no-such: no such option"),
        ({"enable-ipv4": "false", "enable-ipv6": "false"}, "--enable-ipv4: false, and --enable-ipv6 too"),
        (
            {"enable-ipv6": "false", "loadbalancer-ip-range": "10.0.0.0/8,fd00::/64"},
            "--loadbalancer-ip-range: fd00::/64, but --enable-ipv6=false",
        ),
        (
            {"enable-ipv4": "false", "service-cluster-ip-range": "10.96.0.0/12"},
            "--service-cluster-ip-range: 10.96.0.0/12",
        ),
        ({"manifests": "/srv", "kubeconfig": "/etc/kubeconfig"}, "--manifests: the cluster cannot come from"),
        ({"manifests": "/srv", "master": "https://192.0.2.1"}, "--manifests: the cluster cannot come from"),
        ({"detect-local-mode": "ClusterCIDR"}, "--detect-local-mode: ClusterCIDR needs --cluster-cidr"),
        ({"ipvs-min-sync-period": "6m"}, "--ipvs-min-sync-period: 6m0s is longer than --ipvs-sync-period"),
        ({"proxy-healthz-port": "20244"}, "--proxy-healthz-port: 20244 is the port of --health-port already"),
        (
            {"metrics-port": "10249", "proxy-metrics-port": "10249"},
            "--proxy-metrics-port: 10249 is the port of --metrics-port already",
        ),
        ({"detect-local-mode": "BridgeInterface"}, "--detect-local-mode: BridgeInterface needs --pod-bridge-interface"),
        ({"overlay-type": "some"}, '--overlay-type: "some" is none of subnet, full'),
        ({"overlay-encap": "vxlan"}, '--overlay-encap: "vxlan" is none of ipip, fou'),
        ({"overlay-encap-port": "1023"}, '--overlay-encap-port: "1023" is not a port that'),
        ({"cluster-asn": "64511"}, '--cluster-asn: "64511" is not an AS number for private use'),
        ({"router-id": "0.0.0.0"}, '--router-id: "0.0.0.0" is neither generate nor'),
        ({"router-id": "fd00::1"}, '--router-id: "fd00::1" is neither generate nor'),
        ({"bgp-holdtime": "2s"}, "--bgp-holdtime: 2s is not 3 to 65535 whole seconds"),
        ({"bgp-holdtime": "65536s"}, "--bgp-holdtime: 18h12m16s is not 3 to 65535 whole seconds"),
        (
            {"service-node-port-range": "garbage"},
            '--service-node-port-range: "garbage" is not a range of ports like 30000-32767',
        ),
        ({"service-node-port-range": "30000"}, '--service-node-port-range: "30000" is not a range of ports'),
        (
            {"service-node-port-range": "32767-30000"},
            '--service-node-port-range: "32767-30000" is not a range of ports',
        ),
        ({"service-node-port-range": "0-10"}, '--service-node-port-range: "0-10" is not a range of ports'),
        (
            {"service-node-port-range": "30000-65536"},
            '--service-node-port-range: "30000-65536" is not a range of ports',
        ),
        ({"bgp-port": "0"}, '--bgp-port: "0" is not a port (1 to 65535)'),
        ({"bfd-port": "3785"}, "--bfd-port: 3785, but BIRD's is 3784"),
        ({"bfd-detection-multiplier": "0"}, '--bfd-detection-multiplier: "0" is not a multiplier (1 to 255)'),
        ({"peer-router-multihop-ttl": "1"}, "--peer-router-multihop-ttl: 1 reaches no further than the link"),
        ({"peer-router-ips": "10.0.0.1"}, "--peer-router-asns: 0 given for 1 of --peer-router-ips"),
        ({"peer-router-asns": "64513"}, "--peer-router-asns: 1 given for 0 of --peer-router-ips"),
        ({"peer-router-ips": "10.0.0.1,10.0.0.1"}, "--peer-router-ips: 10.0.0.1 is there twice"),
        ({"peer-router-ips": "127.0.0.1"}, '--peer-router-ips: "127.0.0.1" is no address that a session can lead to'),
        (
            {"peer-router-ips": "10.0.0.1", "peer-router-asns": "23456"},
            '--peer-router-asns: "23456" is not an AS number that a peer can have',
        ),
        (
            {"peer-router-ips": "10.0.0.1", "peer-router-asns": "64513", "peer-router-ports": "179,180"},
            "--peer-router-ports: 2 given for 1 of --peer-router-ips",
        ),
        (
            {"peer-router-ips": "10.0.0.1", "peer-router-asns": "64513", "peer-router-passwords": "c2VjcmV0,"},
            "--peer-router-passwords: 2 given for 1 of --peer-router-ips",
        ),
        ({"peer-router-passwords-file": "/etc/passwords"}, "--peer-router-passwords-file: passwords of no peers"),
        (
            {"bgp-graceful-restart": "true", "bgp-graceful-restart-time": "4096s"},
            "--bgp-graceful-restart-time: 1h8m16s is not whole seconds up to 1h8m15s",
        ),
        (
            {"bgp-graceful-restart": "true", "bgp-graceful-restart-deferral-time": "18h1s"},
            "--bgp-graceful-restart-deferral-time: 18h0m1s is not whole seconds up to 18h0m0s",
        ),
        ({"bird-socket": "bird.ctl"}, '--bird-socket: "bird.ctl" is not an absolute path'),
        ({"cni-conf-file": "/etc/cni/net.d/x.txt"}, '--cni-conf-file: "/etc/cni/net.d/x.txt" is not an absolute path'),
        (
            {"enable-ipv6": "false", "advertise-cluster-ip-range": "fd00:96::/112"},
            "--advertise-cluster-ip-range: fd00:96::/112, but --enable-ipv6=false",
        ),
    ],
)
def test_what_makes_no_sense_names_its_flag(texts: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption) as raised:
        Config.from_texts({name: [text] for name, text in texts.items()})
    assert str(raised.value).startswith(message)


def test_one_port_may_carry_metrics_beside_probes() -> None:
    assert Config.from_texts({"metrics-port": ["20244"]}).metrics_port == 20244


@pytest.mark.parametrize(
    ("texts", "mode"),
    [
        ({}, "auto"),
        ({"cluster-cidr": "10.244.0.0/16"}, "ClusterCIDR"),
        ({"pod-bridge-interface": "cni0"}, "BridgeInterface"),
        ({"pod-interface-name-prefix": "veth"}, "InterfaceNamePrefix"),
        ({"detect-local-mode": "NodeCIDR", "cluster-cidr": "10.244.0.0/16"}, "NodeCIDR"),
    ],
)
def test_local_mode(texts: dict[str, str], mode: str) -> None:
    assert Config.from_texts({name: [text] for name, text in texts.items()}).local_mode() == mode


def test_graceful_restart_times_count_only_with_it() -> None:
    assert Config.from_texts({"bgp-graceful-restart-time": ["2h"]}).bgp_graceful_restart_time == 7200


def peers_with(passwords: str) -> Config:
    peers = {"peer-router-ips": ["10.0.0.1,fd00::1"], "peer-router-asns": ["64513,64514"]}
    return Config.from_texts({**peers, "peer-router-passwords": [passwords]})


def test_passwords_are_known_and_shown_nowhere() -> None:
    config = peers_with(",c2VjcmV0")
    assert [each and each.text for each in config.peer_router_passwords] == [None, "secret"]
    texts = config.as_texts()
    assert texts["peer-router-passwords"] == ",***"
    shown = f"{texts} {config!r}"
    assert "secret" not in shown
    assert "c2VjcmV0" not in shown


def test_of_passwords_the_texts_tell_only_where_there_is_one() -> None:
    read = Config.from_texts({name: [text] for name, text in peers_with("c2VjcmV0,").as_texts().items()})
    assert read == replace(peers_with("c2VjcmV0,"), peer_router_passwords=(WITHHELD, None))


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("c2VjcmV0c", "is not base64"),
        ("secret!", "is not base64"),
        ("c2VjcmV0Cg==", "ends in a line break"),
        ("c2VjInJldA==", "has a double quote"),
        ("/w==", "is not base64 of UTF-8"),
        (b64encode(b"s" * 81).decode(), "is not 1 to 80 bytes"),
    ],
)
def test_no_reason_quotes_a_password(password: str, reason: str) -> None:
    with pytest.raises(BadOption) as raised:
        peers_with(f"{password},")
    assert str(raised.value).startswith(f"--peer-router-passwords: a password {reason}")
    assert str(raised.value).endswith(" (password 1 of 2)")
    assert password not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("text", ["30000-32767", "30000:32767", "1-65535", "80-80", ""])
def test_a_range_of_ports_as_kube_router_takes_it(text: str) -> None:
    assert Config.from_texts({"service-node-port-range": [text]}).service_node_port_range == text


def test_a_password_that_is_wrong_is_told_by_its_place() -> None:
    with pytest.raises(BadOption, match=r"UTF-8 \(password 3 of 3\)$"):
        peers_with("c2VjcmV0,,secret!")
    with pytest.raises(BadOption, match=r"UTF-8$"):
        peers_with("secret!")


def test_environment() -> None:
    assert texts_of_environment(
        {
            "KUBEROUTER_RUN_ROUTER": "false",
            "KUBEROUTER_MASTER": "",  # empty: not said
            "KUBEROUTER_SERVICE_HOST": "10.96.0.7",  # what Kubernetes sets for a Service named kuberouter
            "NODE_NAME": "n1",
            "HOME": "/root",
        }
    ) == {"run-router": ["false"], "hostname-override": ["n1"]}
    both = {"NODE_NAME": "n1", "KUBEROUTER_HOSTNAME_OVERRIDE": "n2"}
    assert texts_of_environment(both) == {"hostname-override": ["n2"]}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ipvs-sync-period": st.integers(1, 10**6).map(lambda n: f"{n}ms"),
            "enable-ipv6": st.sampled_from(["auto", "true", "t"]),
            "excluded-cidrs": st.lists(st.ip_addresses().map(str)).map(",".join),
            "metrics-port": st.integers(0, 65535).map(str),
            "log-format": st.sampled_from(["json", "console"]),
            "cluster-cidr": st.lists(st.ip_addresses(v=6).map(lambda one: f"{one}/64"), max_size=2).map(",".join),
        },
    )
)
def test_a_configuration_survives_its_texts(texts: dict[str, str]) -> None:
    config = Config.from_texts({name: [text] for name, text in texts.items()})
    assert Config.from_texts({name: [text] for name, text in config.as_texts().items()}) == config


@given(st.sampled_from(sorted(OPTIONS)), st.text(max_size=30))
def test_any_text_is_a_value_or_an_error_that_names_the_flag(name: str, text: str) -> None:
    try:
        config: Any = Config.from_texts({name: [text]})
    except BadOption as error:
        assert str(error).startswith("--")
    else:
        assert isinstance(config, Config)


def test_variables_that_are_no_options() -> None:
    links = ["KUBEROUTER_PY_SERVICE_HOST", "KUBEROUTER_PY_SERVICE_PORT_HTTP", "KUBEROUTER_PY_PORT_80_TCP_ADDR"]
    options = ["KUBEROUTER_RUN_ROUTER", "KUBEROUTER_HEALTH_PORT", "NODE_NAME", "PATH"]
    assert unknown_variables([*links, *options, "KUBEROUTER_RUN_ROUTR"]) == ["KUBEROUTER_RUN_ROUTR"]


def test_flags_without_effect() -> None:
    assert without_effect(Config()) == []
    assert without_effect(Config(hairpin_mode=True, masquerade_all=True)) == ["--hairpin-mode"]
