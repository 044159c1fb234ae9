"""YAML 1.2 (core schema) text as a tree that remembers its lines, and the errors that name them.

`on`, `yes`, `no`, `12:30:00`, `0777` and dates are words or plain numbers here, as YAML 1.2 says, whatever PyYAML's own
loader makes of them. A key that is written twice, an unknown tag and a merge key are errors. Says nothing about what
the keys mean: scenario.py and its siblings do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, STR = (TAG + name for name in ("null", "bool", "int", "float", "str"))
WORDS = {NULL: "null", BOOL: "true or false", INT: "a number", FLOAT: "a number", STR: "text"}


class FormatError(Exception):
    """One thing in a file that is not understood, as `FILE:LINE: key: what`."""

    def __init__(self, file: Path | str, line: int, key: str, what: str) -> None:
        self.file, self.line, self.key, self.what = file, line, key, what
        super().__init__(f"{file}:{line}: {key}: {what}" if key else f"{file}:{line}: {what}")


class CoreResolver(BaseResolver):
    """Which plain scalars are null, booleans and numbers in YAML 1.2's core schema; the rest is text."""


for _tag, _pattern, _first in (
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (FLOAT, r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
):  # fmt: skip
    CoreResolver.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


class CoreLoader(Reader, Scanner, Parser, Composer, CoreResolver):
    """PyYAML's reader, scanner, parser and composer under the core schema."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        CoreResolver.__init__(self)

    def scan_to_next_token(self) -> None:
        """As PyYAML's, but tabs separate tokens too; they still do not indent."""
        if self.index == 0 and self.peek() == "\ufeff":
            self.forward()
        indenting = self.column == 0
        while True:
            while self.peek() == " " or (self.peek() == "\t" and (self.flow_level or not indenting)):
                self.forward()
            if self.peek() == "#":
                while self.peek() not in "\0\r\n\x85\u2028\u2029":
                    self.forward()
            if not self.scan_line_break():  # type: ignore[no-untyped-call]
                return
            indenting = True
            if not self.flow_level:
                self.allow_simple_key = True


def documents(text: str, file: Path | str, first_line: int = 1, key: str = "") -> list[Field]:
    """Every document of `text` that is not empty; `first_line` is where the text itself begins in `file`."""
    fields = []
    try:
        loader = CoreLoader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            field = Field(file, key, node, first_line, first_line + node.start_mark.line)
            _refuse_loops(field, node, ())
            if node.tag != NULL:
                fields.append(field)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        what = " ".join(part for part in (error.problem, error.context) if part)
        raise FormatError(file, line, key, f"not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise FormatError(file, first_line, key, f"not YAML: {error}".replace("\n", " ")) from None
    return fields


def _refuse_loops(field: Field, node: Node, above: tuple[int, ...]) -> None:
    if id(node) in above:
        raise field.fail("an alias that contains itself")
    children: list[Node] = []
    if isinstance(node, MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, SequenceNode):
        children = node.value
    for child in children:
        _refuse_loops(field, child, (*above, id(node)))


@dataclass(frozen=True)
class Field:
    """One value of a file with its key and line; every reading of it that does not fit raises FormatError."""

    file: Path | str
    key: str
    node: Node
    first_line: int  # of the text that the node was read from
    line: int  # of the key, where there is one

    def fail(self, what: str) -> FormatError:
        return FormatError(self.file, self.line, self.key, what)

    def describe(self) -> str:
        """What stands there, for messages that say what was wanted instead."""
        if isinstance(self.node, MappingNode):
            return "a mapping"
        if isinstance(self.node, SequenceNode):
            return "a list"
        if self.node.tag == NULL:
            return "nothing"
        shown = self.node.value if len(self.node.value) <= 60 else self.node.value[:57] + "..."
        return repr(shown) if self.node.tag == STR else f"{shown} ({WORDS.get(self.node.tag, self.node.tag)})"

    def wrong(self, wanted: str) -> FormatError:
        return self.fail(f"wants {wanted}, not {self.describe()}")

    # composite values

    def entries(self) -> dict[str, Field]:
        """A mapping's values by key, in the file's order. Keys are taken as written: `1:` and `on:` are words."""
        if not isinstance(self.node, MappingNode):
            raise self.wrong("a mapping")
        found: dict[str, Field] = {}
        for key_node, value_node in self.node.value:
            line = self.first_line + key_node.start_mark.line
            if not isinstance(key_node, ScalarNode):
                raise FormatError(self.file, line, self.key, "a key must be a word")
            name = str(key_node.value)
            path = f"{self.key}.{name}" if self.key else name
            if name in found:
                raise FormatError(self.file, line, path, f"written twice (first on line {found[name].line})")
            if name == "<<" and not key_node.style:
                raise FormatError(self.file, line, path, "merge keys are not part of YAML 1.2")
            found[name] = Field(self.file, path, value_node, self.first_line, line)
        return found

    def keys(self, allowed: Sequence[str], required: Sequence[str] = ()) -> dict[str, Field]:
        """entries(), of which each must be `allowed` and none of `required` may be missing."""
        found = self.entries()
        for name, field in found.items():
            if name not in allowed:
                raise field.fail(f"unknown key{did_you_mean(name, allowed)}; known here: {', '.join(allowed)}")
        for name in required:
            if name not in found:
                raise FormatError(self.file, self.line, f"{self.key}.{name}" if self.key else name, "is missing")
        return found

    def items(self, wanted: str = "a list") -> list[Field]:
        if not isinstance(self.node, SequenceNode):
            raise self.wrong(wanted)
        return [
            Field(self.file, f"{self.key}[{number}]", node, self.first_line, self.first_line + node.start_mark.line)
            for number, node in enumerate(self.node.value, 1)
        ]

    # single values

    def text(self, wanted: str = "text") -> str:
        if not isinstance(self.node, ScalarNode) or self.node.tag != STR:
            hint = " (quote it)" if isinstance(self.node, ScalarNode) and self.node.tag in (BOOL, INT, FLOAT) else ""
            raise self.fail(f"wants {wanted}, not {self.describe()}{hint}")
        return str(self.node.value)

    def boolean(self) -> bool:
        if not isinstance(self.node, ScalarNode) or self.node.tag != BOOL:
            raise self.wrong("true or false")
        return str(self.node.value).lower() == "true"

    def integer(self, low: int, high: int) -> int:
        wanted = f"a whole number from {low} to {high}"
        if not isinstance(self.node, ScalarNode) or self.node.tag != INT:
            raise self.wrong(wanted)
        number = _integer(self.node.value)
        if not low <= number <= high:
            raise self.wrong(wanted)
        return number

    def choice(self, *words: str) -> str:
        word = self.text(f"one of {', '.join(words)}")
        if word not in words:
            raise self.fail(f"wants one of {', '.join(words)}, not {word!r}{did_you_mean(word, words)}")
        return word

    def plain(self) -> Any:
        """The whole value as dicts, lists, strings, numbers, booleans and None."""
        node = self.node
        if isinstance(node, MappingNode):
            return {name: field.plain() for name, field in self.entries().items()}
        if isinstance(node, SequenceNode):
            return [field.plain() for field in self.items()]
        if node.tag == STR:
            return str(node.value)
        if node.tag == NULL:
            return None
        if node.tag == BOOL:
            return str(node.value).lower() == "true"
        try:
            if node.tag == INT:
                return _integer(node.value)
            if node.tag == FLOAT:
                return float(re.sub(r"\.(inf|nan)$", r"\1", node.value.lower()))
        except ValueError:
            raise self.fail(f"{node.value!r} is not a number") from None
        raise self.fail(f"unknown tag {node.tag}")

    def literal_line(self) -> int:
        """The line on which the content of a block scalar (`|`) begins; a one-line scalar's own line."""
        start = self.first_line + self.node.start_mark.line
        return start + 1 if getattr(self.node, "style", None) in ("|", ">") else start

    def walk(self) -> Iterator[Field]:
        """This field and every one below it."""
        yield self
        children: list[Field] = []
        if isinstance(self.node, MappingNode):
            children = list(self.entries().values())
        elif isinstance(self.node, SequenceNode):
            children = self.items()
        for child in children:
            yield from child.walk()


def _integer(text: str) -> int:
    if text[:2] in ("0o", "0x"):
        return int(text, 0)
    return int(text, 10)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""
