"""Every option of the agent, once: name, type, default, check, help. Owns no source of options.

`Config` is the table: each field is one option, and its metadata says how text becomes its value and back. The command
line, the environment and the running agent's /config are all made from it (cli/options.py, observe/socket.py). Text is
the exchange form: `Config.from_texts(config.as_texts()) == config`, but for passwords: their text is "***", and what
comes back from it says only that there is one. Names and defaults are kube-router's where it has the option,
kube-proxy's where only that has it; docs/operations.md lists the differences.

Each area's options and checks are in a module of its own: general.py, services.py, firewall.py, routing.py, node.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, cast

from kuberouter_py.config.firewall import Firewall
from kuberouter_py.config.general import General, check_general
from kuberouter_py.config.node import OnNode, check_node
from kuberouter_py.config.option import ACCEPTED, ENVIRONMENT_PREFIX, BadOption, Option
from kuberouter_py.config.routing import Routing, check_routing
from kuberouter_py.config.services import Services, check_services
from kuberouter_py.model import values
from kuberouter_py.model.values import Kind

__all__ = ["OPTIONS", "BadOption", "Config", "Option", "texts_of_environment", "unknown_variables", "without_effect"]


@dataclass(frozen=True)
class Config(OnNode, Routing, Firewall, Services, General):  # fields come from the last one first
    """Durations are seconds as float; 0 where the help says so means "leave as it is" or "off"."""

    @classmethod
    def from_texts(cls, texts: Mapping[str, Sequence[str]]) -> Config:
        """The configuration of these texts by option name; BadOption for an unknown name, a bad value, a bad pair."""
        given = {}
        for name, several in texts.items():
            option = OPTIONS.get(name)
            if option is None:
                raise BadOption(f"--{name}: no such option")
            given[option.field] = option.parse(several)
        config = cls(**given)
        _check_pairs(config)
        return config

    def as_texts(self) -> dict[str, str]:
        """Every option's value as text, by option name."""
        return {name: option.kind.render(getattr(self, option.field)) for name, option in OPTIONS.items()}


def _to_option(each: Field[Any]) -> Option:
    name = each.name.replace("_", "-")
    about = each.metadata
    return Option(
        name=name,
        field=each.name,
        kind=cast(Kind[Any], about["kind"]),
        default=each.default,
        help=about["help"],
        group=about["group"],
        aliases=about["aliases"],
        short=about["short"],
        environment=(ENVIRONMENT_PREFIX + each.name.upper(), *about["environment"]),
    )


OPTIONS: Mapping[str, Option] = {option.name: option for option in map(_to_option, fields(Config))}


def texts_of_environment(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """What the environment says, by option name. An empty variable says nothing, unknown ones are passed over: see
    unknown_variables().
    """
    found = {}
    for name, option in OPTIONS.items():
        text = next((environment[each] for each in option.environment if environment.get(each)), None)
        if text is not None:
            found[name] = [text]
    return found


# What a kubelet writes into every container of the addresses of Services in its namespace (enableServiceLinks), one of
# which may be called kuberouter-py.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)$")


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Names in it that are written like those of options, and are of none: mistakes, most likely."""
    known = {name for option in OPTIONS.values() for name in option.environment}
    ours = (name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    return sorted(name for name in ours if not _SERVICE_LINK.search(name))


def without_effect(config: Config) -> list[str]:
    """Flags that somebody has set to something, and on which nothing depends here."""
    idle = (option for option in OPTIONS.values() if option.help.startswith(ACCEPTED))
    return [option.flag for option in idle if getattr(config, option.field) != option.default]


def _check_pairs(config: Config) -> None:
    """What single values cannot show. Raises BadOption naming the flag that has to go or to come."""
    check_general(config)
    _check_families(config)
    check_services(config)
    check_routing(config)
    check_node(config)


_SERVICE_RANGES = (
    "service_cluster_ip_range",
    "service_external_ip_range",
    "loadbalancer_ip_range",
    "advertise_cluster_ip_range",
)


def _check_families(config: Config) -> None:
    if not config.enable_ipv4 and config.enable_ipv6 is False:
        raise BadOption("--enable-ipv4: false, and --enable-ipv6 too: no address family is left")
    off = {4: not config.enable_ipv4, 16: config.enable_ipv6 is False}
    for name in _SERVICE_RANGES:
        for cidr in getattr(config, name):
            if off[len(cidr.network)]:
                family = 4 if len(cidr.network) == 4 else 6
                flag = name.replace("_", "-")
                raise BadOption(f"--{flag}: {values.cidr_text(cidr)}, but --enable-ipv{family}=false")
