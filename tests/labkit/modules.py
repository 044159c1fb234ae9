"""Kernel modules that the lab loads before anything runs, so that no test waits for (or fails over) one on demand.

What a kernel has built in, or has not at all, is passed over.
"""

from __future__ import annotations

from typing import Final

_IPVS: Final = (
    "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_lc", "ip_vs_wlc", "ip_vs_sh", "ip_vs_dh", "ip_vs_sed", "ip_vs_nq",
    "ip_vs_mh", "ip_vs_fo", "ip_vs_ovf", "ip_vs_lblc", "ip_vs_lblcr",
)  # fmt: skip
_SETS: Final = (
    "ip_set", "ip_set_hash_ip", "ip_set_hash_net", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet", "ip_set_hash_netport", "ip_set_hash_netiface", "ip_set_hash_ipmark", "ip_set_hash_netnet",
    "ip_set_hash_mac", "ip_set_bitmap_port", "ip_set_bitmap_ip", "ip_set_list_set",
)  # fmt: skip
_XTABLES: Final = (
    "ip_tables", "ip6_tables", "iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw", "ip6table_filter",
    "ip6table_nat", "ip6table_mangle", "ip6table_raw", "ipt_REJECT", "ip6t_REJECT", "xt_set", "xt_ipvs", "xt_mark",
    "xt_connmark", "xt_comment", "xt_conntrack", "xt_addrtype", "xt_physdev", "xt_multiport", "xt_tcpudp", "xt_nat",
    "xt_MASQUERADE", "xt_REDIRECT", "xt_TCPMSS", "xt_NFLOG", "xt_LOG", "xt_limit", "xt_statistic", "xt_recent",
    "xt_socket", "xt_sctp", "xt_CT", "xt_owner", "xt_u32", "xt_string", "xt_mac", "xt_iprange", "xt_hl", "xt_TPROXY",
    "nf_tables", "nft_compat", "nft_chain_nat", "nft_ct", "nft_reject_inet", "nft_masq", "nft_fib_inet",
)  # fmt: skip
_NET: Final = (
    "nf_conntrack", "nf_conntrack_netlink", "nfnetlink_log", "dummy", "bridge", "br_netfilter", "veth", "vxlan", "ipip",
    "fou", "fou6", "ip6_tunnel", "sit", "sctp", "sctp_diag", "udp_diag", "sch_netem", "macvlan", "nf_log_syslog",
    "tcp_bbr", "virtio_net",
)  # fmt: skip

MODULES: Final = (*_IPVS, *_SETS, *_XTABLES, *_NET)
