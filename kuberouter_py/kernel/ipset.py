"""ipsets: the sets of one controller, and their members, read whole and written as differences.

Owns the order of the messages and what an answer means for a set (ipset_write.py: for a member). Bytes and words are
ipset_codec.py's; which sets there are is decided elsewhere. A controller sees only the sets whose names start with its
prefix: the others belong to somebody else and are neither read nor written. Nothing announces changes of a set: only
`read` finds them.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import EEXIST, EINVAL, ENOENT, EOPNOTSUPP

from kuberouter_py.kernel import ipset_codec as codec
from kuberouter_py.kernel.ipset_write import Held, write
from kuberouter_py.kernel.netlink_socket import NETLINK_NETFILTER, Batch, NetlinkError
from kuberouter_py.model.kernel import IpSet, MemberValue, SetEntry, SetMember
from kuberouter_py.model.names import SET_PREFIX
from kuberouter_py.model.notation_sets import set_text
from kuberouter_py.ports import Actual, EdgeError, Part, Plan, Refused, Unavailable

_MEMBERS_A_PART = 2000  # to sort out in memory: some 5 ms


class Sets:
    """ports.Table[str, IpSet]: the sets' headers, by name. Options that we never give a set show in its type."""

    name = "ipsets"

    def __init__(self, prefix: str = SET_PREFIX) -> None:
        self._prefix = _checked(prefix)
        self._batch = Batch(NETLINK_NETFILTER)
        self._revisions: dict[tuple[str, int], int] = {}

    @property
    def sent(self) -> int:
        """Netlink messages sent since the start."""
        return self._batch.sent

    def read(self) -> Actual[str, IpSet]:
        """Raises Unavailable without ip_set, Busy."""
        return Actual({header.name: _value(header) for header in headers(self._batch, self._prefix)})

    def apply(self, plan: Plan[str, IpSet]) -> dict[str, Refused]:
        """Creates, then replaces, then destroys. A set with another header is replaced under its rules: a new one takes
        its members and its place, where the kernel can swap the two (equal type and family).
        """
        refused: dict[str, Refused] = {}
        wanted = {**plan.add, **{name: new for name, (_, new) in plan.change.items()}}
        for name, header in wanted.items():
            reason = self._guarded(name, header)
            if reason is not None:
                refused[name] = reason
        for name in plan.remove:
            reason = self._guarded(name, None)
            if reason is not None:
                refused[name] = reason
        return refused

    def close(self) -> None:
        self._batch.close()

    def _guarded(self, name: str, wanted: IpSet | None) -> Refused | None:
        if not name.startswith(self._prefix):
            return Refused(f"set {name} does not start with {self._prefix}: not ours to write")
        try:
            return self._destroy(name) if wanted is None else self._create(name, wanted)
        except (EdgeError, ValueError) as error:
            return Refused(str(error))

    def _create(self, name: str, wanted: IpSet) -> Refused | None:
        try:
            revision = self._revision(wanted)
        except Unavailable as error:
            return Refused(str(error), missing=True)
        number = self._one(codec.create(name, wanted, revision))
        if number == EEXIST:
            return self._replace(name, wanted)
        return Refused(f"{set_text(name, wanted)}: {codec.error_text(number)}") if number else None

    def _replace(self, name: str, wanted: IpSet) -> Refused | None:
        present = next((each for each in headers(self._batch, name) if each.name == name), None)
        if present is None or (present.type, present.family) != (wanted.type, wanted.family):
            return self._destroy(name) or self._create_new(name, wanted)
        spare = f"{self._prefix}swap-{zlib.crc32(name.encode()):08x}"
        refused = self._destroy(spare) or self._create_new(spare, wanted)
        if refused is not None:
            return refused
        members = {SetMember(spare, entry): held for entry, held in entries_of(self._batch, present)}
        lost = write(self._batch, codec.ADD, members)
        number = self._one(codec.swap(spare, name))
        left = self._destroy(spare)
        if number:
            return Refused(f"swap {spare} {name}: {codec.error_text(number)}")
        return left or next(iter(lost.values()), None)

    def _create_new(self, name: str, wanted: IpSet) -> Refused | None:
        number = self._one(codec.create(name, wanted, self._revision(wanted)))
        return Refused(f"{set_text(name, wanted)}: {codec.error_text(number)}") if number else None

    def _destroy(self, name: str) -> Refused | None:
        number = self._one(codec.destroy(name))
        if number in (0, ENOENT):
            return None
        reason = "in use by a rule" if number == codec.ERR_BUSY else codec.error_text(number)
        return Refused(f"destroy {name}: {reason}")

    def _revision(self, wanted: IpSet) -> int:
        """Raises Unavailable where the kernel lacks the type."""
        key = (wanted.type, wanted.family)
        if key not in self._revisions:
            try:
                answers = self._batch.request(codec.ask_type(_type_name(wanted), wanted.family))
            except NetlinkError as error:
                module = "ip_set_" + _type_name(wanted).replace(":", "_").replace(",", "")
                raise Unavailable(
                    f"this kernel has no ipset type {wanted.type} for IPv{wanted.family} (module {module}): "
                    f"{codec.error_text(error.errno)}"
                ) from error
            self._revisions[key] = codec.parse_revision(answers[0], wanted.type)
        return self._revisions[key]

    def _one(self, message: bytes) -> int:
        """Its errno, 0 when done."""
        return self._batch.send([message]).get(0, 0)


class Members:
    """ports.Table[SetMember, MemberValue]: the members of all sets of one prefix, and what some of them hold.

    What the kernel counts for a member of a set with counters is no part of it: see `counters`.
    """

    name = "set members"

    def __init__(self, prefix: str = SET_PREFIX, counting: Collection[str] = ()) -> None:
        """counting: the sets with counters, where each new member has to begin at zero."""
        self._prefix = _checked(prefix)
        self._counting = frozenset(counting)
        self._batch = Batch(NETLINK_NETFILTER)
        self._listing = Batch(NETLINK_NETFILTER)  # of parts(), whose dump goes on while the other one writes

    @property
    def sent(self) -> int:
        """Netlink messages sent since the start."""
        return self._batch.sent + self._listing.sent

    def read(self) -> Actual[SetMember, MemberValue]:
        """One dump a set. Raises Unavailable without ip_set, Busy."""
        found: dict[SetMember, MemberValue] = {}
        for header in list(headers(self._batch, self._prefix)):
            name = header.name
            found.update({SetMember(name, entry): held for entry, held in entries_of(self._batch, header)})
        return Actual(found)

    def parts(self, known: Sequence[SetMember]) -> Iterator[Part[SetMember, MemberValue]]:
        """One set after the other, a few hundred members at a time. See SlicedTable."""
        missing: dict[str, set[SetMember]] = {}
        for first in range(0, len(known), _MEMBERS_A_PART):
            for member in known[first : first + _MEMBERS_A_PART]:
                missing.setdefault(member.set, set()).add(member)
            yield Part()
        for header in list(headers(self._batch, self._prefix)):
            name, unseen = header.name, missing.get(header.name, set())
            for page in _pages(self._listing, header):
                found = {SetMember(name, entry): held for entry, held in page}
                unseen.difference_update(found)
                yield Part(found)
        for unseen in missing.values():
            gone = tuple(unseen)
            for first in range(0, len(gone), _MEMBERS_A_PART):
                yield Part(gone=gone[first : first + _MEMBERS_A_PART])

    def holds(self, members: Sequence[SetMember]) -> list[SetMember]:
        """Those of them that there are, by one question for each."""
        absent = self._batch.send([codec.member(codec.TEST, *member) for member in members])
        return [member for index, member in enumerate(members) if index not in absent]

    def mark_of(self, member: SetMember) -> int | None:
        """What a member of a set with marks holds: the whole set is listed, the kernel has no question for it."""
        header = next((each for each in headers(self._batch, member.set) if each.name == member.set), None)
        held = dict(entries_of(self._batch, header)).get(member.entry) if header else None
        return held if isinstance(held, int) else None

    def entries(self, name: str) -> list[SetEntry]:
        """Of one set; none where the set is missing. Raises Unavailable, Busy."""
        header = next((each for each in headers(self._batch, name) if each.name == name), None)
        return [] if header is None else [entry for entry, _ in entries_of(self._batch, header)]

    def counters(self, names: Iterable[str]) -> dict[SetMember, tuple[int, int]]:
        """Packets and bytes that each member of these sets has matched, so far as rules count there. Raises
        Unavailable, Busy.
        """
        found: dict[SetMember, tuple[int, int]] = {}
        for name in names:
            for payload in _listing(self._batch, name):
                found.update({SetMember(name, entry): each for entry, each in codec.parse_counters(payload)})
        return found

    def apply(self, plan: Plan[SetMember, MemberValue]) -> dict[SetMember, Refused]:
        """Adds and changes, then removes. What found its set full is tried once more when the removed ones have made
        room.
        """
        wanted = {**plan.add, **{member: held for member, (_, held) in plan.change.items()}}
        refused = {
            member: Refused(f"set {member.set} does not start with {self._prefix}: not ours to write")
            for member in (*wanted, *plan.remove)
            if not member.set.startswith(self._prefix)
        }
        good = {member: held for member, held in wanted.items() if member not in refused} if refused else wanted
        not_added = write(self._batch, codec.ADD, good, self._counting)
        not_removed = write(self._batch, codec.DEL, {one: None for one in plan.remove if one not in refused})
        if not_added and plan.remove:
            again = {member: wanted[member] for member in not_added}
            not_added = write(self._batch, codec.ADD, again, self._counting)
        return refused | not_added | not_removed

    def close(self) -> None:
        self._batch.close()
        self._listing.close()


def _checked(prefix: str) -> str:
    if not prefix.startswith(SET_PREFIX):
        raise ValueError(f"prefix {prefix!r} of ipsets does not start with {SET_PREFIX!r}")
    return prefix


def _type_name(wanted: IpSet) -> str:
    return wanted.type.partition(" ")[0]


def _value(header: codec.Header) -> IpSet:
    return IpSet(f"{header.type} {header.options}".rstrip(), header.family, header.maxelem)


def headers(batch: Batch, prefix: str) -> Iterator[codec.Header]:
    try:
        answers = batch.dump(codec.list_headers())
    except NetlinkError as error:
        if error.errno in (EINVAL, EOPNOTSUPP):
            raise _no_ipset() from error
        raise
    for payload in answers:
        header = codec.parse_header(payload)
        if header is not None and header.name.startswith(prefix):
            yield header


def _no_ipset() -> Unavailable:
    return Unavailable("this kernel offers no ipset; on the host, try: modprobe ip_set")


def entries_of(batch: Batch, header: codec.Header) -> Iterator[Held]:
    """With what they hold. None for a set that went away since its header was read."""
    for payload in _listing(batch, header.name):
        yield from codec.parse_members(payload, header)


def _listing(batch: Batch, name: str) -> Iterable[memoryview]:
    try:
        return batch.dump(codec.list_members(name))
    except NetlinkError as error:
        if error.errno in (EINVAL, EOPNOTSUPP):
            raise _no_ipset() from error
        if error.errno != ENOENT:
            raise
        return ()


def _pages(batch: Batch, header: codec.Header) -> Iterator[list[Held]]:
    """The same a datagram at a time."""
    try:
        for answers in batch.pages(codec.list_members(header.name)):
            yield [pair for payload in answers for pair in codec.parse_members(payload, header)]
    except NetlinkError as error:
        if error.errno != ENOENT:
            raise
