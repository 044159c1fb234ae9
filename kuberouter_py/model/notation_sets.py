"""Sets and chains in the notation of ipset and iptables. As notation.py, which knows the tables by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kuberouter_py.model.kernel import NOMATCH, Chain, IpSet, MemberValue, Rules, SetEntry, SetMember, address_text
from kuberouter_py.model.notation_servers import protocol_text
from kuberouter_py.model.notation_told import Notation

# -- ipsets ----------------------------------------------------------------------------------------------------------


def set_text(name: str, header: IpSet) -> str:
    """ "create krpy-svc-vips-4 hash:ip family inet maxelem 1048576", as `ipset save` has it."""
    family = "inet" if header.family == 4 else "inet6"
    type_name, _, options = header.type.partition(" ")
    return f"create {name} {type_name} family {family} maxelem {header.maxelem} {options}".rstrip()


def _add_set(name: str, header: IpSet) -> Iterator[str]:
    yield f"ipset {set_text(name, header)}"


def _change_set(name: str, _old: IpSet, new: IpSet) -> Iterator[str]:
    """A header cannot be changed: a new set takes the old one's place, and with it its name."""
    yield from _add_set(f"{name}-new", new)
    yield f"ipset swap {name}-new {name}"
    yield f"ipset destroy {name}-new"


def _remove_set(name: str, _header: IpSet) -> Iterator[str]:
    yield f"ipset destroy {name}"


def entry_text(entry: SetEntry) -> str:
    """ "10.96.0.10", "10.96.0.10,tcp:80", "10.244.1.2,tcp:80,10.244.1.2", "10.0.0.0/8"."""
    prefix = f"/{entry.prefix}" if entry.prefix >= 0 else ""
    text = address_text(entry.address)
    if not entry.address2:
        text += prefix
    if entry.protocol:
        text += f",{protocol_text(entry.protocol)}:{entry.port}"
    return f"{text},{address_text(entry.address2)}{prefix}" if entry.address2 else text


def _member_text(member: SetMember) -> str:
    return f"{member.set} {entry_text(member.entry)}"


def _add_member(member: SetMember, held: MemberValue) -> Iterator[str]:
    yield f"ipset add {_member_text(member)}{_held_text(held)}"


def _change_member(member: SetMember, _old: MemberValue, held: MemberValue) -> Iterator[str]:
    yield f"ipset add -exist {_member_text(member)}{_held_text(held)}"


def _held_text(held: MemberValue) -> str:
    if held is None:
        return ""
    return " nomatch" if held is NOMATCH else f" skbmark 0x{held:x}"


def _remove_member(member: SetMember, _held: MemberValue) -> Iterator[str]:
    yield f"ipset del {_member_text(member)}"


# -- iptables --------------------------------------------------------------------------------------------------------

# The chains that the kernel has itself; of them only our jumps are meant.
BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})


def _iptables(key: Chain) -> str:
    return f"{'iptables' if key.family == 4 else 'ip6tables'} -t {key.table}"


def _chain_text(key: Chain) -> str:
    return f"{_iptables(key)} {key.chain}"


def _add_chain(key: Chain, rules: Rules) -> Iterator[str]:
    if key.chain in BUILT_IN:
        yield from _insert_jumps(key, rules)
    else:
        yield f"{_iptables(key)} -N {key.chain}"
        yield from _append_rules(key, rules)


def _change_chain(key: Chain, old: Rules, new: Rules) -> Iterator[str]:
    if key.chain in BUILT_IN:
        yield from _remove_chain(key, old)
        yield from _insert_jumps(key, new)
    else:
        yield f"{_iptables(key)} -F {key.chain}"
        yield from _append_rules(key, new)


def _remove_chain(key: Chain, rules: Rules) -> Iterator[str]:
    if key.chain in BUILT_IN:
        for rule in rules.rules:
            yield f"{_iptables(key)} -D {key.chain} {rule}"
    else:
        yield f"{_iptables(key)} -F {key.chain}"
        yield f"{_iptables(key)} -X {key.chain}"


def _insert_jumps(key: Chain, rules: Rules) -> Iterator[str]:
    if not rules.first:
        yield from _append_rules(key, rules)
        return
    for number, rule in enumerate(rules.rules, 1):
        yield f"{_iptables(key)} -I {key.chain} {number} {rule}"


def _append_rules(key: Chain, rules: Rules) -> Iterator[str]:
    for rule in rules.rules:
        yield f"{_iptables(key)} -A {key.chain} {rule}"


# -- all of them -----------------------------------------------------------------------------------------------------

NOTATIONS: Mapping[str, Notation] = {
    "ipsets": Notation(str, _add_set, _change_set, _remove_set),
    "set members": Notation(_member_text, _add_member, _change_member, _remove_member),
    "iptables": Notation(_chain_text, _add_chain, _change_chain, _remove_chain),
}
