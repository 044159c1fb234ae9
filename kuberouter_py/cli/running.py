"""What the commands ask of the agent that runs on this node."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kuberouter_py.cli.errors import Failure
from kuberouter_py.cli.options import Texts, config_of
from kuberouter_py.config import Config
from kuberouter_py.observe.socket import NoAgent, NoAnswer, ask


def running_config(socket: str) -> Config:
    """The configuration of the agent behind the socket. Raises Failure."""
    answer = ask_agent(socket, "/config")
    return config_of({name: [text] for name, text in answer.items()})


def running_texts(socket: str) -> Texts | None:
    """Its options as texts; None where no agent answers."""
    try:
        return {name: [text] for name, text in ask(socket, "/config").items()}
    except NoAgent:
        return None


def ask_agent(
    socket: str, what: str, parameters: Mapping[str, str] = MappingProxyType({}), *, form: bool = False
) -> Any:
    """form: the parameters may be long. Raises Failure."""
    try:
        return ask(socket, what, parameters, form=form)
    except NoAgent as error:
        raise Failure(f"{error}; is it running on this node? (--socket says where it listens)") from None
    except NoAnswer as error:
        raise Failure(str(error)) from None
    except PermissionError:
        raise Failure(f"{socket}: permission denied; run as root") from None
