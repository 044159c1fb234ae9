"""The Kubernetes documents inside `apply: |`: read as the file is, checked as far as the lab itself uses them.

What a Service or a Pod may say is for the API server and the agent to judge: broken objects are a test's business. The
lab judges what it must know to play kubelet: kind and name, and the annotations `lab/...`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tests.labkit import kinds
from tests.labkit.ports import LabError
from tests.labkit.yaml12 import NULL, Field, did_you_mean, documents

ANNOTATIONS = ("lab/ip", "lab/ready", "lab/phase")
PHASES = ("Succeeded", "Failed")
WORKLOADS = {"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}


def read(field: Field) -> list[dict[str, Any]]:
    """The objects of an `apply` step, a List taken apart, each checked."""
    found: list[dict[str, Any]] = []
    text = field.text("Kubernetes documents as text (apply: |)")
    for document in documents(text, field.file, field.literal_line(), field.key):
        found += _objects(document)
    if not found:
        raise field.fail("holds no document")
    return found


def _objects(document: Field) -> list[dict[str, Any]]:
    entries = document.entries()
    for key in ("apiVersion", "kind"):
        if key not in entries:
            raise document.fail(f"a document without {key}")
        entries[key].text()
    if entries["kind"].text() == "List":
        if "items" not in entries:
            raise document.fail("a List without items")
        return [found for item in entries["items"].items() for found in _objects(item)]
    if "metadata" not in entries:
        raise document.fail("a document without metadata")
    metadata = entries["metadata"].entries()
    if "name" not in metadata:
        raise entries["metadata"].fail("metadata without name")
    metadata["name"].text()
    if "namespace" in metadata:
        metadata["namespace"].text()
    if "annotations" in metadata and metadata["annotations"].node.tag != NULL:
        check_annotations(metadata["annotations"])
    value: dict[str, Any] = document.plain()
    try:
        kinds.of_document(value)
    except LabError as error:
        raise entries["kind"].fail(str(error)) from None
    return [value]


def check_annotations(field: Field) -> None:
    """`lab/...` annotations are orders to the lab: an unknown one or a value that is none is an error."""
    for name, value in field.entries().items():
        if not name.startswith("lab/") or value.node.tag == NULL:
            continue
        if name == "lab/ready":
            value.choice("true", "false")
        elif name == "lab/phase":
            value.choice(*PHASES)
        elif name == "lab/ip":
            _check_addresses(value)
        else:
            raise value.fail(f"unknown annotation{did_you_mean(name, ANNOTATIONS)}; known: {', '.join(ANNOTATIONS)}")


def _check_addresses(field: Field) -> None:
    families = []
    for text in field.text("addresses such as 10.244.1.9,fd00::9").split(","):
        try:
            families.append(ip_address(text.strip()).version)
        except ValueError:
            raise field.fail(f"wants IP addresses, at most one of each family, not {text!r}") from None
    if len(set(families)) != len(families):
        raise field.fail("wants at most one address of each family")


def check_patch(field: Field) -> None:
    """The same for a merge patch, which may carry annotations too."""
    entries = field.entries()
    if "metadata" in entries and entries["metadata"].node.tag != NULL:
        metadata = entries["metadata"].entries()
        if "annotations" in metadata and metadata["annotations"].node.tag != NULL:
            check_annotations(metadata["annotations"])
