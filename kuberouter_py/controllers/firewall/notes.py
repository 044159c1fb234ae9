"""What is not as its owner asked: parts of policies that match nothing, pods that are closed or held back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.model.report import Note

UNSUPPORTED, CLOSED, NOT_UP_TO_DATE, NOT_ENFORCED = (
    "UnsupportedPart", "PodClosed", "PolicyNotYetWritten", "PolicyNotEnforced",
)  # fmt: skip

NAMED = 10  # pods in one note
_Subject = tuple[str, ObjectKey | None]


def policy_notes(policy: NetworkPolicy | None) -> tuple[Note, ...]:
    """One for each part that was not understood: it matches nothing, and never more than was asked for."""
    if policy is None:
        return ()
    return tuple(
        Note("NetworkPolicy", policy.key, UNSUPPORTED, f"{part}; it matches nothing", event=True)
        for part in policy.unusable
    )


def bridge_notes(node: str, pods: Sequence[ObjectKey], reasons: Sequence[str]) -> tuple[Note, ...]:
    """Between pods of one bridge nothing comes to iptables where the sysctls for that cannot be set (P4.09).

    node: its name. pods: those that are isolated. reasons: which sysctl, and why not.
    """
    if not pods or not reasons:
        return ()
    named = ", ".join(map(str, pods[:NAMED])) + (f" and {len(pods) - NAMED} more" if len(pods) > NAMED else "")
    message = f"not enforced between pods of one bridge: {'; '.join(reasons)}. It concerns {named}"
    return (Note("Node", ObjectKey("", node), NOT_ENFORCED, message, event=True),)


class Notes:
    """By object; and which of them are new since this was asked last."""

    def __init__(self) -> None:
        self._notes: dict[_Subject, tuple[Note, ...]] = {}
        self._news: list[Note] = []

    def about(self, kind: str, key: ObjectKey | None, notes: tuple[Note, ...]) -> None:
        """All there is to say of this object now."""
        before = self._notes.pop((kind, key), ())
        if notes:
            self._notes[kind, key] = notes
        self._news += [note for note in notes if note not in before]

    def news(self) -> list[Note]:
        news, self._news = self._news, []
        return news

    def __iter__(self) -> Iterator[Note]:
        return (note for notes in self._notes.values() for note in notes)
