"""Scalars mean what YAML 1.2 says, and every error knows its line."""

from __future__ import annotations

import pytest

from tests.labkit.yaml12 import FormatError, documents


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("No", "No"),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("null", None), ("~", None), ("Null", None), ("nULL", "nULL"),
        ("12", 12), ("-7", -7), ("+3", 3), ("0o17", 15), ("0x1F", 31), ("0777", 777), ("0b11", "0b11"),
        ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("2001-12-14", "2001-12-14"), ("1.5", 1.5), ("1e3", 1000.0),
        (".5", 0.5), ("-.inf", float("-inf")), ("1.2.3", "1.2.3"), ("192.0.2.1", "192.0.2.1"), ("=", "="),
        ('"12"', "12"), ("'true'", "true"), ("!!str 12", "12"),
    ],
)  # fmt: skip
def test_core_schema(text: str, value: object) -> None:
    (document,) = documents(f"key: {text}\n", "f.yaml")
    found = document.plain()["key"]
    assert found == value
    assert type(found) is type(value)


def test_tabs_separate_but_do_not_indent() -> None:
    (document,) = documents("a:\t{b: 1,\n\tc: 2}\t# three\nd:\t4\t\n", "f.yaml")
    assert document.plain() == {"a": {"b": 1, "c": 2}, "d": 4}


def test_keys_are_words() -> None:
    (document,) = documents("on: 1\n80: 2\nnull: 3\n", "f.yaml")
    assert document.plain() == {"on": 1, "80": 2, "null": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: written twice (first on line 1)"),
        ("a: {b: 1, b: 2}\n", "f.yaml:1: a.b: written twice (first on line 1)"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "f.yaml:3: c.<<: merge keys are not part of YAML 1.2"),
        ("a: !thing 1\n", "f.yaml:1: a: unknown tag !thing"),
        ("a: [1\nb: 2\n", "f.yaml:2: not YAML:"),
        ("a:\n\t- 1\n", "f.yaml:2: not YAML: found character '\\t'"),
        ("&a [*a]\n", "f.yaml:1: an alias that contains itself"),
        ("[1]: 2\n", "f.yaml:1: a key must be a word"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError) as error:
        for document in documents(text, "f.yaml"):
            document.plain()
    assert str(error.value).startswith(message)


def test_a_text_within_a_file_counts_the_files_lines() -> None:
    (outer,) = documents("one: 1\ntwo: |\n  a: 1\n  b: 2\n  b: 3\n", "f.yaml")
    two = outer.entries()["two"]
    (inner,) = documents(two.text(), "f.yaml", two.literal_line(), two.key)
    with pytest.raises(FormatError) as error:
        inner.plain()
    assert str(error.value) == "f.yaml:5: two.b: written twice (first on line 4)"
