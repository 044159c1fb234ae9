"""What the API wraps objects in: pages of a list, events of a watch. The objects stay bytes, for decode.py. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kuberouter_py.watchers.decode import Head

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class EnvelopeError(Exception):
    """Bytes that are no list or no event. The connection, or what answers at its other end, is not what we think."""


class Page(NamedTuple):
    """items refer to the body that they were cut from, without a copy."""

    items: list[msgspec.Raw]
    resource_version: str
    continue_token: str


class Event(NamedTuple):
    """type: ADDED MODIFIED DELETED BOOKMARK ERROR."""

    type: str
    object: msgspec.Raw


class _ListMetadata(msgspec.Struct, rename={"continue_token": "continue"}, gc=False):
    resourceVersion: str | None = None
    continue_token: str | None = None


class _List(msgspec.Struct, gc=False):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _EventJson(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_EVENT = msgspec.json.Decoder(_EventJson)


def page(body: bytes) -> Page:
    """Raises EnvelopeError."""
    try:
        json = _LIST.decode(body)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"not a list: {error}") from None
    return Page(json.items or [], json.metadata.resourceVersion or "", json.metadata.continue_token or "")


def event(line: bytes) -> Event:
    """Raises EnvelopeError."""
    try:
        json = _EVENT.decode(line)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"not a watch event: {error}") from None
    return Event(json.type, json.object)


def ends_initial_events(bookmark: Head) -> bool:
    """M2.01: the bookmark after which everything that existed has been sent."""
    return bookmark.annotations.get(INITIAL_EVENTS_END) == "true"
