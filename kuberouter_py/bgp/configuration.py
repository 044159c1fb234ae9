"""Owns the text of BIRD's configuration: a pure function of the Speaker, commented for whoever reads the file.

Announced prefixes are not in it: they are routes in the hand-over table (names.HANDOVER_TABLE), which BIRD learns, so
that one more costs one netlink message. Their metric says who gets them (bgp.Announced). What sessions and filters look
like is in sessions.py and filters.py; whether BIRD takes the text, BIRD says itself.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from kuberouter_py.bgp import filters, sessions
from kuberouter_py.model.bgp import Speaker
from kuberouter_py.model.names import HANDOVER_TABLE, ROUTE_PROTOCOL, fingerprint

# The text's own fingerprint, as a constant that BIRD can be asked for: which text is loaded.
LOADED = "kuberouter_py_text"
# With the family behind it: the protocol that writes into the main table.
MAIN = "main"
_RESTART = "graceful restart wait"
# Bytes of the log, after which it is moved to its ".1": months of sessions that come and go.
LOG_LIMIT = 1 << 20
# Bytes of the socket that tells of routes. 10,000 at once do not fit into the kernel's 212,992, and what was lost is
# found only by the next scan.
NETLINK_BUFFER = 16 << 20

_HEAD = f"""\
# BIRD's configuration of this node, written by kuberouter-py. What is changed by hand here is lost.
#
# The prefixes that this node announces are not listed here. They are routes in kernel table {HANDOVER_TABLE}:
#   ip route show table {HANDOVER_TABLE}; ip -6 route show table {HANDOVER_TABLE}
# metric 1: pods of this node; metric 2: addresses of Services; metric 3: announced to nobody, but refused from others.
"""

_FAMILY = f"""
# IPv{{family}}: what this node announces, out of kernel table {HANDOVER_TABLE}.
ipv{{family}} table handover{{family}};

protocol kernel learn{{family}} {{{{
  kernel table {HANDOVER_TABLE};
  learn;
  scan time 60;
  netlink rx buffer {NETLINK_BUFFER};
  ipv{{family}} {{{{
    table handover{{family}};
    import where krt_source = {ROUTE_PROTOCOL};
    export none;
  }}}};
}}}}

# It is preferred to what anybody else says of the same prefix.
protocol pipe ours{{family}} {{{{
  table master{{family}};
  peer table handover{{family}};
  import filter {{{{ preference = 1000; accept; }}}};
  export none;
}}}}

# The node's own routes, by which next hops are resolved that are not on a link of this node; and back into the main
# table what external peers announce. Routes to other nodes' pods are not written by BIRD.
protocol kernel {MAIN}{{family}} {{{{
  learn;{{keep}}
  merge paths on;
  ipv{{family}} {{{{
    import where krt_source != {ROUTE_PROTOCOL};
    export where source = RTS_BGP && proto ~ "{sessions.EXTERNAL}*";
  }}}};
}}}}

protocol direct links{{family}} {{{{
  ipv{{family}} {{{{ import where net.len < {{bits}}; }}}};
}}}}
"""


def render(speaker: Speaker, log: str, console: bool = False) -> str:
    """The whole file. log: path of BIRD's log; console: log to the standard error as well.

    Raises ValueError, with the reason, for what cannot be written down so that BIRD reads the same.
    """
    parts = [_options(speaker, log, console)]
    for family in sorted(speaker.families):
        keep = "\n  persist;\n  graceful restart;" if speaker.graceful_restart else ""
        parts.append(_FAMILY.format(family=family, keep=keep, bits=32 if family == 4 else 128))
        parts.append(filters.of_family(speaker, family))
    if any(peer.bfd for peer in speaker.peers):
        parts.append("\nprotocol bfd { }\n")
    parts += [sessions.session(speaker, peer) for peer in sorted(speaker.peers, key=lambda peer: peer.address)]
    body = "".join(parts)
    mark = f"# What `birdc eval {LOADED}` tells of the text that is loaded."
    return f'{_HEAD}\n{mark}\ndefine {LOADED} = "{fingerprint(body)}";\n{body}'


def fingerprint_of(text: str) -> str:
    """What BIRD answers to `eval LOADED` when it has loaded this text; "" where it is none of ours."""
    _, found, rest = text.partition(f'\ndefine {LOADED} = "')
    return rest.partition('"')[0] if found else ""


def restarts_gracefully(text: str) -> bool:
    """Whether the text says so."""
    return f"\n{_RESTART} " in text


def _options(speaker: Speaker, log: str, console: bool) -> str:
    classes = "{ trace, info, remote, warning, error, auth, fatal, bug }"
    lines = [
        "",
        f"router id {IPv4Address(speaker.router_id)};",
        f"log {sessions.quoted(log)} {LOG_LIMIT} {sessions.quoted(f'{log}.1')} {classes};",
    ]
    if console:
        lines.append(f"log stderr {classes};")
    lines += [f"timeformat {what} iso long ms;" for what in ("base", "log", "protocol", "route")]
    lines.append("debug protocols { states };")
    if speaker.graceful_restart:
        lines.append(f"{_RESTART} {speaker.graceful_restart.deferral};")
    return "\n".join([*lines, "", "protocol device { }", ""])
