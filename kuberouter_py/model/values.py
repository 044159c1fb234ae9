"""Kinds of values as people write them: booleans, durations, CIDRs, ports. Text to value and back, pure.

Owns the spelling (Go's, since kube-router's and kube-proxy's flags are written so) and nothing of what a value is for.
Every `parse` raises ValueError with a reason that quotes the text; `parse(render(value)) == value`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from kuberouter_py.model.cluster import Cidr

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """metavar: how a help text names such a value. gathers: it is a list, and several texts are one longer list.

    bare: the text that the flag alone stands for, "" where a value must follow.
    """

    metavar: str
    parse: Callable[[str], T]
    render: Callable[[T], str]
    gathers: bool = False
    bare: str = ""


def checked(kind: Kind[T], check: Callable[[T], None], *, metavar: str = "") -> Kind[T]:
    """The same kind with one more condition, which raises ValueError. An empty text means "not given": not asked."""

    def parse(text: str) -> T:
        value = kind.parse(text)
        if text:
            check(value)
        return value

    return replace(kind, parse=parse, metavar=metavar or kind.metavar)


# Go's strconv.ParseBool
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_FALSE = frozenset({"0", "f", "F", "false", "False", "FALSE"})


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'"{text}" is neither true nor false')


def _parse_tristate(text: str) -> bool | None:
    if text == "auto":
        return None
    try:
        return parse_bool(text)
    except ValueError:
        raise ValueError(f'"{text}" is none of auto, true, false') from None


def _bool_text(value: bool | None) -> str:
    return "auto" if value is None else str(value).lower()


# Nanoseconds, as in Go: sums of such parts are exact.
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST = 2**63 // 10**9  # what Go's time.Duration holds, in seconds; about 292 years


def parse_duration(text: str) -> float:
    """ "5m0s", "1m30s", "500ms", "0": seconds. Go's time.ParseDuration without negative values."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'"{text}" is not a duration like 30s, 5m or 1h30m')
    seconds = float(sum(Decimal(number) * _UNITS[unit] for number, unit in parts) / 10**9)
    if seconds > _LONGEST:
        raise ValueError(f'"{text}" is too long a duration')
    return seconds


def duration_text(seconds: float) -> str:
    """As Go prints it: "5m0s", "1h0m0s", "1.5s", "500ms", "0s"."""
    nanoseconds = round(seconds * 10**9)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanoseconds < size * 1000:
            return f"{_plain(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    seconds_text = f"{_plain(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds_text}"
    return f"{minutes}m{seconds_text}" if minutes else seconds_text


def _plain(value: int, size: int) -> str:
    text = f"{Decimal(value) / size:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_cidr(text: str) -> Cidr:
    """ "10.96.0.0/12", or one address. Host bits are cut off, as Go does."""
    if "%" not in text:
        try:
            network = ip_network(text, strict=False)
            return Cidr(network.network_address.packed, network.prefixlen)
        except ValueError:
            pass
    raise ValueError(f'"{text}" is not a CIDR like 10.96.0.0/12')


def cidr_text(cidr: Cidr) -> str:
    return f"{ip_address(cidr.network)}/{cidr.prefix}"


def _parse_cidrs(text: str) -> tuple[Cidr, ...]:
    return tuple(parse_cidr(part.strip()) for part in text.split(",") if part.strip())


def _cidrs_text(cidrs: tuple[Cidr, ...]) -> str:
    return ",".join(map(cidr_text, cidrs))


def _parse_node_addresses(text: str) -> tuple[Cidr | str, ...]:
    """kube-proxy's list: CIDRs, or the words primary (the Node's own addresses) and all."""
    found: list[Cidr | str] = []
    for part in (part.strip() for part in text.split(",")):
        if part in NODE_ADDRESS_WORDS:
            found.append(part)
        elif part == "localhost":
            raise ValueError('"localhost" is not to be had: IPVS serves no NodePorts on loopback addresses')
        elif part:
            found.append(parse_cidr(part))
    return tuple(found)


def _node_addresses_text(addresses: tuple[Cidr | str, ...]) -> str:
    return ",".join(each if isinstance(each, str) else cidr_text(each) for each in addresses)


def _parse_address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise ValueError(f'"{text}" is not an IP address') from None


def number(what: str, low: int, high: int) -> Kind[int]:
    """what: with its article, "a port"."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f'"{text}" is not {what} ({low} to {high})')
        return int(text)

    return Kind("NUMBER", parse, str)


def _check_port_range(text: str) -> None:
    found = re.fullmatch(r"(\d{1,5})[-:](\d{1,5})", text, re.ASCII)  # kube-router takes either sign
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError(f'"{text}" is not a range of ports like 30000-32767')


def choice(*words: str) -> Kind[str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f'"{text}" is none of {", ".join(words)}')
        return text

    return Kind("|".join(words), parse, str)


def _check_positive(seconds: float) -> None:
    if seconds <= 0:
        raise ValueError("must be more than 0")


def _check_second(seconds: float) -> None:
    if seconds < 1:
        raise ValueError(f"{duration_text(seconds)} is shorter than a second")


def _check_whole(seconds: float) -> None:
    if seconds != int(seconds):
        raise ValueError(f"{duration_text(seconds)} is not whole seconds, which is all that the kernel keeps")


def _check_conn_tab_bits(bits: int) -> None:
    if bits and bits < 8:
        raise ValueError(f"{bits} is neither 0 nor 8 to 20")


def _check_ipvs_timeout(seconds: float) -> None:
    _check_whole(seconds)
    # ip_vs_set_timeout refuses more than INT_MAX / HZ; HZ is at most 1000
    if seconds > 2**31 // 1000:
        raise ValueError(f"{duration_text(seconds)} is more than the kernel's 596h31m23s")


# RFC 1123 subdomain: what the API accepts as a Node's name
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _check_node_name(text: str) -> None:
    if len(text) > 253 or not _NODE_NAME.fullmatch(text):
        raise ValueError(f'"{text}" cannot be the name of a Node')


def _check_link_name(text: str) -> None:
    # dev_valid_name in the kernel: IFNAMSIZ 16 with its NUL, no slash, colon or white space, not "." or ".."
    if len(text.encode()) > 15 or re.search(r"[/:\s]", text) or text in (".", ".."):
        raise ValueError(f'"{text}" cannot be the name of a link')


def _check_url(text: str) -> None:
    parts = urlsplit(text if "://" in text else f"https://{text}")  # host:port alone is common usage
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'"{text}" is not an address like https://192.0.2.10:6443')


def _check_url_path(text: str) -> None:
    if not re.fullmatch(r"/[!-~]*", text) or "?" in text or "#" in text:
        raise ValueError(f'"{text}" is not a path like /metrics')


def _check_absolute(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError(f'"{text}" is not an absolute path')


def _check_socket_path(text: str) -> None:
    # sun_path holds 108 bytes with its NUL (unix(7))
    if not text.startswith("/") or len(text.encode()) > 107:
        raise ValueError(f'"{text}" is not an absolute path of at most 107 bytes')


def required(kind: Kind[str], check: Callable[[str], None] = lambda text: None) -> Kind[str]:
    def parse(text: str) -> str:
        if not text:
            raise ValueError("needs a value")
        check(text)
        return kind.parse(text)

    return replace(kind, parse=parse)


BOOL: Kind[bool] = Kind("true|false", parse_bool, _bool_text, bare="true")
TRISTATE: Kind[bool | None] = Kind("auto|true|false", _parse_tristate, _bool_text, bare="true")
TEXT: Kind[str] = Kind("TEXT", str, str)
FILE: Kind[str] = Kind("FILE", str, str)
FOLDER: Kind[str] = Kind("DIR", str, str)
DURATION: Kind[float] = Kind("DURATION", parse_duration, duration_text)
POSITIVE_DURATION = checked(DURATION, _check_positive)
SECOND_OR_MORE = checked(DURATION, _check_second)
WHOLE_SECONDS = checked(DURATION, _check_whole)
IPVS_TIMEOUT = checked(DURATION, _check_ipvs_timeout)
NODE_ADDRESS_WORDS = ("primary", "all")
NODE_ADDRESSES: Kind[tuple[Cidr | str, ...]] = Kind(
    "CIDR|primary|all,...", _parse_node_addresses, _node_addresses_text, gathers=True
)
CIDRS: Kind[tuple[Cidr, ...]] = Kind("CIDR,...", _parse_cidrs, _cidrs_text, gathers=True)
ADDRESS: Kind[str] = Kind("ADDRESS", _parse_address, str)
PORT = replace(number("a port", 0, 65535), metavar="PORT")
PORT_RANGE = checked(TEXT, _check_port_range, metavar="PORT-PORT")
# What ip_vs takes (ip_vs_conn.c); anything else is its own default there, without a word.
CONN_TAB_BITS = checked(number("a number of bits", 0, 20), _check_conn_tab_bits)
COUNT = number("a number", 0, 2**31 - 1)
VERBOSITY = number("a verbosity", 0, 10)
NODE_NAME = checked(TEXT, _check_node_name, metavar="NAME")
LINK_NAME = checked(TEXT, _check_link_name, metavar="NAME")
OWN_LINK_NAME = required(LINK_NAME)
URL = checked(TEXT, _check_url, metavar="URL")
URL_PATH = required(replace(TEXT, metavar="PATH"), _check_url_path)
DIRECTORY = required(replace(TEXT, metavar="DIR"), _check_absolute)
SOCKET_PATH = required(replace(TEXT, metavar="PATH"), _check_socket_path)
OPTIONAL_SOCKET_PATH = checked(replace(TEXT, metavar="PATH"), _check_socket_path)
