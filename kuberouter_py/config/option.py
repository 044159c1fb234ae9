"""What one option is: flag, variables, how its text becomes its value, what the help says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kuberouter_py.model.values import Kind

ENVIRONMENT_PREFIX = "KUBEROUTER_"
ACCEPTED = "accepted for kube-router's sake"  # so begins the help of an option that nothing depends on


class BadOption(ValueError):
    """A value that makes no sense. The message starts with the flag."""


@dataclass(frozen=True)
class Option:
    """What a field of Config says of itself. `name` is the flag without its dashes."""

    name: str
    field: str
    kind: Kind[Any]
    default: Any
    help: str
    group: str
    aliases: tuple[str, ...]
    short: str
    environment: tuple[str, ...]  # variables, the first that is set and not empty counts

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def default_text(self) -> str:
        return self.kind.render(self.default)

    def parse(self, texts: Sequence[str]) -> Any:
        """The value of one or more texts: lists gather all, everything else takes the last, as Go's flags do."""
        try:
            return self.kind.parse(",".join(texts) if self.kind.gathers else texts[-1])
        except ValueError as error:
            raise BadOption(f"{self.flag}: {error}") from None


def option(
    kind: Kind[Any],
    default: Any,
    help: str,
    *,
    group: str,
    aliases: tuple[str, ...] = (),
    short: str = "",
    environment: tuple[str, ...] = (),
) -> Any:
    about = {
        "kind": kind,
        "help": help,
        "group": group,
        "aliases": aliases,
        "short": short,
        "environment": environment,
    }
    return field(default=default, metadata=about)
