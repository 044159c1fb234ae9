"""`bgp` of an outside host in a scenario file -> BgpSpec; what its neighbours must have for sessions to come up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_interface
from typing import Any

from tests.labkit import bgp_config, fields
from tests.labkit.model import BgpSpec, Scenario
from tests.labkit.ports import LabError
from tests.labkit.yaml12 import Field, did_you_mean

ENGINES = ("gobgp", "frr", "bird")
KEYS = (
    "engine", "asn", "neighbors", "password", "bfd", "gracefulRestart", "multihop", "port", "address", "announce",
)  # fmt: skip
MAX_ASN = 2**32 - 1
MAX_HOPS = 255
# What a configuration file of every engine holds without quoting; 80 characters is what the kernel takes.
PASSWORD = re.compile(r"[A-Za-z0-9!#$%&()*+,./:;<=>@^_{|}~-]{1,80}")


def read(host: str, addresses: Sequence[str], field: Field, others: Sequence[str]) -> BgpSpec:
    """others: every node and outside host."""
    found = field.keys(KEYS, required=("engine", "asn", "neighbors"))
    readers: dict[str, Callable[[Field], Any]] = {
        "engine": lambda value: value.choice(*ENGINES),
        "asn": _asn,
        "neighbors": lambda value: _neighbors(host, value, others),
        "password": _password,
        "bfd": Field.boolean,
        "gracefulRestart": Field.boolean,
        "multihop": lambda value: value.integer(1, MAX_HOPS),
        "port": fields.port,
        "address": lambda value: _own_address(value, addresses),
        "announce": _prefixes,
    }
    given = {key: read(found[key]) for key, read in readers.items() if key in found}
    if given.get("bfd") and given["engine"] == "gobgp":
        raise found["bfd"].fail("gobgp has no BFD; frr and bird have")
    given["graceful_restart"] = given.pop("gracefulRestart", False)
    return BgpSpec(**given)


def _asn(field: Field) -> int:
    return field.integer(1, MAX_ASN)


def _neighbors(host: str, field: Field, others: Sequence[str]) -> dict[str, int]:
    neighbors = {}
    for name, asn in field.entries().items():
        if name not in others or name == host:
            raise asn.fail(f"no other node or outside host {name!r}{did_you_mean(name, others)}")
        neighbors[name] = _asn(asn)
    return neighbors


def _password(field: Field) -> str:
    text = field.text("a password")
    if not PASSWORD.fullmatch(text):
        raise field.fail("wants 1 to 80 letters, digits or signs, without space, quotes, backslash or question mark")
    return text


def _own_address(field: Field, addresses: Sequence[str]) -> str:
    own = [str(ip_interface(each).ip) for each in addresses]
    return field.choice(*own)


def _prefixes(field: Field) -> tuple[str, ...]:
    return tuple(map(fields.network, field.items("a list of prefixes")))


def check_reachable(found: Field, scenario: Scenario) -> None:
    """found: the section `outside`."""
    for name, host in scenario.outside.items():
        if host.bgp is not None:
            try:
                bgp_config.speaker(scenario, name, {})
            except LabError as error:
                raise found.entries()[name].entries()["bgp"].fail(str(error)) from None
