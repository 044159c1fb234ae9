"""One BGP session in BIRD's words. Text, pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from kuberouter_py.model.bgp import BgpPeer, GracefulRestart, Speaker
from kuberouter_py.model.kernel import address_text, family_of

# Names of BIRD's protocols: filters know by them where a route came from.
NODE, EXTERNAL = "node_", "peer_"
# Bytes of a TCP MD5 key (Linux: TCP_MD5SIG_MAXKEYLEN).
PASSWORD_LIMIT = 80
# A node or a router that starts has its sessions back within seconds; BIRD's own are up to 120 s and 300 s.
_TIMES = """\
  connect delay time 1;
  connect retry time 10;
  error wait time 2, 60;
"""


def protocol_name(peer: BgpPeer) -> str:
    """ "node_10_0_0_2", "peer_fd00__1": stands for the address, whatever else changes."""
    text = address_text(peer.address).replace(".", "_").replace(":", "_")
    return f"{NODE if peer.node else EXTERNAL}{text}"


def address_of(name: str) -> bytes:
    """The peer's address out of the protocol's name; b"" where it is no session of ours."""
    for prefix in (NODE, EXTERNAL):
        if name.startswith(prefix):
            text = name.removeprefix(prefix)
            for kind, mark in ((IPv4Address, "."), (IPv6Address, ":")):
                try:
                    return kind(text.replace("_", mark)).packed
                except ValueError:
                    continue
    return b""


def session(speaker: Speaker, peer: BgpPeer) -> str:
    """`protocol bgp … { … }`. Raises ValueError with the reason."""
    return f"\nprotocol bgp {protocol_name(peer)} {{\n{''.join(_session(speaker, peer))}}}\n"


def _session(speaker: Speaker, peer: BgpPeer) -> Iterator[str]:
    if peer.node:
        yield f"  description {quoted(peer.node)};\n"
    local = _local(speaker, peer)
    yield f"  local{f' {address_text(local)}' if local else ''} port {speaker.port} as {speaker.asn};\n"
    yield f"  neighbor {address_text(peer.address)} port {peer.port} as {peer.asn};\n"
    if speaker.listen:
        yield "  strict bind;\n"
    yield f"  {_distance(speaker, peer)};\n"
    if peer.password:
        yield f"  password {_password(peer)};\n"
    if peer.passive:
        yield "  passive;\n"
    if peer.client:
        yield f"  rr client;\n  rr cluster id {IPv4Address(speaker.reflects)};\n"
    yield f"  hold time {speaker.hold_time};\n"
    yield _TIMES
    yield _restart(speaker.graceful_restart)
    if peer.bfd:
        yield (
            f"  bfd {{ min tx interval {peer.bfd.min_tx} ms; min rx interval {peer.bfd.min_rx} ms;"
            f" multiplier {peer.bfd.multiplier}; }};\n"
        )
    for family in sorted(speaker.families):
        yield from _channel(speaker, peer, family)


def _local(speaker: Speaker, peer: BgpPeer) -> bytes:
    """b"": the kernel's choice. A session that is bound strictly has to have one, and so has BFD over several hops."""
    family = family_of(peer.address)
    if peer.local:
        return peer.local
    if speaker.listen:
        found = next((address for address in speaker.listen if family_of(address) == family), b"")
        why = "to listen on"
    elif peer.bfd and _distance(speaker, peer) != "direct":
        found, why = speaker.next_hops.get(family, b""), "for BFD over several hops"
    else:
        return b""
    if not found:
        raise ValueError(f"{address_text(peer.address)}: no local address of IPv{family} {why}")
    return found


def _distance(speaker: Speaker, peer: BgpPeer) -> str:
    """Within an AS a session may have any length; to another one, none without being asked for."""
    if peer.multihop:
        return f"multihop {peer.multihop}"
    return "multihop" if peer.node or peer.asn == speaker.asn else "direct"


def _restart(wanted: GracefulRestart | None) -> str:
    """Without it the other side's restart is still waited for, if it asks for that."""
    if wanted is None:
        return "  graceful restart aware;\n"
    return f"  graceful restart on;\n  graceful restart time {wanted.time};\n"


def _channel(speaker: Speaker, peer: BgpPeer, family: int) -> Iterator[str]:
    same = family == family_of(peer.address)
    hop = speaker.next_hops.get(family, b"")
    if not hop and not same:
        return  # nothing could be announced: there is no address to send to
    yield f"  ipv{family} {{\n    import keep filtered;\n    import filter from_peers{family};\n"
    yield f"    export filter {'to_nodes' if peer.node else 'to_peers'}{family};\n"
    if hop and not (same and speaker.own_next_hop and not peer.node):
        yield f"    next hop address {address_text(hop)};\n"
    yield "  };\n"


def quoted(text: str) -> str:
    """BIRD's strings know no escapes."""
    if any(character in text for character in '"\n\0'):
        raise ValueError(f"{text!r} cannot be written into BIRD's configuration")
    return f'"{text}"'


def _password(peer: BgpPeer) -> str:
    """The reason does not quote it."""
    text = peer.password.text if peer.password else ""
    who = address_text(peer.address)
    if any(character in text for character in '"\n\r\0'):
        raise ValueError(
            f"the password of peer {who} holds a quotation mark, a line end or a NUL, which BIRD cannot read"
        )
    size = len(text.encode())
    if not 0 < size <= PASSWORD_LIMIT:
        raise ValueError(f"the password of peer {who} has {size} bytes; it must have 1 to {PASSWORD_LIMIT}")
    return f'"{text}"'
