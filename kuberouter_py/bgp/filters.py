"""BIRD's filters: what is taken from whom, and what is passed on to whom. Text, pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kuberouter_py.bgp.sessions import NODE
from kuberouter_py.model.bgp import Announced, Speaker
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import address_text, family_of


def of_family(speaker: Speaker, family: int) -> str:
    """The filters from_peers, to_nodes and to_peers of a family."""
    return "".join(
        [
            _filter(f"# From anybody, Nodes too.\nfilter from_peers{family}", _from_peers(speaker, family)),
            _filter(f"# To Nodes.\nfilter to_nodes{family}", _to_nodes(speaker, family)),
            _filter(
                f"# To external peers. What one peer announces is never passed on to another.\nfilter to_peers{family}",
                _to_peers(speaker, family),
            ),
        ]
    )


def _filter(head: str, lines: Iterator[str]) -> str:
    return "\n".join(["", f"{head} {{", *(f"  {line}" for line in lines), "}", ""])


def _from_peers(speaker: Speaker, family: int) -> Iterator[str]:
    yield "if net.len = 0 then reject;  # a default route"
    refused = sorted({cidr for cidr in speaker.refused if family_of(cidr.network) == family})
    if refused:
        yield "# Ranges of Services, pods of this node, and what the node's annotation rejects."
        yield f"if net ~ {_prefixes(refused)} then reject;"
    yield "accept;"


def _to_nodes(speaker: Speaker, family: int) -> Iterator[str]:
    if speaker.reflects:
        yield f'if source = RTS_BGP && proto ~ "{NODE}*" then accept;  # reflected'
    yield f'if proto != "learn{family}" then reject;'
    yield f"if krt_metric = {Announced.PODS.value} then accept;"
    yield "reject;"


def _to_peers(speaker: Speaker, family: int) -> Iterator[str]:
    wanted = [Announced.SERVICE.value]
    if speaker.pods_to_external:
        wanted.insert(0, Announced.PODS.value)
    yield f'if proto != "learn{family}" then reject;'
    yield f"if krt_metric !~ [ {', '.join(map(str, wanted))} ] then reject;"
    for community in speaker.communities:
        yield _add_community(community)
    if speaker.prepend:
        asn, times = speaker.prepend
        yield from [f"bgp_path.prepend({asn});"] * times
    yield "accept;"


def _add_community(text: str) -> str:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'"{text}" is no community')
    attribute = "bgp_community" if len(parts) == 2 else "bgp_large_community"
    return f"{attribute}.add(({', '.join(parts)}));"


def _prefixes(cidrs: Sequence[Cidr]) -> str:
    """With all that lies in them."""
    return f"[ {', '.join(f'{address_text(cidr.network)}/{cidr.prefix}+' for cidr in cidrs)} ]"
