"""What is carried over from another proxy's configuration: found once, when it is taken over, and remembered until the
node's next boot, so that a restarted agent goes on with it. By then it should stand in the agent's flags.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kuberouter_py.agent.others import Found
from kuberouter_py.config import OPTIONS, BadOption, Config
from kuberouter_py.controllers.takeover.carried import carried
from kuberouter_py.model.names import RUN_DIR
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import ApiError

REMEMBERED = Path(RUN_DIR) / "takeover.json"
CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"
CONFIG_KEY = "config.conf"  # kubeadm's name for the file in it


class Carrying(NamedTuple):
    """config: ours with what is carried over. flags: that, as one would write it. whose: of whom; "" for nothing.
    notices: what the node's users should know.
    """

    config: Config
    whose: str = ""
    flags: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def remembered(config: Config, file: Path | None = None) -> Carrying:
    """What an earlier takeover on this node carried over. A file that makes no sense carries nothing."""
    try:
        kept = json.loads((file or REMEMBERED).read_text())
        return _applied(config, str(kept["from"]), dict(kept["options"]), ())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Carrying(config)


def carry_over(config: Config, found: Found) -> Carrying:
    """What of the other's configuration applies from now on; writes nothing."""
    earlier = remembered(config)
    if not found.owners:
        return earlier
    settings, notice = kube_proxy_settings(earlier.config)
    more = carried(found.remains, settings, earlier.config)
    options = {**_options_of(earlier), **more.options}
    return _applied(config, str(found), options, (*notice, *more.notices))


def remember(carrying: Carrying, file: Path | None = None) -> None:
    """Raises EdgeError."""
    file = file or REMEMBERED
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"from": carrying.whose, "options": _options_of(carrying)}))
        new.replace(file)
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}") from error


def forget() -> None:
    REMEMBERED.unlink(missing_ok=True)


def kube_proxy_settings(config: Config) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """kube-proxy's configuration, and where that is none a line that says so."""
    where = config.kube_proxy_config or f"ConfigMap kube-system/kube-proxy, {CONFIG_KEY}"
    try:
        if config.kube_proxy_config:
            text = Path(config.kube_proxy_config).read_text()
        elif config.manifests:
            return {}, ()
        else:
            answer = json.loads(ApiClient(config.kubeconfig, config.master).get(CONFIG_MAP))
            text = answer["data"][CONFIG_KEY]
        said = yaml.safe_load(text)
    except ApiError as error:
        return {}, (f"kube-proxy's configuration is not known: {error}",)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        return {}, (f"kube-proxy's configuration is not known: {where}: {type(error).__name__}: {error}",)
    if not isinstance(said, dict):
        return {}, (f"kube-proxy's configuration is not known: {where} is no mapping",)
    return said, ()


def _applied(config: Config, whose: str, options: Mapping[str, str], notices: tuple[str, ...]) -> Carrying:
    """Options that the agent's flags set (that are not at their default) are not touched."""
    values = {}
    flags = []
    for name, text in options.items():
        option = OPTIONS.get(name)
        if option is None or getattr(config, option.field) != option.default:
            continue
        try:
            values[option.field] = option.parse([text])
        except BadOption:
            continue
        flags.append(f"{option.flag}={text}")
    return Carrying(replace(config, **values), whose, tuple(flags), notices)


def _options_of(carrying: Carrying) -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=", 1) for flag in carrying.flags)
