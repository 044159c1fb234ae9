"""The words that scenario files are written in: durations, addresses, places, URLs, ports, references to objects.

Each reads one Field and returns a checked value or raises FormatError; nothing here knows one step from another.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from urllib.parse import urlsplit

from tests.labkit import kinds
from tests.labkit.ports import LabError
from tests.labkit.yaml12 import Field

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
PROTOCOLS = ("tcp", "udp", "sctp")
SCHEMES = (*PROTOCOLS, "http")
PROBED = (*SCHEMES, "icmp")
MAX_PORT = 65535


def duration(field: Field) -> float:
    """`500ms`, `3s`, `2m` in seconds."""
    wanted = "a duration such as 500ms, 3s or 2m"
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", field.text(wanted))
    if not match:
        raise field.wrong(wanted)
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]


def percent(field: Field) -> str:
    text = field.text("a percentage such as 30%")
    if not re.fullmatch(r"\d+(\.\d+)?%", text) or float(text[:-1]) > 100:
        raise field.wrong("a percentage such as 30%")
    return text


def texts(field: Field, wanted: str = "a list of texts") -> tuple[str, ...]:
    return tuple(item.text() for item in field.items(wanted))


def word_map(field: Field) -> dict[str, str]:
    """Labels, annotations, environment: text to text."""
    return {name: value.text() for name, value in field.entries().items()}


def name(field: Field, what: str = "a name") -> str:
    text = field.text(what)
    if not NAME.fullmatch(text):
        raise field.fail(f"wants {what} (lower-case letters, digits, '-', '.'), not {text!r}")
    return text


def address(field: Field) -> str:
    text = field.text("an IP address")
    try:
        ip_address(text)
    except ValueError:
        raise field.fail(f"wants an IP address, not {text!r}") from None
    return text


def interface(field: Field) -> str:
    """An address that may carry a prefix length."""
    text = field.text("an IP address")
    try:
        check_interface(text)
    except ValueError as error:
        raise field.fail(str(error)) from None
    return text


def check_interface(text: str) -> None:
    """ValueError unless `text` is ADDRESS or ADDRESS/LENGTH."""
    try:
        ip_interface(text)
    except ValueError:
        raise ValueError(f"wants an IP address, with or without /LENGTH, not {text!r}") from None
    if "/" in text and not text.rpartition("/")[2].isdigit():
        raise ValueError(f"wants a prefix length after '/', not {text!r}")


def network(field: Field) -> str:
    text = field.text("a CIDR")
    try:
        ip_network(text)
    except ValueError as error:
        raise field.fail(f"wants a CIDR such as 10.244.1.0/24: {error}") from None
    return text


def port(field: Field) -> int:
    return field.integer(1, MAX_PORT)


def protocol_port(field: Field) -> tuple[str, int]:
    """`tcp/80`."""
    text = field.text("PROTOCOL/PORT such as tcp/80")
    protocol, slash, number = text.partition("/")
    if not slash or protocol not in PROTOCOLS or not number.isdigit() or not 1 <= int(number) <= MAX_PORT:
        raise field.fail(f"wants PROTOCOL/PORT with tcp, udp or sctp and a port from 1 to {MAX_PORT}, not {text!r}")
    return protocol, int(number)


def url(field: Field, schemes: tuple[str, ...] = SCHEMES) -> str:
    """`tcp://10.96.0.10:80`, `udp://[fd00::1]:53`, `http://ADDRESS:PORT/path`; as written, a port always in it, but
    in `icmp://10.244.1.2`.
    """
    text = field.text("PROTOCOL://ADDRESS:PORT")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in schemes:
        raise field.fail(f"wants {'://, '.join(schemes)}:// before an address, not {text!r}")
    try:
        parts = urlsplit(text)
        host, number = parts.hostname, parts.port
    except ValueError as error:
        raise field.fail(f"{text!r}: {error}") from None
    literal: IPv4Address | IPv6Address
    try:
        literal = ip_address(host or "")
    except ValueError:
        raise field.fail(f"wants an IP address (IPv6 in brackets) after {scheme}://, not {text!r}") from None
    if parts.username is not None or (literal.version == 6) != (parts.netloc[:1] == "["):
        raise field.fail(f"wants {scheme}://ADDRESS:PORT, not {text!r}")
    if scheme == "http":
        return _http(field, text, number)
    if scheme == "icmp":
        if number is not None or parts.path or parts.query or parts.fragment or parts.netloc.endswith(":"):
            raise field.fail(f"wants icmp://ADDRESS, not {text!r}")
        return text
    if not number or parts.path or parts.query or parts.fragment:
        raise field.fail(f"wants {scheme}://ADDRESS:PORT with a port from 1 to {MAX_PORT}, not {text!r}")
    return text


def _http(field: Field, text: str, number: int | None) -> str:
    parts = urlsplit(text)
    if number == 0 or parts.fragment or parts.netloc.endswith(":"):
        raise field.fail(f"wants http://ADDRESS:PORT/PATH with a port from 1 to {MAX_PORT}, not {text!r}")
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return f"http://{parts.netloc}{'' if number else ':80'}{rest}"


def reference(field: Field, text: str) -> str:
    """`pod/default/web-1`, `namespace/y`: as kinds.py knows them."""
    try:
        return str(kinds.parse(text))
    except LabError as error:
        raise field.fail(str(error)) from None


def family(url_or_address: str) -> int:
    """4 or 6."""
    text = urlsplit(url_or_address).hostname if "://" in url_or_address else url_or_address
    return ip_address(text or "").version


def flags(field: Field) -> tuple[str, ...]:
    """An agent's flags: each a text that begins with '-', or the value of the one before it."""
    found = texts(field, "a list of flags")
    for item, before in zip(field.items(), (None, *found), strict=False):
        takes_value = before is not None and before.startswith("-") and "=" not in before
        if not item.text().startswith("-") and not takes_value:
            raise item.fail(f"wants a flag such as --run-router=false, not {item.text()!r}")
    return found
