"""From one object's JSON to a model object, or why not.

Owns the table of kinds and what happens when bytes do not fit: a broken element of a list is left out with its reason
and the rest is kept; anything worse is a DecodeError. What each kind means is in decode_services.py,
decode_slices.py, decode_workloads.py and decode_policies.py, single values in decode_fields.py. Pure. Unknown fields
are skipped by the parser and never become Python objects: 10,000 Services and 10,000 slices of 10 endpoints take 0.5 s
and 23 MB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from kuberouter_py.model.cluster import (
    EndpointSlice,
    Namespace,
    Node,
    ObjectKey,
    Pod,
    PodMetadata,
    Service,
    ServiceCidr,
)
from kuberouter_py.model.policies import NetworkPolicy
from kuberouter_py.watchers import decode_policies as policies
from kuberouter_py.watchers import decode_services as services
from kuberouter_py.watchers import decode_slices as slices
from kuberouter_py.watchers import decode_workloads as workloads
from kuberouter_py.watchers.decode_fields import DecodeError, Named, object_key

__all__ = ["ClusterObject", "DecodeError", "Decoded", "Head", "decode", "decode_versioned", "head"]

ClusterObject: TypeAlias = Service | EndpointSlice | Node | ServiceCidr | Pod | PodMetadata | Namespace | NetworkPolicy

# An EndpointSlice has at most 1,000 endpoints and 100 ports (M4.12); each broken one costs a pass over the object.
MOST_BROKEN_PARTS = 64
_BROKEN_PART = re.compile(r" - at `\$\.([A-Za-z.]+)\[(\d+)\]")


class Decoded(NamedTuple):
    """object: None where there is nothing in it that anybody asks for."""

    key: ObjectKey
    resource_version: str
    object: ClusterObject | None


class _HasMetadata(Protocol):
    @property
    def metadata(self) -> Any: ...


J = TypeVar("J", bound=_HasMetadata)


@dataclass(frozen=True)
class _Form(Generic[J]):
    """How one kind is read: the fields we use, what they mean, the lists that may lose a broken element."""

    json: type[J]
    build: Callable[[ObjectKey, J, list[str]], ClusterObject | None]
    parts: tuple[str, ...] = ()
    namespaced: bool = True

    def decoder(self) -> msgspec.json.Decoder[J]:
        return msgspec.json.Decoder(self.json)


_FORMS: Mapping[str, _Form[Any]] = {
    "Service": _Form(services.ServiceJson, services.service, services.SERVICE_PARTS),
    "EndpointSlice": _Form(slices.SliceJson, slices.endpoint_slice, slices.SLICE_PARTS),
    "ServiceCIDR": _Form(services.ServiceCidrJson, services.service_cidr, namespaced=False),
    "Node": _Form(workloads.NodeJson, workloads.node, workloads.NODE_PARTS, namespaced=False),
    "Pod": _Form(workloads.PodJson, workloads.pod, workloads.POD_PARTS),
    "PodMetadata": _Form(workloads.PodMetadataJson, workloads.pod_metadata),
    "Namespace": _Form(workloads.NamespaceJson, workloads.namespace, namespaced=False),
    "NetworkPolicy": _Form(policies.NetworkPolicyJson, policies.network_policy),
}
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {kind: form.decoder() for kind, form in _FORMS.items()}


class _HeadMetadata(Named, gc=False):
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None


class _HeadJson(msgspec.Struct, gc=False):
    metadata: _HeadMetadata | None = None
    kind: str | None = None
    apiVersion: str | None = None


class _IdentityJson(msgspec.Struct, gc=False):
    metadata: Named | None = None
    kind: str | None = None
    apiVersion: str | None = None


_HEAD = msgspec.json.Decoder(_HeadJson)
_IDENTITY = msgspec.json.Decoder(_IdentityJson)


class Head(NamedTuple):
    """What any object says of itself, whatever its kind, as it stands there; "" for what is absent."""

    api_version: str
    kind: str
    name: str
    namespace: str
    resource_version: str
    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]

    def key(self, kind: str) -> ObjectKey:
        """The key it has as an object of that kind. Raises DecodeError."""
        return object_key(self.name, self.namespace, _FORMS[kind].namespaced)


def head(raw: bytes | msgspec.Raw) -> Head:
    """Only what is common to all objects: of a bookmark, a deleted object, a manifest. Raises DecodeError."""
    json: _HeadJson | _IdentityJson
    try:
        try:
            json = _HEAD.decode(raw)
        except msgspec.ValidationError:
            json = _IDENTITY.decode(raw)  # labels that are no texts leave the name readable
    except (ValueError, RecursionError) as error:
        raise DecodeError(_words(error)) from None
    about = json.metadata or Named()
    labels, annotations = (about.labels, about.annotations) if isinstance(about, _HeadMetadata) else (None, None)
    return Head(
        json.apiVersion or "",
        json.kind or "",
        about.name or "",
        about.namespace or "",
        about.resourceVersion or "",
        labels or {},
        annotations or {},
    )


def decode(kind: str, raw: bytes | msgspec.Raw) -> ClusterObject | None:
    """One object of that kind ("Service", "EndpointSlice", ...) from its JSON. Raises DecodeError, and nothing else."""
    return decode_versioned(kind, raw).object


def decode_versioned(kind: str, raw: bytes | msgspec.Raw) -> Decoded:
    """The same with the object's key and resourceVersion, which a watch resumes from. Raises DecodeError."""
    form, unusable = _FORMS[kind], list[str]()
    try:
        try:
            json = _DECODERS[kind].decode(raw)
        except msgspec.ValidationError:
            json = _without_broken_parts(form, raw, unusable)
    except (ValueError, RecursionError) as error:
        raise _undecodable(kind, raw, _words(error)) from None
    about = json.metadata
    try:
        key = object_key(about.name, about.namespace, form.namespaced)
        return Decoded(key, about.resourceVersion or "", form.build(key, json, unusable))
    except DecodeError as error:
        raise _undecodable(kind, raw, error.reason) from None
    except Exception as error:  # a fault of ours that one object brings out must not stop the others
        raise _undecodable(kind, raw, f"{type(error).__name__}: {error}") from error


def _without_broken_parts(form: _Form[Any], raw: bytes | msgspec.Raw, unusable: list[str]) -> Any:
    """Read what fits: the slow way, by a Python object of everything, for an object with a value of a wrong type.

    Raises msgspec.ValidationError for what is not an element of one of the form's lists.
    """
    plain = msgspec.json.decode(raw)
    for _ in range(MOST_BROKEN_PARTS):
        try:
            return msgspec.convert(plain, form.json)
        except msgspec.ValidationError as error:
            place = _BROKEN_PART.search(str(error))
            if not place or place[1] not in form.parts:
                raise
            path, position = place[1], int(place[2])
            parts = plain
            for step in path.split("."):
                parts = parts[step]
            # null, which every decoder passes over, so that the other elements keep their positions in later reasons
            parts[position] = None
            unusable.append(_words(error))
    raise msgspec.ValidationError(f"more than {MOST_BROKEN_PARTS} of its parts are broken")


def _undecodable(kind: str, raw: bytes | msgspec.Raw, reason: str) -> DecodeError:
    """The error with as much of the object's identity as can still be read."""
    try:
        about = head(raw)
    except DecodeError:
        return DecodeError(reason)
    try:
        return DecodeError(reason, about.key(kind), about.resource_version)
    except DecodeError:
        return DecodeError(reason, None, about.resource_version)


def _words(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).replace(" - at `$.", " at `")
