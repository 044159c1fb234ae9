"""Options of the router: the pod network on the node, what is announced, BGP and its peers."""

from __future__ import annotations

from dataclasses import dataclass

from kuberouter_py.config.option import BadOption, option
from kuberouter_py.model import values, values_bgp
from kuberouter_py.model.bgp import Password
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import address_text

POD_NETWORK, ANNOUNCING, BGP, PEERS = "The pod network", "What is announced", "BGP", "BGP peers outside the cluster"

BFD_PORT = 3784  # BIRD's, by RFC 5881; it has no setting for it
_LONGEST_RESTART = 4095  # seconds; 12 bits of the capability (RFC 4724 §3)
_LONGEST_DEFERRAL = 18 * 3600


@dataclass(frozen=True)
class Routing:
    enable_overlay: bool = option(
        values.BOOL, True, "tunnels to Nodes that are not on a link of this one (--overlay-type)", group=POD_NETWORK
    )
    overlay_type: str = option(
        values.choice("subnet", "full"),
        "subnet",
        "subnet: a tunnel only where the other Node is in another subnet; full: to every Node",
        group=POD_NETWORK,
    )
    overlay_encap: str = option(
        values.choice("ipip", "fou"),
        "ipip",
        "how packets are packed: IP in IP, or in UDP (Generic UDP Encapsulation)",
        group=POD_NETWORK,
    )
    overlay_encap_port: int = option(values_bgp.ENCAP_PORT, 5555, "the UDP port of fou", group=POD_NETWORK)
    enable_pod_egress: bool = option(
        values.BOOL, True, "masquerade what pods send out of the cluster", group=POD_NETWORK
    )
    enable_cni: bool = option(values.BOOL, True, "complete the CNI configuration of this node", group=POD_NETWORK)
    cni_conf_file: str = option(
        values_bgp.CNI_FILE,
        "/etc/cni/net.d/10-kuberouter.conflist",
        "the file; made where there is none",
        group=POD_NETWORK,
        environment=("KUBE_ROUTER_CNI_CONF_FILE",),
    )
    auto_mtu: bool = option(
        values.BOOL,
        True,
        "give the pods' bridge and the CNI configuration the MTU of the node's link, less what tunnels add where there "
        "may be tunnels",
        group=POD_NETWORK,
    )
    routes_sync_period: float = option(
        values.SECOND_OR_MORE,
        300.0,
        "how often the kernel and BIRD are compared with what they should hold",
        group=POD_NETWORK,
    )
    injected_routes_sync_period: float = option(
        values.DURATION,
        60.0,
        "accepted for kube-router's sake: a route that is lost comes back at once",
        group=POD_NETWORK,
    )
    disable_source_dest_check: bool = option(
        values.BOOL,
        True,
        "accepted for kube-router's sake: the agent asks nothing of AWS, where direct routes between instances need "
        "their source/destination check off",
        group=POD_NETWORK,
    )

    advertise_pod_cidr: bool = option(
        values.BOOL, True, "announce this node's pod CIDRs to peers outside the cluster", group=ANNOUNCING
    )
    advertise_cluster_ip: bool = option(
        values.BOOL,
        False,
        "announce ClusterIPs; kube-router.io/service.advertise.clusterip says otherwise for one Service",
        group=ANNOUNCING,
    )
    advertise_external_ip: bool = option(
        values.BOOL, False, "announce externalIPs; likewise service.advertise.externalip", group=ANNOUNCING
    )
    advertise_loadbalancer_ip: bool = option(
        values.BOOL,
        False,
        "announce load-balancer addresses; likewise service.advertise.loadbalancerip",
        group=ANNOUNCING,
    )
    advertise_cluster_ip_range: tuple[Cidr, ...] = option(
        values.CIDRS,
        (),
        "announce these prefixes in place of the ClusterIPs in them, for routers whose tables are small",
        group=ANNOUNCING,
    )

    enable_ibgp: bool = option(
        values.BOOL,
        True,
        "sessions between the Nodes; off: nothing is lost for pods, whose routes come from the Node objects",
        group=BGP,
    )
    nodes_full_mesh: bool = option(
        values.BOOL,
        True,
        "with every Node; off: with those of this Node's AS, which the annotation kube-router.io/node.asn says",
        group=BGP,
    )
    cluster_asn: int = option(
        values_bgp.CLUSTER_ASN,
        0,
        f"the AS number of all Nodes in a full mesh; 0: {values_bgp.DEFAULT_CLUSTER_ASN}",
        group=BGP,
    )
    router_id: str = option(
        values_bgp.ROUTER_ID,
        "",
        "this node's router ID; generate: made from its address; not given: its IPv4 address, else generated",
        group=BGP,
    )
    bgp_port: int = option(
        values_bgp.BGP_PORT, 179, "the port on which BGP listens, and that of the other Nodes", group=BGP
    )
    bgp_holdtime: float = option(
        values_bgp.HOLD_TIME, 90.0, "after how long a silent peer is given up, if it offers no less", group=BGP
    )
    bgp_graceful_restart: bool = option(
        values.BOOL, False, "peers keep this node's routes while BIRD is started anew", group=BGP
    )
    bgp_graceful_restart_time: float = option(
        values.POSITIVE_DURATION, 90.0, "how long they wait for it, up to 4095s", group=BGP
    )
    bgp_graceful_restart_deferral_time: float = option(
        values.POSITIVE_DURATION,
        360.0,
        "how long BIRD then waits for their routes before it changes any, up to 18h",
        group=BGP,
    )
    override_nexthop: bool = option(
        values.BOOL,
        False,
        "announce the session's own address as next hop, not the Node's, to peers outside the cluster",
        group=BGP,
    )
    bird_socket: str = option(
        values.OPTIONAL_SOCKET_PATH,
        "",
        "control socket of a BIRD that runs beside the agent, in whose directory its configuration is written; not "
        "given: the agent runs BIRD itself",
        group=BGP,
    )
    gobgp_admin_address: str = option(
        values.TEXT,
        "127.0.0.1",
        "accepted for kube-router's sake: the engine is BIRD, which the commands bgp and birdc ask",
        group=BGP,
    )
    gobgp_admin_port: int = option(
        values.PORT, 50051, "accepted for kube-router's sake, as --gobgp-admin-address", group=BGP
    )

    peer_router_ips: tuple[bytes, ...] = option(
        values_bgp.PEER_ADDRESSES,
        (),
        "addresses of routers outside the cluster that every Node peers with; with them, the annotations for peers "
        "are not read",
        group=PEERS,
    )
    peer_router_asns: tuple[int, ...] = option(
        values_bgp.PEER_ASNS, (), "their AS numbers, one for each address", group=PEERS
    )
    peer_router_ports: tuple[int, ...] = option(
        values_bgp.PEER_PORTS, (), "their ports, one for each address; not given: 179", group=PEERS
    )
    peer_router_multihop_ttl: int = option(
        values_bgp.TTL,
        0,
        "how far away peers outside the cluster may be, in hops; 0: on a link of the node, or in its AS anywhere",
        group=PEERS,
    )
    peer_router_passwords: tuple[Password | None, ...] = option(
        values_bgp.PASSWORDS,
        (),
        "TCP MD5 passwords in base64, one for each address, empty for none; other users of the node see a command "
        "line: better the file",
        group=PEERS,
    )
    peer_router_passwords_file: str = option(
        values.FILE,
        "",
        "a file that holds the same, followed as it changes; not read where --peer-router-passwords is given",
        group=PEERS,
    )
    enable_bfd: bool = option(values.BOOL, False, "BFD with the peers that flags give", group=PEERS)
    bfd_desired_min_tx_interval: int = option(
        values_bgp.BFD_INTERVAL, 1000, "milliseconds between two packets to a peer at least", group=PEERS
    )
    bfd_required_min_rx_interval: int = option(
        values_bgp.BFD_INTERVAL, 1000, "milliseconds between two packets of a peer at least", group=PEERS
    )
    bfd_detection_multiplier: int = option(
        values_bgp.BFD_MULTIPLIER, 3, "how many lost packets are a lost peer", group=PEERS
    )
    bfd_port: int = option(
        values_bgp.BGP_PORT, BFD_PORT, f"accepted for kube-router's sake: no other than {BFD_PORT}", group=PEERS
    )


def check_routing(config: Routing) -> None:
    _check_graceful_restart(config)
    _check_peers(config)
    if config.bfd_port != BFD_PORT:
        raise BadOption(f"--bfd-port: {config.bfd_port}, but BIRD's is {BFD_PORT} and cannot be changed")


def _check_graceful_restart(config: Routing) -> None:
    """As in kube-router, the times are looked at only where they are used."""
    if not config.bgp_graceful_restart:
        return
    for name, longest in (
        ("bgp_graceful_restart_time", _LONGEST_RESTART),
        ("bgp_graceful_restart_deferral_time", _LONGEST_DEFERRAL),
    ):
        seconds = getattr(config, name)
        if seconds > longest or seconds != int(seconds):
            told, most = values.duration_text(seconds), values.duration_text(longest)
            raise BadOption(f"--{name.replace('_', '-')}: {told} is not whole seconds up to {most}")


def _check_peers(config: Routing) -> None:
    peers = config.peer_router_ips
    twice = next((each for at, each in enumerate(peers) if each in peers[:at]), None)
    if twice is not None:
        raise BadOption(f"--peer-router-ips: {address_text(twice)} is there twice")
    for name in ("peer_router_asns", "peer_router_ports", "peer_router_passwords"):
        given = len(getattr(config, name))
        if given != len(peers) and (given or name == "peer_router_asns"):
            told = f"{given} given for {len(peers)} of --peer-router-ips"
            raise BadOption(f"--{name.replace('_', '-')}: {told}, one for each is needed")
    if config.peer_router_passwords_file and not peers:
        raise BadOption("--peer-router-passwords-file: passwords of no peers: --peer-router-ips is not given")
