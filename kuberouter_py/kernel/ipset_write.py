"""Members on their way into ipsets: many a message, and what each answer means for its member.

Which ones, and in which order, is ipset.py's; bytes are ipset_codec.py's, words model/notation_sets.py's.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from errno import ENOENT

from kuberouter_py.kernel import ipset_codec as codec
from kuberouter_py.kernel.netlink_socket import Batch
from kuberouter_py.model.kernel import MemberValue, SetEntry, SetMember
from kuberouter_py.model.notation_sets import entry_text
from kuberouter_py.ports import Refused

Held = tuple[SetEntry, MemberValue]  # a member and what it holds
_NO_MEMBER = (KeyError, IndexError, ValueError, OverflowError, struct.error)  # what packing says of nonsense


def write(
    batch: Batch, command: int, members: Mapping[SetMember, MemberValue], counting: Collection[str] = ()
) -> dict[SetMember, Refused]:
    """Many entries a message. Where the kernel stopped at one, those after it follow one by one.

    command: ADD or DEL. counting: the sets where each new member begins at zero.
    """
    by_set: dict[str, list[Held]] = {}
    for (name, entry), held in members.items():
        by_set.setdefault(name, []).append((entry, held))
    refused: dict[SetMember, Refused] = {}
    rest: dict[SetMember, MemberValue] = {}
    pieces: list[tuple[str, Sequence[Held]]] = []
    messages: list[bytes] = []
    for name, piece in _pieces(by_set):
        try:
            messages.append(codec.members(command, name, dict(piece), from_zero=name in counting))
            pieces.append((name, piece))
        except _NO_MEMBER:
            rest.update({SetMember(name, entry): held for entry, held in piece})
    details: dict[int, bytes] = {}
    for index, number in batch.send(messages, details).items():
        name, piece = pieces[index]
        line = codec.refused_line(details.get(index, b""))
        # Without a line the whole message is refused: the set is missing, or one member holds what its set cannot hold.
        stopped = piece[line - 1 : line] if line else piece if number == ENOENT else []
        for entry, _ in stopped:
            _refuse(refused, command, SetMember(name, entry), number)
        after = line if line or number != ENOENT else len(piece)
        rest.update({SetMember(name, entry): held for entry, held in piece[after:]})
    _write_singly(batch, command, rest, refused, counting)
    return refused


def _pieces(by_set: Mapping[str, Sequence[Held]]) -> Iterator[tuple[str, Sequence[Held]]]:
    for name, entries in by_set.items():
        for start in range(0, len(entries), codec.ENTRIES_A_MESSAGE):
            yield name, entries[start : start + codec.ENTRIES_A_MESSAGE]


def _write_singly(
    batch: Batch,
    command: int,
    members: Mapping[SetMember, MemberValue],
    refused: dict[SetMember, Refused],
    counting: Collection[str],
) -> None:
    messages, sent = [], []
    for member, held in members.items():
        try:
            messages.append(codec.member(command, *member, held, from_zero=member.set in counting))
            sent.append(member)
        except _NO_MEMBER:
            refused[member] = Refused(f"{member.set}: no member of an ipset: {member.entry}")
    for index, number in batch.send(messages).items():
        _refuse(refused, command, sent[index], number)


def _refuse(refused: dict[SetMember, Refused], command: int, member: SetMember, number: int) -> None:
    if number == codec.ERR_EXIST and command == codec.ADD:
        return  # where members are added from zero: it is there, and goes on counting
    if number == ENOENT:
        if command == codec.ADD:
            refused[member] = Refused(f"set {member.set} is missing")
        return
    verb = "add" if command == codec.ADD else "del"
    refused[member] = Refused(f"{verb} {member.set} {entry_text(member.entry)}: {codec.error_text(number)}")
