"""docs/operations.md lists every option as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.config import OPTIONS, Option

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS.keys())
def test_listed(option: Option) -> None:
    names = [option.flag, *(f"--{alias}" for alias in option.aliases), *([f"-{option.short}"] if option.short else [])]
    default = f"`{option.default_text}`" if option.default_text else "none"
    row = f"| {', '.join(f'`{name}`' for name in names)} | {default} | {option.help} |"
    assert row in PAGE.read_text().splitlines()
