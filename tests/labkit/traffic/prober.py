"""The process that asks for every place of a world: single attempts, matrices, held flows, streams."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.labkit.traffic import exchange
from tests.labkit.traffic.flows import Flow, Outcome
from tests.labkit.traffic.streams import Kept, Stream

# Attempts of a matrix under way together. They share one CPU with who answers: where that is too slow for so many, an
# answer may come late, and what seemed silent is asked again with fewer.
_AT_ONCE: Final = (40, 10, 2)
_SLOW: Final = 1 / 3  # an answer that took this share of its timeout
_DATAGRAMS: Final = 3  # what a held UDP flow is asked before it counts as dead


async def attempt(
    namespace: str, url: str, timeout: float, sport: int | None = None, size: int | None = None
) -> Outcome:
    try:
        flow = Flow(namespace, url, sport, size=size)
    except OSError as error:
        raise OSError(f"{namespace} to {url}: {error}") from error
    try:
        return await flow.ask(timeout)
    finally:
        flow.close()


class Prober:
    def __init__(self) -> None:
        self._held: dict[str, Flow] = {}
        self._streams: dict[str, Stream] = {}

    async def attempts(self, request: dict[str, Any]) -> list[Outcome]:
        keys = ("namespace", "url", "timeout_each", "sport", "size")
        return [await attempt(*(request[key] for key in keys)) for _ in range(request["count"])]

    async def matrix(self, request: dict[str, Any]) -> list[Outcome]:
        cells: list[tuple[str, str]] = request["cells"]
        timeout: float = request["timeout_each"]
        outcomes: dict[int, Outcome] = {}

        async def ask(number: int, room: asyncio.Semaphore) -> None:
            async with room:
                outcomes[number] = await attempt(*cells[number], timeout)

        open_questions = list(range(len(cells)))
        for width in _AT_ONCE:
            room = asyncio.Semaphore(width)
            await asyncio.gather(*(ask(number, room) for number in open_questions))
            answered = [outcomes[n]["seconds"] for n in open_questions if outcomes[n]["outcome"] != "silent"]
            open_questions = [number for number in open_questions if outcomes[number]["outcome"] == "silent"]
            if max(answered, default=0.0) < timeout * _SLOW:
                break
        return [outcomes[number] for number in range(len(cells))]

    async def hold(self, request: dict[str, Any]) -> Outcome:
        """Answered or not, a UDP flow is kept; a connection only when it is one. The last of the name ends before."""
        name = request["name"]
        if name in self._held:
            self._held.pop(name).cut()
        flow = Flow(request["namespace"], request["url"], request["sport"], pushed=request["pushed"])
        outcome = await flow.ask(request["timeout_each"])
        if outcome["outcome"] == "open" or flow.target.protocol == "udp":
            self._held[name] = flow
        else:
            flow.close()
        return outcome

    async def held(self, request: dict[str, Any]) -> Outcome:
        flow = self._held.get(request["name"])
        if flow is None:
            raise ValueError(f"no flow named {request['name']} is held")
        tries = _DATAGRAMS if flow.target.protocol == "udp" else 1
        for _ in range(tries):
            outcome = await flow.ask(request["timeout_each"] / tries)
            if outcome["outcome"] == "open":
                break
        return outcome

    async def stream(self, request: dict[str, Any]) -> None:
        name, where, url, timeout = (request[key] for key in ("name", "namespace", "url", "timeout_each"))
        if name in self._streams:
            raise ValueError(f"a stream named {name} runs already")
        Flow(where, url, None).close()  # what is wrong with the place or the address shows now
        if request["kept"]:
            kept = Kept(lambda: Flow(where, url, None), request["kept"])
            self._streams[name] = Stream(lambda: kept.ask(timeout), request["every"], kept)
        else:
            self._streams[name] = Stream(lambda: attempt(where, url, timeout), request["every"])
        self._streams[name].start()

    async def streamed(self, request: dict[str, Any]) -> dict[str, float]:
        stream = self._streams.pop(request["name"], None)
        if stream is None:
            raise ValueError(f"no stream named {request['name']} runs")
        return await stream.stop()

    async def leave(self, request: dict[str, Any]) -> None:
        """A namespace goes away: what is held from it is cut. It stays known by name, and dead."""
        for flow in self._held.values():
            if flow.namespace == request["namespace"]:
                flow.cut()

    async def clear(self, request: dict[str, Any]) -> None:
        for stream in self._streams.values():
            await stream.abandon()
        for flow in self._held.values():
            flow.cut()
        self._streams.clear()
        self._held.clear()


def main() -> None:
    prober = Prober()
    doors = (prober.attempts, prober.matrix, prober.hold, prober.held, prober.stream, prober.streamed, prober.leave,
             prober.clear)  # fmt: skip
    exchange.serve({door.__name__: door for door in doors})


if __name__ == "__main__":
    main()
