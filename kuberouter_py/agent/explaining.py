"""`explain`: from a question's words to its answer, on the thread of whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from kuberouter_py.agent.source import Source
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.services.explain.document import document
from kuberouter_py.controllers.services.explain.explanation import Path, begin, compared, finish
from kuberouter_py.controllers.services.explain.question import LISTED, POD, Origin, Unanswerable, origin_of, target_of
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.kernel import address_text
from kuberouter_py.observe.http import Response, json_response, text_response
from kuberouter_py.ports import EdgeError, Lookups

ATTEMPTS = 3  # to see decided and actual of one moment


class Explaining:
    """node: its name."""

    def __init__(self, node: str, controller: ServicesController, source: Source, lookups: Lookups) -> None:
        self._node = node
        self._controller = controller
        self._source = source
        self._lookups = lookups

    def answer(self, parameters: Mapping[str, str]) -> Response:
        """To /explain?from=...&to=...&actual=true."""
        try:
            return json_response(self._document(parameters))
        except (Unanswerable, EdgeError) as error:
            return text_response(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}\n")

    def _document(self, parameters: Mapping[str, str]) -> object:
        target = target_of(parameters.get("to", ""))
        origin = origin_of(parameters.get("from", ""))
        remarks: list[str] = []
        if origin.kind == POD:
            origin = self._found(origin)
            if origin.node and origin.node != self._node:
                remarks.append(
                    f"{origin.name} runs on {origin.node}, whose agent knows the path from there; "
                    f"this is what {self._node} does with what comes to it from {address_text(origin.addresses[0])}"
                )

        def decide() -> list[Path]:
            begun = self._controller.inquire(lambda known: begin(origin, target, known, self._lookups))
            return [finish(each, self._lookups) for each in begun]

        paths = decide()
        if parameters.get("actual") == "true":
            for _ in range(ATTEMPTS):
                chains = self._lookups.chains()
                both = [compared(path, self._lookups, chains) for path in paths]
                again = decide()
                if [path.decided for path in again] == [path.decided for path in paths]:
                    break
                paths = again  # a sync came between
            paths = both
        return document(self._node, origin, paths, remarks)

    def _found(self, origin: Origin) -> Origin:
        """With its addresses. Raises Unanswerable."""
        try:
            key = ObjectKey(*origin.name.split("/"))
            pod = self._source.find_pod(key)
            others = [] if pod else self._source.pods_of(key.namespace, LISTED)
        except EdgeError as error:
            raise Unanswerable(f"{error}; ask with --from ADDRESS") from None
        if pod is None:
            raise Unanswerable(f"there is no Pod {key}; in {key.namespace} there are {', '.join(others) or 'none'}")
        if not pod.ips:
            raise Unanswerable(f"Pod {origin.name} has no address yet; ask with --from ADDRESS")
        return origin._replace(addresses=pod.ips, node=pod.node)
