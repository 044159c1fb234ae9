"""What `explain --matrix` shows: a row for each sender, a column for each receiver. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kuberouter_py.observe.policy_explanation import listed

WORDS = {".": "allowed", "X": "denied", "4": "allowed in IPv4 only", "6": "allowed in IPv6 only", "-": "not asked"}


def matrix_text(document: Mapping[str, Any]) -> str:
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield _headline(document)
    if told := _under(document):
        yield f"  {told}"
    yield ""
    yield from _table(document)
    yield ""
    yield f"  rows send, columns receive; {_legend(document)}"
    changes = [
        f"{one['from']} to {one['to']}: {WORDS[one['now']]}, would be {WORDS[one['then']]}: {one['why']}"
        for one in document["changes"]
    ]
    yield from listed("  ", "what would change", changes)
    yield from listed("  ", "left out", [f"{one['pod']}: {one['reason']}" for one in document["leftOut"]])
    yield from listed("  ", "not understood of the policies that are tried", document["notes"])


def _headline(document: Mapping[str, Any]) -> str:
    cells = [cell for row in document["cells"] for cell in row if cell != "-"]
    told = f"{document['port']}/{document['protocol']} in {', '.join(document['namespaces'])}"
    told += f": {sum(cell == '.' for cell in cells)} of {len(cells)} ways allowed"
    if document["now"] is None:
        return told
    changes = len(document["changes"])
    return f"{told} as it would be, {changes} other than now" if changes else f"{told}, as now"


def _under(document: Mapping[str, Any]) -> str:
    parts = [("with", document["with"]), ("without", document["without"])]
    return ", ".join(f"{word} {', '.join(names)}" for word, names in parts if names)


def _table(document: Mapping[str, Any]) -> Iterator[str]:
    names = [f"{number} {name}" for number, name in enumerate(document["ends"], 1)]
    width, cell = max(map(len, names)), len(str(len(names))) + 1
    yield f"  {'':{width}} " + "".join(f"{number:>{cell}} " for number in range(1, len(names) + 1)).rstrip()
    before = document["now"] or document["cells"]
    for name, row, earlier in zip(names, document["cells"], before, strict=True):
        marked = [f"{one:>{cell}}{' ' if one == old else '*'}" for one, old in zip(row, earlier, strict=True)]
        yield f"  {name:{width}} " + "".join(marked).rstrip()


def _legend(document: Mapping[str, Any]) -> str:
    there = {cell for row in document["cells"] for cell in row}
    told = [f"{cell} {word}" for cell, word in WORDS.items() if cell in there and cell != "-"]
    if document["changes"]:
        told.append("* other than now")
    return f"{', '.join(told)}; outside is {' and '.join(document['outside'])}"
