"""Everything that is read from, and written into, this node's kernel. Values in and out (model/, ports.py): nothing
here decides, and nothing else in the package speaks netlink or runs a program.

doors      netlink_socket.py (bulk), netlink.py (what a message is made of), generic_netlink.py, rtnetlink.py (layouts;
           rtnetlink_routes.py), namespaces.py; command.py
of all     ipset.py (ipset_codec.py, ipset_write.py), iptables.py (iptables_text.py, iptables_flavours.py), sysctl.py;
           former.py: how things were before us
Services   ipvs.py (ipvs_codec.py, ipvs_table.py, ipvs_write.py, ipvs_templates.py); links.py, routes.py: addresses
           on the VIP link and their local routes; bridge.py: hairpin mode; diversions.py, pod_addresses.py: direct
           server return; conntrack.py, for policies too
router     pod_bridge.py, tunnels.py (tunnel_codec.py), gue.py, pod_routes.py, lookup_rules.py, handover.py (table 159,
           for BIRD), on own_routes.py and route_codec.py; cni_file.py
news       announcements.py: the listening; monitor.py for Services and policies, router_news.py for the router;
           rule_news.py: who writes iptables rules (own_writes.py: not we ourselves); file_news.py: one file
others     others.py, others_rules.py, nftables.py, processes.py: what other Service proxies left, and whether they live
questions  looking.py, for `explain`; tcp_digests.py
"""
