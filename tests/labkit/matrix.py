"""The table of a `matrix` step: reading it, judging the cells, printing what was seen beside what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.labkit.model import Attempt
from tests.labkit.yaml12 import Field

OPEN, CLOSED, UNJUDGED = ".", "X", "-"
MIXED = "?"  # seen: some ports open, some closed

Cells = dict[tuple[str, str], str]  # (from, to) -> one of the signs


def read(field: Field, pods: Sequence[str]) -> Cells:
    """Rows `x/a: - X .`, one for each pod, with one sign for each pod in the order of `pods`."""
    text = field.text("rows such as 'x/a: - X .' as text (expect: |)")
    cells: Cells = {}
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        here = Field(field.file, field.key, field.node, field.first_line, field.literal_line() + number)
        pod, colon, rest = line.partition(":")
        pod, signs = pod.strip(), rest.split()
        if not colon or pod not in pods:
            raise here.fail(f"wants a row 'POD: {' '.join('.' * len(pods))}' of one of the pods, not {line.strip()!r}")
        if pod in seen:
            raise here.fail(f"a second row for {pod}")
        if len(signs) != len(pods):
            raise here.fail(f"{pod} has {len(signs)} cells, and there are {len(pods)} pods")
        for sign in signs:
            if sign not in (OPEN, CLOSED, UNJUDGED):
                raise here.fail(f"wants '.' (open), 'X' (closed) or '-' (not judged), not {sign!r}")
        seen.add(pod)
        cells.update(zip(((pod, other) for other in pods), signs, strict=True))
    missing = [pod for pod in pods if pod not in seen]
    if missing:
        raise field.fail(f"no row for {', '.join(missing)}")
    return cells


def judge(attempts: Iterable[Attempt]) -> str:
    """One cell from the tries on all its ports: open on every one, closed on every one, or mixed."""
    outcomes = {OPEN if attempt.outcome == "open" else CLOSED for attempt in attempts}
    return outcomes.pop() if len(outcomes) == 1 else MIXED


def wrong(expected: Cells, seen: Mapping[tuple[str, str], str]) -> list[tuple[str, str]]:
    return [cell for cell, sign in expected.items() if sign != UNJUDGED and seen[cell] != sign]


def beside(pods: Sequence[str], expected: Cells, seen: Mapping[tuple[str, str], str]) -> list[str]:
    """Two tables side by side, the cells that differ in brackets on the left."""
    width = max(map(len, pods))
    lines = [f"{'seen':<{width + 3 * len(pods) + 3}}expected"]
    for pod in pods:
        left = ""
        for other in pods:
            sign = seen.get((pod, other), UNJUDGED)
            differs = expected[pod, other] not in (UNJUDGED, sign)
            left += f"[{sign}]" if differs else f" {sign} "
        right = " ".join(expected[pod, other] for other in pods)
        lines.append(f"{pod:<{width}} {left}  {right}")
    return lines
