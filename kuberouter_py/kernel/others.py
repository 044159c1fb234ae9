"""What kube-proxy and kube-router left in this kernel: read as one value, and taken away precisely.

Whose a thing is, model/others.py knows by its name; what shall go is decided elsewhere (Away). Nothing is ever written
to anything else, and what would not go is told, with its reason, for another attempt.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EBUSY, ENOENT, ESRCH
from typing import Final

from kuberouter_py.kernel import command, ipset_codec, ipvs_codec, netlink, rtnetlink, rtnetlink_routes
from kuberouter_py.kernel.generic_netlink import generic_family
from kuberouter_py.kernel.ipset import entries_of, headers
from kuberouter_py.kernel.iptables import LOCK_WAIT
from kuberouter_py.kernel.iptables_flavours import FAMILIES, FLAVOURS, Flavour, Programs
from kuberouter_py.kernel.links import find_link, link_states
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, Batch, NetlinkError
from kuberouter_py.kernel.nftables import NfTables
from kuberouter_py.kernel.others_rules import removal
from kuberouter_py.kernel.rtnetlink import LinkMessage
from kuberouter_py.model.kernel import LinkState, ServerKey, VirtualServerKey
from kuberouter_py.model.names import is_vip_link
from kuberouter_py.model.notation_servers import server_option
from kuberouter_py.model.others import (
    ACCOUNTS,
    DSR_RULE,
    EXTERNAL_RULE,
    IPVS_LINK,
    NFT_TABLE,
    POLICY_TABLES,
    PROXY,
    ROUTER_POLICIES,
    ROUTER_SERVICES,
    Away,
    Frontends,
    Gone,
    MarkRule,
    Remains,
    owner_of_chain,
    owner_of_rule,
    owner_of_set,
)
from kuberouter_py.ports import EdgeError, Unavailable

_ACCOUNT_DELETE: Final = 7 << 8 | 3  # NFNL_SUBSYS_ACCT, NFNL_MSG_ACCT_DEL
# Of kube-proxy's nftables table (its mode since 1.29).
_NFT_SERVICES, _NFT_NODE_PORTS, _NFT_ADDRESSES = "service-ips", "service-nodeports", "nodeport-ips"


class OthersInKernel:
    """vip_links: names of ours (--vip-link may name kube-ipvs0); what is on one of them is no node address."""

    def __init__(self, vip_links: Sequence[str], run: Callable[..., str] = command.run) -> None:
        self._vip_links = tuple(vip_links)
        self._programs = Programs("", run)
        self._netfilter = Batch(NETLINK_NETFILTER)
        self._generic = Batch(NETLINK_GENERIC)
        self._route = Batch(NETLINK_ROUTE, strict=True)
        self._tables = NfTables()

    # -- what there is -----------------------------------------------------------------------------------------------

    def read(self) -> Remains:
        """All of it. What a node lacks (ip_vs, a flavour of iptables) holds nothing; what cannot be read is told."""
        unread: list[str] = []
        rules: dict[tuple[str, int], str] = {}
        for flavour, family in ((flavour, family) for flavour in FLAVOURS for family in FAMILIES):
            with _told(unread):
                rules[flavour, family] = self._programs.text(flavour, family)
        sets = {}
        with _told(unread):
            for header in list(headers(self._netfilter, "")):
                if owner_of_set(header.name) is not None:
                    sets[header.name] = frozenset(entry for entry, _mark in entries_of(self._netfilter, header))
        servers: list[ServerKey] = []
        with _told(unread):
            servers = [ipvs_codec.parse_service(each).key for each in self._generic.dump(self._ipvs().list_servers())]
        links = [link for link in link_states(self._route) if not self._is_ours(link)]
        ipvs_link = next((link for link in links if link.name == IPVS_LINK and link.kind == "dummy"), None)
        return Remains(
            rules=rules,
            sets=sets,
            nft={family: self._frontends(family) for family in FAMILIES if self._tables.has(family, NFT_TABLE)},
            ipvs_link=frozenset(address for address, _ in ipvs_link.addresses) if ipvs_link else None,
            servers=frozenset(servers),
            mark_rules=frozenset(self._mark_rules()),
            policy_tables=frozenset(family for family, name in POLICY_TABLES.items() if self._tables.has(family, name)),
            local=frozenset(
                address
                for link in links
                if link is not ipvs_link
                for address, _ in link.addresses
                if not _of_one_link(address)
            ),
            unread=tuple(unread),
        )

    def _is_ours(self, link: LinkState | LinkMessage) -> bool:
        return is_vip_link(link.name, link.kind, link.alias, self._vip_links)

    def _ipvs(self) -> ipvs_codec.Messages:
        return ipvs_codec.Messages(generic_family(self._generic, "IPVS", "ip_vs"))

    def _frontends(self, family: int) -> Frontends:
        size = 4 if family == 4 else 16
        services = set()
        for key in self._tables.elements(family, NFT_TABLE, _NFT_SERVICES):
            protocol, port = _protocol_and_port(key[size:])
            services.add(VirtualServerKey(protocol, key[:size], port))
        ports = map(_protocol_and_port, self._tables.elements(family, NFT_TABLE, _NFT_NODE_PORTS))
        addresses = self._tables.elements(family, NFT_TABLE, _NFT_ADDRESSES)
        return Frontends(frozenset(services), frozenset(ports), frozenset(key[:size] for key in addresses))

    def _mark_rules(self) -> Iterator[MarkRule]:
        for family in FAMILIES:
            for rule in map(rtnetlink_routes.read_rule, self._route.dump(rtnetlink_routes.all_rules(family))):
                where = (rule.priority, rule.table)
                if (where == DSR_RULE and rule.mark) or (where == EXTERNAL_RULE and not rule.mark):
                    yield MarkRule(family, rule.priority, rule.table, rule.mark)

    # -- away with it ------------------------------------------------------------------------------------------------

    def remove(self, remains: Remains, away: Away) -> Gone:
        """First what takes packets (rules, tables), then what they lean on, last kube-ipvs0 with its addresses."""
        gone = Gone()
        sets = [name for name in remains.sets if owner_of_set(name) in away.owners]
        for (flavour, family), _text in remains.rules.items():
            with _told(gone.failed):
                self._remove_rules(flavour, family, sets, away, gone)  # type: ignore[arg-type]
        for family, name in self._their_tables(remains, away):
            with _told(gone.failed):
                self._tables.delete(family, name)
                _count(gone, "nftables tables")
        self._send(gone, "ipsets", self._netfilter, {name: ipset_codec.destroy(name) for name in sets})
        if PROXY in away.owners:
            self._remove_accounts()
        if away.servers:
            with _told(gone.failed):
                messages = self._ipvs()
                self._send(
                    gone, "virtual servers", self._generic,
                    {server_option(key): messages.delete(key) for key in away.servers},
                )  # fmt: skip
        link = find_link(self._route, IPVS_LINK) if PROXY in away.owners else None
        if link is not None and link.kind == "dummy" and not self._is_ours(link):
            self._send(gone, "links", self._route, {IPVS_LINK: rtnetlink.delete_link(link.index)})
        if ROUTER_SERVICES in away.owners:
            marked = {rule for rule in remains.mark_rules if not rule.mark or rule.mark in away.marks}
            self._remove_mark_rules(marked, gone)
        return gone

    def _remove_rules(self, flavour: Flavour, family: int, sets: Sequence[str], away: Away, gone: Gone) -> None:
        """By what stands there now: between reading and removing somebody may have changed a rule."""
        plan = removal(
            self._programs.text(flavour, family),
            lambda table, chain: owner_of_chain(table, chain) in away.owners,
            lambda table, chain, rule: owner_of_rule(table, chain, rule, away.marks) in away.owners,
            sets,
            away.keep,
        )
        if plan.script:
            self._programs.restore(flavour, family, plan.script, LOCK_WAIT)
        _count(gone, "chains", plan.chains)
        gone.kept += [f"IPv{family} ({flavour}) {each}" for each in plan.kept]

    def _their_tables(self, remains: Remains, away: Away) -> Iterator[tuple[int, str]]:
        if PROXY in away.owners:
            yield from ((family, NFT_TABLE) for family in remains.nft)
        if ROUTER_POLICIES in away.owners:
            yield from ((family, POLICY_TABLES[family]) for family in remains.policy_tables)

    def _send(self, gone: Gone, kind: str, batch: Batch, messages: dict[str, bytes]) -> None:
        names = list(messages)
        failed = batch.send(list(messages.values()))
        for at, number in failed.items():
            if number not in (ENOENT, ESRCH):
                busy = number in (EBUSY, ipset_codec.ERR_BUSY)
                gone.failed.append(f"{kind} {names[at]}: {'in use' if busy else ipset_codec.error_text(number)}")
        _count(gone, kind, len(names) - len(failed))

    def _remove_mark_rules(self, rules: Collection[MarkRule], gone: Gone) -> None:
        """And the routes of the tables that they lead to, which are kube-router's own."""
        messages = {}
        for family, priority, table, mark in rules:
            rule = rtnetlink_routes.RuleMessage(priority, mark, 0xFFFF_FFFF if mark else 0, table, 0)
            name = f"priority {priority} table {table} (IPv{family})"
            messages[name] = rtnetlink_routes.policy_rule(rtnetlink.RTM_DELRULE, 0, family, rule)
        self._send(gone, "policy rules", self._route, messages)
        for family, table in {(rule.family, rule.table) for rule in rules}:
            with suppress(NetlinkError):  # there is no such table
                routes = [
                    bytes(payload) for payload in self._route.dump(rtnetlink_routes.routes_of_table(family, table))
                ]
                self._route.send([netlink.message(rtnetlink.RTM_DELROUTE, 0, route) for route in routes])

    def _remove_accounts(self) -> None:
        """Counters that a rule of somebody else uses are refused, and stay."""
        header = struct.pack("=BBH", 0, 0, 0)
        self._netfilter.send([netlink.message(_ACCOUNT_DELETE, 0, header, netlink.text(1, name)) for name in ACCOUNTS])

    def close(self) -> None:
        for part in (self._netfilter, self._generic, self._route, self._tables):
            part.close()


@contextmanager
def _told(failures: list[str]) -> Iterator[None]:
    try:
        yield
    except Unavailable:
        pass  # a node that lacks it has nothing there
    except EdgeError as error:
        failures.append(str(error))


def _count(gone: Gone, kind: str, number: int = 1) -> None:
    if number > 0:
        gone.done[kind] = gone.done.get(kind, 0) + number


def _protocol_and_port(key: bytes) -> tuple[int, int]:
    return key[0], int.from_bytes(key[4:6], "big")


def _of_one_link(address: bytes) -> bool:
    """Loopback and link-local addresses, on which no NodePort answers (127.0.0.0/8 is a case of its own)."""
    if len(address) == 4:
        return address[0] == 127 or address[:2] == b"\xa9\xfe"
    return address == bytes(15) + b"\1" or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
