"""What a Service's owner sees: the Event on the Service, one for all nodes that refuse the same thing."""

from __future__ import annotations

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.report import Note
from kuberouter_py.observe.events import EventWriter
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import Conflict
from tests.api.conftest import RealControlPlane
from tests.labkit.play import MonotonicClock

NOTE = Note(
    "Service",
    ObjectKey("default", "web"),
    "AddressRefused",
    "externalIP 203.0.113.7 is not served: outside --service-external-ip-range (none given)",
    event=True,
)


def _written(writer: EventWriter, count: int) -> dict[str, int]:
    clock = MonotonicClock()
    deadline = clock.now() + 30.0
    while sum((counts := writer.counts()).values()) - counts["waiting"] < count and clock.now() < deadline:
        clock.pause(0.05)
    return writer.counts()


def test_two_nodes_write_one_event(control_plane: RealControlPlane) -> None:
    control_plane.fresh()
    client = ApiClient(str(control_plane.kubeconfig))
    try:
        nodes = [EventWriter(client.create_event, Conflict, lambda note: "uid-of-web") for _ in range(2)]
        counts = []
        for writer in nodes:
            writer.start()
            writer.write([NOTE])
            counts.append(_written(writer, 1))
            writer.stop()
    finally:
        client.close()
    assert [(each["written"], each["already there"]) for each in counts] == [(1, 0), (0, 1)]
    events = [event for event in control_plane.objects.list("Event", "default") if event["reason"] == "AddressRefused"]
    (event,) = events
    assert event["message"] == NOTE.message
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "default",
        "name": "web",
        "uid": "uid-of-web",
    }
