"""What `status` shows: one document made of everybody's last reports, and the same as text for one screen.

The document's form is a promise to scripts (docs/operations.md): fields are added, never changed. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kuberouter_py.model.report import ControllerStatus, Note
from kuberouter_py.model.values import duration_text

SHOWN = 10  # entries of one list in the text; the document has them all
AS_ASKED = "not as its owner asked"  # what notes are about, but for those of these reasons:
HEADINGS = {
    "PodClosed": "closed, because their rules cannot be written",
    "PolicyNotYetWritten": "under earlier rules, because their new ones cannot be written",
}
PROBLEMS = ("closed pods", "pods under earlier rules")  # counts that should be 0


class CacheStatus(Protocol):
    """What a watcher says of its kind (watchers/status.py's WatchStatus)."""

    @property
    def kind(self) -> str: ...
    @property
    def synced(self) -> bool: ...
    @property
    def objects(self) -> int: ...
    @property
    def last_event(self) -> float: ...
    @property
    def last_error(self) -> str: ...
    @property
    def problems(self) -> Sequence[tuple[str, str]]: ...


def status_document(
    *,
    version: str,
    node: str,
    started: float,
    now: float,
    caches: Iterable[CacheStatus],
    controllers: Iterable[ControllerStatus],
    problems: Iterable[str] = (),
    events: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Plain values, ready for JSON. Times in seconds since 1970, durations in seconds.

    problems: what only the agent knows (loops that hang, listeners that could not be bound, rules in both iptables).
    """
    cache_documents = {cache.kind: _cache(cache) for cache in caches}
    controller_documents = {controller.name: _controller(controller) for controller in controllers}
    found = [*problems, *_cache_problems(cache_documents), *_controller_problems(controller_documents)]
    waiting = [f"cache {kind}" for kind, one in cache_documents.items() if not one["synced"]]
    waiting += [f"first sync of {name}" for name, one in controller_documents.items() if not one["synced"]]
    return {
        "version": version,
        "node": node,
        "started": started,
        "now": now,
        "verdict": "starting" if waiting else "degraded" if found else "ok",
        "waiting": waiting,
        "problems": found,
        "caches": cache_documents,
        "controllers": controller_documents,
        "events": dict(events or {}),
    }


def _cache(cache: CacheStatus) -> dict[str, Any]:
    return {
        "synced": cache.synced,
        "objects": cache.objects,
        "lastEvent": cache.last_event,
        "lastError": cache.last_error,
        "problems": [{"object": name, "reason": reason} for name, reason in cache.problems],
    }


def _cache_problems(caches: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for kind, one in caches.items():
        if one["lastError"]:
            yield f"cache {kind}: {one['lastError']}"
        if one["problems"]:
            count = len(one["problems"])
            yield f"cache {kind}: {count} {'object' if count == 1 else 'objects'} left out, not decodable"


def _controller_problems(controllers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, one in controllers.items():
        if one["failures"]:
            yield f"{name}: {one['failures']} {'entry' if one['failures'] == 1 else 'entries'} refused or unreadable"
    for name, one in controllers.items():
        yield from (f"{name}: {_counted(one['counts'][what], what)}" for what in PROBLEMS if one["counts"].get(what))


def _controller(status: ControllerStatus) -> dict[str, Any]:
    return {
        "synced": status.synced,
        "lastSync": status.last_sync,
        "lastDuration": status.last_duration,
        "lastFullSync": status.last_full_sync,
        "syncs": status.syncs,
        "failures": status.failures,
        "lastError": status.last_error,
        "counts": dict(status.counts),
        "facts": dict(status.facts),
        "refused": [{"what": what, "reason": reason} for what, reason in status.refused],
        "notes": [_note(note) for note in status.notes],
        "foreignServers": list(status.foreign_servers),
    }


def _note(note: Note) -> dict[str, Any]:
    return {
        "kind": note.kind,
        "namespace": note.owner.namespace if note.owner else "",
        "name": note.owner.name if note.owner else "",
        "reason": note.reason,
        "message": note.message,
    }


def status_text(document: Mapping[str, Any]) -> str:
    """The document for people: the verdict first, then what it rests on."""
    lines = [_headline(document), *(f"  - {problem}" for problem in document["problems"]), ""]
    lines += _cache_lines(document)
    for name, controller in document["controllers"].items():
        lines += ["", *_controller_lines(name, controller, document["now"])]
    events = document["events"]
    if events:
        lines += ["", "events: " + ", ".join(f"{count} {what}" for what, count in events.items())]
    return "\n".join(lines) + "\n"


def _headline(document: Mapping[str, Any]) -> str:
    verdict = document["verdict"]
    if verdict == "starting":
        verdict += ", waiting for " + ", ".join(document["waiting"])
    elif verdict == "degraded":
        verdict += f", {len(document['problems'])} to look at"
    up = _span(document["now"] - document["started"])
    return f"kuberouter-py {document['version']} on {document['node']}: {verdict} (up {up})"


def _cache_lines(document: Mapping[str, Any]) -> Iterator[str]:
    caches = document["caches"]
    width = max([len("cache"), *map(len, caches)])
    yield f"{'cache':{width}}  synced  objects  last heard"
    for kind, one in caches.items():
        synced = "yes" if one["synced"] else "no"
        yield f"{kind:{width}}  {synced:6}  {one['objects']:7}  {_ago(document['now'], one['lastEvent'])}"
    left_out = [
        f"{kind} {problem['object']}: {problem['reason']}"
        for kind, one in caches.items()
        for problem in one["problems"]
    ]
    yield from _listed("left out, not decodable", left_out)


def _controller_lines(name: str, one: Mapping[str, Any], now: float) -> Iterator[str]:
    if not one["synced"]:
        yield f"{name}: not synced yet"
    else:
        yield (
            f"{name}: synced {_ago(now, one['lastSync'])} in {_span(one['lastDuration'])}, "
            f"all of it {_ago(now, one['lastFullSync'])}; "
            f"{_counted(one['syncs'], 'syncs')}, {one['failures']} failing now"
        )
    if one["counts"]:
        yield "  " + ", ".join(_counted(count, what) for what, count in one["counts"].items())
    for what, fact in one["facts"].items():
        yield f"  {what}: {fact}"
    if one["lastError"]:
        yield f"  last error: {one['lastError']}"
    yield from _listed("refused by this node", [f"{each['what']}: {each['reason']}" for each in one["refused"]])
    for heading in (*HEADINGS.values(), AS_ASKED):
        notes = [_note_text(note) for note in one["notes"] if HEADINGS.get(note["reason"], AS_ASKED) == heading]
        yield from _listed(heading, notes)
    yield from _listed("IPVS servers of somebody else, left alone", one["foreignServers"])


def _counted(count: int, what: str) -> str:
    """ "3 services", "1 service", "1 policy", "1 pod under earlier rules"."""
    if count != 1:
        return f"{count} {what}"
    noun, preposition, rest = what.partition(" under ")
    return f"1 {re.sub('(ie)?s$', lambda found: 'y' if found[1] else '', noun)}{preposition}{rest}"


def _note_text(note: Mapping[str, Any]) -> str:
    parts = [note["namespace"], note["name"]]
    owner = "/".join(part for part in parts if part)
    return f"{note['kind']} {owner}: {note['message']} ({note['reason']})".replace(" :", ":")


def _listed(title: str, entries: Sequence[str]) -> Iterator[str]:
    if not entries:
        return
    yield f"  {title}:"
    for entry in entries[:SHOWN]:
        yield f"    {entry}"
    if len(entries) > SHOWN:
        yield f"    and {len(entries) - SHOWN} more (-o json shows all)"


def _ago(now: float, then: float) -> str:
    return "never" if not then else f"{_span(now - then)} ago"


def _span(seconds: float) -> str:
    """Two or three digits are enough for people: "3ms", "12s", "5m0s"."""
    if seconds < 1:
        return duration_text(max(0.001, round(seconds, 3))) if seconds > 0 else "0s"
    return duration_text(float(round(seconds)))
