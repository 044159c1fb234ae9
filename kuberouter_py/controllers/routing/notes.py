"""What is not as its owner asked, by whose decision it is, and which of it is news. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from kuberouter_py.model.cluster import Node, ObjectKey
from kuberouter_py.model.report import Note

NOT_DECIDED, UNUSABLE_PART, ANNOTATION_REFUSED = "NotDecided", "UnusablePart", "AnnotationRefused"


class Notes:
    def __init__(self) -> None:
        self._of: dict[Hashable, tuple[Note, ...]] = {}
        self._told: set[Note] = set()

    def update(self, notes: Mapping[Hashable, Sequence[Note]]) -> None:
        """Replace what these owners' decisions say."""
        for owner, said in notes.items():
            if said:
                self._of[owner] = tuple(said)
            else:
                self._of.pop(owner, None)

    def __iter__(self) -> Iterator[Note]:
        return (note for notes in self._of.values() for note in notes)

    def of(self, owner: Hashable) -> tuple[Note, ...]:
        return self._of.get(owner, ())

    def news(self) -> list[Note]:
        """Those that did not stand at the last call."""
        standing = dict.fromkeys(self)
        fresh = [note for note in standing if note not in self._told]
        self._told = set(standing)
        return fresh


def undecided(kind: str, owner: ObjectKey, error: Exception) -> Note:
    message = f"left as it was, it could not be decided: {type(error).__name__}: {error}"
    return Note(kind, owner, NOT_DECIDED, message)


def object_notes(node: Node, event: bool) -> tuple[Note, ...]:
    """What of a Node object was left out, or makes no sense as pod CIDRs. event: of the own Node, whose agent alone
    tells its owner.
    """
    refused = (Note("Node", node.key, ANNOTATION_REFUSED, reason, event) for reason in node.refused)
    return (*refused, *(Note("Node", node.key, UNUSABLE_PART, reason, event) for reason in node.unusable))
