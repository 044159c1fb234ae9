"""What BGP shall be, and what becomes different, as commands of BIRD's. notation.py knows it by the table's name."""

from __future__ import annotations

from collections.abc import Iterator

from kuberouter_py.model.bgp import BgpPeer, Speaker
from kuberouter_py.model.kernel import address_text


def _speaker_text(speaker: Speaker) -> str:
    return f"AS {speaker.asn}, router ID {address_text(speaker.router_id)}"


def _session_text(peer: BgpPeer) -> str:
    return f"{address_text(peer.address)} AS {peer.asn}{f' Node {peer.node}' if peer.node else ''}"


def add_speaker(_key: str, speaker: Speaker) -> Iterator[str]:
    yield f"bird  # {_speaker_text(speaker)}"
    for peer in speaker.peers:
        yield f"birdc configure  # a session with {_session_text(peer)}"


def change_speaker(key: str, old: Speaker, new: Speaker) -> Iterator[str]:
    if not old.asn:  # something else runs, or nothing does any more
        yield from add_speaker(key, new)
        return
    changed = [name for name in new._fields if name != "peers" and getattr(old, name) != getattr(new, name)]
    if changed:
        yield f"birdc configure  # {_speaker_text(new)}: another {', '.join(changed).replace('_', ' ')}"
    before, after = ({peer.address: peer for peer in speaker.peers} for speaker in (old, new))
    for address, peer in after.items():
        if address not in before:
            yield f"birdc configure  # a session with {_session_text(peer)}"
        elif before[address] != peer:
            yield f"birdc configure  # another session with {_session_text(peer)}"
    for address, peer in before.items():
        if address not in after:
            yield f"birdc configure  # no session with {_session_text(peer)}"


def remove_speaker(_key: str, _speaker: Speaker) -> Iterator[str]:
    yield "birdc down"


def speaker_key(_key: str) -> str:
    return "the BGP configuration"
