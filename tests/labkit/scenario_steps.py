"""The steps of a scenario file: for each kind one function from its Field to checked, defaulted arguments.

Durations become float seconds. What a step needs from those before it (a held connection, a stream, a pod that was
applied) is checked here too, so that a wrong file is refused before anything boots. What the arguments mean is played
by steps.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.labkit import documents as kubernetes
from tests.labkit import fields, matrix
from tests.labkit.model import WITHIN, AgentSpec, Step
from tests.labkit.yaml12 import Field, did_you_mean

Args = dict[str, Any]

HOLD_FOR = 1.0
STREAM_EVERY = 0.01
STREAM_TIMEOUT = 1.0
MAX_COUNT = 10_000
MAX_KEPT = 1000
TRIES_PER_BACKEND = 4  # the default count where several backends are named
EXPECTATIONS = ("open", "refused", "silent", "closed")
AGENT_ORDERS = ("stop", "kill", "start", "restart", "cleanup", "kill-bird", "upgrade")


@dataclass
class Context:
    """The world that steps speak of, and what the steps before this one made."""

    nodes: tuple[str, ...]
    outside: tuple[str, ...]
    agents: AgentSpec
    held: set[str] = field(default_factory=set)
    streams: set[str] = field(default_factory=set)
    pods: set[str] = field(default_factory=set)
    within: float = WITHIN
    workloads: bool = False  # something makes pods under names of its own

    @property
    def agent_nodes(self) -> tuple[str, ...]:
        return self.nodes if self.agents.nodes is None else self.agents.nodes

    def place(self, value: Field) -> str:
        """`node/n1`, `outside/client`, `pod/default/client`."""
        wanted = "a place: node/NAME, outside/NAME or pod/NAMESPACE/NAME"
        text = value.text(wanted)
        kind, *names = text.split("/")
        if len(names) != {"node": 1, "outside": 1, "pod": 2}.get(kind) or not all(map(fields.NAME.fullmatch, names)):
            raise value.fail(f"wants {wanted}, not {text!r}")
        if kind == "pod":
            self.check_pod(value, "/".join(names))
            return text
        known = self.nodes if kind == "node" else self.outside
        if names[0] not in known:
            raise value.fail(f"no {kind} {names[0]!r}{did_you_mean(names[0], known)}")
        return text

    def check_pod(self, value: Field, name: str) -> None:
        if name not in self.pods and not self.workloads:
            raise value.fail(f"no step before this one applies pod {name}{did_you_mean(name, sorted(self.pods))}")

    def node(self, value: Field) -> str:
        name = value.text("a node's name")
        if name not in self.nodes:
            raise value.fail(f"no node {name!r}; the nodes are {', '.join(self.nodes)}")
        return name

    def agent_node(self, value: Field) -> str:
        name = self.node(value)
        if name not in self.agent_nodes:
            raise value.fail(f"node {name} runs no agent")
        return name


def read_step(item: Field, context: Context) -> Step:
    """One entry of `steps`: exactly one kind, and perhaps a name."""
    entries = item.entries()
    for key, value in entries.items():
        if key not in KINDS and key != "name":
            raise _renamed(value, key).fail(
                f"unknown step{did_you_mean(key, tuple(KINDS))}; known are {', '.join(KINDS)}, and name"
            )
    kinds = [key for key in entries if key in KINDS]
    if not kinds:
        raise item.fail(f"a step without a kind (one of {', '.join(KINDS)})")
    if len(kinds) > 1:
        raise _renamed(entries[kinds[1]], kinds[1]).fail(f"a second kind in one step (the first is {kinds[0]})")
    kind = kinds[0]
    name = _renamed(entries["name"], "name").text() if "name" in entries else None
    value = _renamed(entries[kind], kind)
    return Step(kind, KINDS[kind](value, context), value.line, name)


def _renamed(value: Field, key: str) -> Field:
    """Keys of a step are named from its kind on: the line says which step."""
    return Field(value.file, key, value.node, value.first_line, value.line)


def _optional(found: dict[str, Field], key: str, read: Callable[[Field], Any], default: Any = None) -> Any:
    return read(found[key]) if key in found else default


# objects


def _apply(value: Field, context: Context) -> Any:
    objects = kubernetes.read(value)
    for document in objects:
        metadata = document["metadata"]
        if document["kind"] == "Pod":
            context.pods.add(f"{metadata.get('namespace', 'default')}/{metadata['name']}")
        context.workloads |= document["kind"] in kubernetes.WORKLOADS
    return objects


def _patch(value: Field, context: Context) -> Any:
    merges = {}
    for name, merge in value.entries().items():
        kubernetes.check_patch(merge)
        merges[fields.reference(merge, name)] = merge.plain()
    if not merges:
        raise value.fail("wants at least one KIND/NAMESPACE/NAME: {...}")
    return merges


def _delete(value: Field, context: Context) -> Any:
    references = [fields.reference(item, item.text()) for item in value.items("a list of objects")]
    if not references:
        raise value.fail("wants at least one KIND/NAMESPACE/NAME")
    return references


# traffic

PROBE_KEYS = ("from", "to", "expect", "backends", "distinct", "source", "count", "sport", "size", "within", "for",
              "status", "contains")  # fmt: skip
SIZES = (256, 65507)  # the least has room for who answered, the most is what a datagram of IPv4 holds


def _probe(value: Field, context: Context) -> Args:
    found = value.keys(PROBE_KEYS, required=("from", "to"))
    args: Args = {
        "from": context.place(found["from"]),
        "to": fields.url(found["to"], fields.PROBED),
        "expect": _optional(found, "expect", lambda f: f.choice(*EXPECTATIONS), "open"),
        "backends": _optional(found, "backends", lambda f: fields.texts(f, "a list of names")),
        "distinct": _optional(found, "distinct", lambda f: f.integer(1, MAX_COUNT)),
        "source": _optional(found, "source", fields.address),
        "count": _optional(found, "count", lambda f: f.integer(1, MAX_COUNT)),
        "sport": _optional(found, "sport", fields.port),
        "size": _optional(found, "size", lambda f: f.integer(*SIZES)),
        "within": _optional(found, "within", fields.duration, context.within),
        "for": _optional(found, "for", fields.duration),
        "status": _optional(found, "status", lambda f: f.integer(100, 599)),
        "contains": _optional(found, "contains", fields.texts, ()),
    }
    _check_probe(found, args)
    if args["for"] is None:
        args["for"] = 0.0 if args["expect"] == "open" else HOLD_FOR
    if args["count"] is None:
        several = max(len(set(args["backends"] or ())), args["distinct"] or 0)
        args["count"] = several * TRIES_PER_BACKEND if several > 1 else 1
    return args


def _check_probe(found: dict[str, Field], args: Args) -> None:
    if args["expect"] != "open":
        for key in ("backends", "distinct", "source", "status", "contains"):
            if key in found:
                raise found[key].fail(f"only an answer has one, and expect is {args['expect']}")
    if args["to"].startswith("icmp://"):
        for key in ("backends", "distinct", "source", "sport"):
            if key in found:
                raise found[key].fail("not for icmp://: the kernel answers, and says no more than that")
    if not args["to"].startswith("http://"):
        for key in ("status", "contains"):
            if key in found:
                raise found[key].fail("only for http://")
    if "size" in found and urlsplit(args["to"]).scheme not in ("tcp", "udp", "icmp"):
        raise found["size"].fail("only for tcp://, udp:// and icmp://")
    for key, number in (("backends", len(set(args["backends"] or ()))), ("distinct", args["distinct"] or 0)):
        if key in found and args["count"] is not None and args["count"] < number:
            raise found[key].fail(f"{number} cannot answer {args['count']} tries")
    if args["backends"] == ():
        raise found["backends"].fail("wants at least one name")
    if args["source"] is not None and fields.family(args["source"]) != fields.family(args["to"]):
        raise found["source"].fail("is of the other family than `to`")


def _flow(found: dict[str, Field], context: Context, schemes: tuple[str, ...] = fields.PROTOCOLS) -> Args:
    return {
        "name": found["name"].text("a name"),
        "from": context.place(found["from"]),
        "to": fields.url(found["to"], schemes),
    }


def _hold(value: Field, context: Context) -> Args:
    found = value.keys(("name", "from", "to", "sport", "pushed"), required=("name", "from", "to"))
    args = _flow(found, context)
    args["sport"] = _optional(found, "sport", fields.port)
    args["pushed"] = _optional(found, "pushed", Field.boolean, False)
    if args["pushed"] and not args["to"].startswith("tcp://"):
        raise found["pushed"].fail("only for tcp://")
    context.held.add(args["name"])
    return args


def _held(value: Field, context: Context) -> Args:
    found = value.keys(("name", "alive", "backend", "within"), required=("name",))
    name = found["name"].text("a name")
    if name not in context.held:
        raise found["name"].fail(f"no step before this one holds {name!r}{did_you_mean(name, sorted(context.held))}")
    args = {
        "name": name,
        "alive": _optional(found, "alive", Field.boolean, True),
        "backend": _optional(found, "backend", Field.text),
        "within": _optional(found, "within", fields.duration, 0.0),
    }
    if args["backend"] is not None and not args["alive"]:
        raise found["backend"].fail("nobody answers on what is not alive")
    return args


def _stream(value: Field, context: Context) -> Args:
    found = value.keys(("name", "from", "to", "every", "timeout", "kept"), required=("name", "from", "to"))
    args = _flow(found, context, fields.SCHEMES)
    if args["name"] in context.streams:
        raise found["name"].fail(f"stream {args['name']!r} goes on already")
    context.streams.add(args["name"])
    args["every"] = _optional(found, "every", fields.duration, STREAM_EVERY)
    args["timeout"] = _optional(found, "timeout", fields.duration, STREAM_TIMEOUT)
    args["kept"] = _optional(found, "kept", lambda f: f.integer(1, MAX_KEPT), 0)
    for key in ("every", "timeout"):
        if not args[key]:
            raise found[key].fail("wants more than nothing")
    return args


def _streamed(value: Field, context: Context) -> Args:
    found = value.keys(("name", "failed", "answered", "longest_gap"), required=("name",))
    name = found["name"].text("a name")
    if name not in context.streams:
        raise found["name"].fail(f"no stream {name!r} goes on here{did_you_mean(name, sorted(context.streams))}")
    context.streams.remove(name)
    return {
        "name": name,
        "failed": _optional(found, "failed", lambda f: f.integer(0, 10**9)),
        "answered": _optional(found, "answered", lambda f: f.integer(0, 10**9)),
        "longest_gap": _optional(found, "longest_gap", fields.duration),
    }


# the machinery


def _agent(value: Field, context: Context) -> Args:
    found = value.keys(("node", "do", "flags", "env", "refused"), required=("node", "do"))
    order = found["do"].choice(*AGENT_ORDERS)
    everyone = found["node"].text("a node's name or all") == "all"
    args = {
        "nodes": context.agent_nodes if everyone else (context.agent_node(found["node"]),),
        "do": order,
        "flags": _optional(found, "flags", fields.flags),
        "env": _optional(found, "env", fields.word_map),
        "refused": _optional(found, "refused", Field.boolean, False),
    }
    if args["refused"] and order != "start":
        raise found["refused"].fail("only a start can be refused")
    return args


def _api(value: Field, context: Context) -> Args:
    found = value.keys(("do", "slow"))
    if len(found) != 1:
        raise value.fail("wants exactly one of do, slow")
    if context.agents.source != "apiserver":
        raise value.fail("there is no API server with agents.source: manifests")
    if "slow" in found:
        return {"slow": fields.duration(found["slow"])}
    return {"do": found["do"].choice("stop", "start", "cut", "expire")}


def _link(value: Field, context: Context) -> Args:
    found = value.keys(("node", "do", "address", "loss"), required=("node",))
    if len(found) != 2:
        raise value.fail("wants exactly one of do, address, loss beside node")
    args: Args = {"node": context.node(found["node"])}
    if "do" in found:
        args["do"] = found["do"].choice("down", "up")
    if "loss" in found:
        args["loss"] = fields.percent(found["loss"])
    if "address" in found:
        args["address"] = _signed_address(found["address"])
    return args


def _signed_address(value: Field) -> str:
    text = value.text('"+ADDRESS" or "-ADDRESS"')
    if text[:1] not in ("+", "-"):
        raise value.fail(f'wants "+ADDRESS" or "-ADDRESS", not {text!r}')
    try:
        fields.check_interface(text[1:])
    except ValueError as error:
        raise value.fail(f'wants "+ADDRESS" or "-ADDRESS": {error}') from None
    return text


def _run(value: Field, context: Context) -> Args:
    found = value.keys(("at", "command", "contains", "lacks", "status", "within"), required=("at", "command"))
    args = {
        "at": context.place(found["at"]),
        "command": found["command"].text("a shell command"),
        "contains": _optional(found, "contains", fields.texts, ()),
        "lacks": _optional(found, "lacks", fields.texts, ()),
        "status": _optional(found, "status", lambda f: f.integer(0, 255)),
        "within": _optional(found, "within", fields.duration, 0.0),
        "judged": any(key in found for key in ("contains", "lacks", "status")),
    }
    if not args["judged"]:
        args["status"] = 0
    return args


def _foreign(value: Field, context: Context) -> Args:
    found = value.keys(("at", "command", "check"), required=("at", "command", "check"))
    return {
        "at": context.place(found["at"]),
        "command": found["command"].text("a shell command"),
        "check": found["check"].text("a shell command"),
    }


def _expect_status(value: Field, context: Context) -> Args:
    """Every key beside these is compared with the controller's value of that name."""
    found = value.entries()
    for key in ("node", "controller"):
        if key not in found:
            raise Field(value.file, f"{value.key}.{key}", value.node, value.first_line, value.line).fail("is missing")
    wanted = {key: item.plain() for key, item in found.items() if key not in ("node", "controller", "within")}
    if not wanted:
        raise value.fail("wants at least one value to compare, such as failures: 0")
    return {
        "node": context.agent_node(found["node"]),
        "controller": found["controller"].text("a controller's name"),
        "within": _optional(found, "within", fields.duration, context.within),
        "wanted": wanted,
    }


def _matrix(value: Field, context: Context) -> Args:
    found = value.keys(("pods", "to", "within", "for", "expect"), required=("pods", "to", "expect"))
    pods = fields.texts(found["pods"], "a list of NAMESPACE/NAME")
    for item in found["pods"].items():
        if len(item.text().split("/")) != 2 or not all(map(fields.NAME.fullmatch, item.text().split("/"))):
            raise item.fail(f"wants NAMESPACE/NAME, not {item.text()!r}")
        context.check_pod(item, item.text())
    if not pods or len(set(pods)) != len(pods):
        raise found["pods"].fail("wants pods, each once")
    to = found["to"].keys(("ports", "via", "family"), required=("ports",))
    ports = tuple(map(fields.protocol_port, to["ports"].items("a list of ports such as tcp/80")))
    if not ports:
        raise to["ports"].fail("wants at least one port")
    return {
        "pods": pods,
        "ports": ports,
        "via": _optional(to, "via", lambda f: f.choice("ip", "service"), "ip"),
        "family": 4 if "family" not in to else _family(to["family"]),
        "within": _optional(found, "within", fields.duration, context.within),
        "for": _optional(found, "for", fields.duration, HOLD_FOR),
        "expect": matrix.read(found["expect"], pods),
    }


def _family(value: Field) -> int:
    number = value.integer(4, 6)
    if number == 5:
        raise value.wrong("4 or 6")
    return number


KINDS: dict[str, Callable[[Field, Context], Any]] = {
    "apply": _apply,
    "patch": _patch,
    "delete": _delete,
    "probe": _probe,
    "hold": _hold,
    "held": _held,
    "stream": _stream,
    "streamed": _streamed,
    "agent": _agent,
    "api": _api,
    "link": _link,
    "run": _run,
    "foreign": _foreign,
    "matrix": _matrix,
    "expectStatus": _expect_status,
}
