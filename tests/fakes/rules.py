"""Whether `explain` can read a rule."""

from __future__ import annotations

from kuberouter_py.controllers.matches import Unknown, understood


def understands(rule: str) -> bool:
    """Whether every word of the rule is known."""
    try:
        understood(rule)
    except Unknown:
        return False
    return True
