"""The steps that packets decide: probe, hold, held, stream, streamed, matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from tests.labkit import matrix as table
from tests.labkit.model import Attempt
from tests.labkit.play import Args, Play, StepFailed, until
from tests.labkit.ports import LabError

OPEN_TIMEOUT = 2.0  # one try that ought to be answered; past TCP's first retransmission
SILENT_TIMEOUT = 1.0  # one try that ought not to be
HOLD_TIMEOUT = 5.0
CHUNK = 16  # tries in a row before looking whether they are still what was expected

EXPECTED = {"open": {"open"}, "refused": {"refused"}, "silent": {"silent"}, "closed": {"refused", "silent"}}


def probe(play: Play, args: Args) -> str:
    tries: list[Attempt] = []

    def look() -> str | None:
        tries[:] = _try(play, args)
        return judge(args, tries)

    # Between a refusal and silence an endpoint passes on its way out: only an answer is too much at once.
    unanswered = args["expect"] != "open"
    until(play, look, args["within"], args["for"], lambda: unanswered and all(t.outcome != "open" for t in tries))
    return seen(tries)


def _try(play: Play, args: Args) -> list[Attempt]:
    """`count` tries, fewer when one of them already is not what was expected: silence costs its timeout each time."""
    expected = EXPECTED[args["expect"]]
    timeout = OPEN_TIMEOUT if args["expect"] == "open" else SILENT_TIMEOUT
    tries: list[Attempt] = []
    number = 1
    while len(tries) < args["count"]:
        number = min(number, args["count"] - len(tries))
        tries += play.world.attempts(
            args["from"], args["to"], number, timeout=timeout, sport=args["sport"], size=args["size"]
        )
        if any(attempt.outcome not in expected for attempt in tries):
            break
        number = CHUNK
    return tries


def judge(args: Args, tries: Sequence[Attempt]) -> str | None:
    """None when these tries are what the step expects, else how they differ."""
    wrong = []
    if any(attempt.outcome not in EXPECTED[args["expect"]] for attempt in tries):
        wrong.append(f"expected {args['expect']}")
    else:
        backends = {attempt.backend for attempt in tries}
        if args["backends"] is not None and backends != set(args["backends"]):
            wrong.append(f"expected answers from exactly {_names(args['backends'])}")
        if args["distinct"] is not None and len(backends) != args["distinct"]:
            wrong.append(f"expected answers from {args['distinct']} backends")
        if args["source"] is not None and any(not _same(attempt.source, args["source"]) for attempt in tries):
            wrong.append(f"expected source {args['source']}")
        if args["status"] is not None and any(attempt.status != args["status"] for attempt in tries):
            wrong.append(f"expected HTTP status {args['status']}")
        wrong += [
            f"expected an answer with {text!r}"
            for text in args["contains"]
            if any(text not in answer(attempt) for attempt in tries)
        ]
    return f"{', '.join(wrong)}; seen {seen(tries, whole=True)}" if wrong else None


def answer(attempt: Attempt) -> str:
    """What `contains` is looked for in: the body, and the one header that servers on their way out set."""
    return attempt.body + ("\nConnection: close\n" if attempt.close else "")


def _same(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False


def _names(names: Sequence[str]) -> str:
    return f"[{' '.join(sorted(set(names)))}]"


def seen(tries: Sequence[Attempt], *, whole: bool = False) -> str:
    """`open [web-1 web-2]`; whole: counts, sources, HTTP status and body as well."""
    if not whole:
        outcomes = "/".join(sorted({attempt.outcome for attempt in tries}))
        backends = [attempt.backend for attempt in tries if attempt.backend]
        statuses = sorted({str(attempt.status) for attempt in tries if attempt.status not in (0, 200)})
        return " ".join([outcomes, *statuses, *([_names(backends)] if backends else [])])
    counts: Counter[str] = Counter()
    for attempt in tries:
        text = attempt.outcome
        if attempt.outcome == "open":
            text += f" by {attempt.backend or '?'}" + (f" that saw {attempt.source}" if attempt.source else "")
        if attempt.status:
            text += f", HTTP {attempt.status} {attempt.body[:200]!r}"
        counts[text] += 1
    return "; ".join(f"{number} × {text}" for text, number in counts.most_common())


def hold(play: Play, args: Args) -> str:
    attempt = play.world.hold(
        args["name"], args["from"], args["to"], sport=args["sport"], timeout=HOLD_TIMEOUT, pushed=args["pushed"]
    )
    if attempt.outcome != "open" and not args["to"].startswith("udp://"):
        raise StepFailed(f"expected an answer; seen {attempt.outcome}")
    return seen([attempt])


def held(play: Play, args: Args) -> str:
    last: list[Attempt] = []

    def look() -> str | None:
        attempt = play.world.held(args["name"], timeout=OPEN_TIMEOUT)
        last[:] = [attempt]
        alive = attempt.outcome == "open"
        if alive != args["alive"]:
            return f"expected it {'alive' if args['alive'] else 'dead'}; seen {seen(last, whole=True)}"
        if args["backend"] is not None and attempt.backend != args["backend"]:
            return f"expected backend {args['backend']}; seen {attempt.backend}"
        return None

    until(play, look, args["within"])
    return f"alive {_names([last[0].backend])}" if args["alive"] else f"dead ({last[0].outcome})"


def stream(play: Play, args: Args) -> str:
    paces = {"every": args["every"], "timeout": args["timeout"], "kept": args["kept"]}
    play.world.stream(args["name"], args["from"], args["to"], **paces)
    return ""


def streamed(play: Play, args: Args) -> str:
    counts = play.world.streamed(args["name"])
    ways = [
        f"{number:.0f} {way.removeprefix('failed ')}" for way, number in counts.items() if way.startswith("failed ")
    ]
    failed = f"{counts['failed']:.0f} failed" + (f" ({', '.join(sorted(ways))})" if ways else "")
    said = f"{counts['attempts']:.0f} attempts, {failed}, longest gap {counts['longest_gap']:.3f} s"
    wrong = []
    if not counts["attempts"]:
        wrong.append("there was no attempt")
    if args["failed"] is not None and counts["failed"] > args["failed"]:
        wrong.append(f"expected at most {args['failed']} failed")
    answered = counts["attempts"] - counts["failed"]
    if args["answered"] is not None and answered > args["answered"]:
        wrong.append(f"expected at most {args['answered']} answered")
    if args["longest_gap"] is not None and counts["longest_gap"] > args["longest_gap"]:
        wrong.append(f"expected no gap over {args['longest_gap']:g} s")
    if wrong:
        raise StepFailed(f"{', '.join(wrong)}; seen {said}")
    return said


def matrix(play: Play, args: Args) -> str:
    pods, expected = args["pods"], args["expect"]
    urls = {pod: pod_urls(play, pod, args) for pod in pods}
    last: dict[tuple[str, str], str] = {}
    told: dict[tuple[str, str], str] = {}

    def look(signs: str) -> str | None:
        cells = [cell for cell, sign in expected.items() if sign in signs]
        tries = iter(
            play.world.matrix(
                [(f"pod/{source}", url) for source, target in cells for url in urls[target]], timeout=SILENT_TIMEOUT
            )
        )
        for cell in cells:
            answers = [next(tries) for _ in urls[cell[1]]]
            last[cell] = table.judge(answers)
            told[cell] = ", ".join(
                f"{url} {seen([answer])}" for url, answer in zip(urls[cell[1]], answers, strict=True)
            )
        wrong = table.wrong(expected, {cell: last.get(cell, "") for cell in expected})
        if not wrong:
            return None
        lines = table.beside(pods, expected, last)
        lines += [f"{cell[0]} to {cell[1]}: {told[cell]}" for cell in wrong if last.get(cell) == table.MIXED]
        return f"{len(wrong)} of {len(expected)} cells differ\n" + "\n".join(f"      {line}" for line in lines)

    until(play, lambda: look(table.OPEN + table.CLOSED), args["within"])
    if table.CLOSED in expected.values() and args["for"]:
        until(play, lambda: look(table.CLOSED), 0.0, args["for"])
    return f"{sum(sign != table.UNJUDGED for sign in expected.values())} cells"


def pod_urls(play: Play, pod: str, args: Args) -> list[str]:
    """The URLs of one column: the pod's address (or its Service's) of the family, one for each port."""
    found = play.cluster.get(f"pod/{pod}")
    if found is None:
        raise LabError(f"no pod {pod}")
    if args["via"] == "service":
        return [_service_url(play, found, protocol, port, args["family"]) for protocol, port in args["ports"]]
    addresses = [entry["ip"] for entry in found.get("status", {}).get("podIPs") or []]
    return [_url(protocol, _of_family(pod, addresses, args["family"]), port) for protocol, port in args["ports"]]


def _of_family(what: str, addresses: Sequence[str], family: int) -> str:
    for address in addresses:
        if ip_address(address).version == family:
            return address
    raise LabError(f"{what} has no IPv{family} address")


def _url(protocol: str, address: str, port: int) -> str:
    return f"{protocol}://[{address}]:{port}" if ":" in address else f"{protocol}://{address}:{port}"


def _service_url(play: Play, pod: dict[str, Any], protocol: str, port: int, family: int) -> str:
    """The Service in the pod's namespace whose selector selects that pod alone, at the port whose target this is."""
    namespace, name = pod["metadata"].get("namespace", "default"), pod["metadata"]["name"]
    pods = play.cluster.list("pod", namespace)
    found = []
    for service in play.cluster.list("service", namespace):
        selector = service["spec"].get("selector")
        selected = [other["metadata"]["name"] for other in pods if selector and _selects(selector, other)]
        if selected != [name]:
            continue
        for entry in service["spec"].get("ports") or []:
            same = entry.get("protocol", "TCP").lower() == protocol
            if same and _target(entry, pod, protocol) == port:
                addresses = service["spec"].get("clusterIPs") or [service["spec"].get("clusterIP", "")]
                found.append((service["metadata"]["name"], addresses, entry["port"]))
    where = f"in namespace {namespace} that selects pod {name} alone, with target {protocol}/{port}"
    if not found:
        raise LabError(f"no Service {where}")
    if len(found) > 1:
        raise LabError(f"two Services {where}: {', '.join(f'{service} port {number}' for service, _, number in found)}")
    service, addresses, number = found[0]
    if "None" in addresses:
        raise LabError(f"Service {namespace}/{service} is headless")
    return _url(protocol, _of_family(f"Service {namespace}/{service}", addresses, family), number)


def _selects(selector: dict[str, str], pod: dict[str, Any]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def _target(entry: dict[str, Any], pod: dict[str, Any], protocol: str) -> int | None:
    target = entry.get("targetPort") or entry["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or []:
        for declared in container.get("ports") or []:
            if declared.get("name") == target and declared.get("protocol", "TCP").lower() == protocol:
                return int(declared["containerPort"])
    return None
