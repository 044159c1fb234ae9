"""docs/decisions/README.md lists every decision by its number and title."""

from __future__ import annotations

from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"


def test_the_index_is_whole() -> None:
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    titles = [page.read_text().partition("\n")[0].removeprefix("# ").split(": ", 1) for page in pages]
    rows = [f"| [{number}]({page.name}) | {title} |" for page, (number, title) in zip(pages, titles, strict=True)]
    index = (DECISIONS / "README.md").read_text().splitlines()
    assert [line for line in index if line.startswith("| [")] == rows
    assert all(page.name.startswith(f"{number}-") for page, (number, _) in zip(pages, titles, strict=True))
