"""Owns the two flavours of iptables: which of them this node has, which one is to be used, and their programs.

What is read with the programs, and what is written, is left to kernel/iptables.py. Nothing here writes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.command import CommandFailed
from kuberouter_py.kernel.iptables_text import Saved, parse
from kuberouter_py.kernel.netlink_socket import NETLINK_NETFILTER, Batch, error_text
from kuberouter_py.kernel.own_writes import OWN_WRITES
from kuberouter_py.ports import EdgeError, Unavailable

Flavour = Literal["legacy", "nft"]

FLAVOURS: Final[tuple[Flavour, Flavour]] = ("legacy", "nft")
FAMILIES: Final = (4, 6)
# What the programs say when it is the kernel (or the installation) that lacks something, not the rule that is wrong.
LACKING: Final = (
    "missing kernel module",
    "Couldn't load",
    "Table does not exist",
    "Failed to initialize nft",
    "Operation not supported",
)
# include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h
_NFNL_MSG_BATCH_BEGIN = 0x10
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_NEWTABLE = 0
_NFTA_TABLE_NAME = 1
_NFPROTO = {4: 2, 6: 10}


def nf_tables_lacks(family: int) -> str:
    """Why iptables-nft cannot work in this kernel for a family; "" when it can.

    iptables-nft-save succeeds, empty, also where nf_tables has no IP family (User-Mode Linux). So the kernel is asked
    to make a table in a batch without an end: it checks that and forgets it, as for `nft --check` (nfnetlink.c,
    NFNL_ABORT_VALIDATE).
    """
    begin = struct.pack("=BB", 0, 0) + struct.pack(">H", _NFNL_SUBSYS_NFTABLES)
    table = struct.pack("=BBH", _NFPROTO[family], 0, 0)
    name = netlink.text(_NFTA_TABLE_NAME, "kuberouter-py-probe")
    kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_NEWTABLE
    channel = Batch(NETLINK_NETFILTER)
    try:
        failed = channel.send([
            netlink.message(_NFNL_MSG_BATCH_BEGIN, 0, begin),
            netlink.message(kind, netlink.NLM_F_CREATE, table, name),
        ])  # fmt: skip
    finally:
        channel.close()
    return f"nf_tables of this kernel, IPv{family}: {error_text(max(failed.values()))}" if failed else ""


@dataclass
class View:
    """Both flavours at one moment: what was read, by flavour and family, and why the rest could not be."""

    saved: dict[tuple[Flavour, int], Saved] = field(default_factory=dict)
    lacking: dict[tuple[Flavour, int], str] = field(default_factory=dict)

    def of(self, flavour: Flavour) -> list[Saved]:
        return [found for (which, _family), found in self.saved.items() if which == flavour]

    def foreign_rules(self, flavour: Flavour) -> int:
        return sum(found.foreign_rules for found in self.of(flavour))


class Programs:
    """iptables-save and iptables-restore of both flavours and families.

    run: `command.run`. probe: `nf_tables_lacks`.
    """

    def __init__(self, prefix: str, run: Callable[..., str], probe: Callable[[int], str] = nf_tables_lacks) -> None:
        self._prefix = prefix
        self._run = run
        self._probe = probe
        self._system: Flavour | Literal[""] | None = None
        self._proven: set[int] = set()

    def look(self) -> View:
        """Everything there is. Raises EdgeError when a flavour that is here could not be read."""
        view = View()
        for flavour in FLAVOURS:
            for family in FAMILIES:
                try:
                    view.saved[flavour, family] = self.save(flavour, family)
                except Unavailable as error:
                    view.lacking[flavour, family] = str(error)
        return view

    def save(self, flavour: Flavour, family: int) -> Saved:
        """What `text` says of our chains."""
        return parse(self.text(flavour, family), family, self._prefix)

    def text(self, flavour: Flavour, family: int) -> str:
        """iptables-save's. Raises Unavailable where this node has no such flavour, EdgeError for any other failure."""
        if flavour == "nft" and family not in self._proven:
            reason = self._probe(family)
            if reason:
                raise Unavailable(reason)
            self._proven.add(family)
        try:
            return self._program(flavour, family, "save", (), None)
        except CommandFailed as error:
            if any(words in error.stderr for words in LACKING):
                raise Unavailable(str(error)) from error
            raise

    def restore(self, flavour: Flavour, family: int, text: str, wait: int) -> None:
        """One `iptables-restore --noflush`; wait: seconds for the xtables lock, then LockHeld."""
        with OWN_WRITES.writing():
            self._program(flavour, family, "restore", ("--noflush", "-w", str(wait)), text)

    def _program(self, flavour: Flavour, family: int, verb: str, options: Sequence[str], text: str | None) -> str:
        """iptables-nft-save and the like; where the system has only the plain names, those of its own flavour."""
        stem = "iptables" if family == 4 else "ip6tables"
        try:
            return self._run([f"{stem}-{flavour}-{verb}", *options], input=text)
        except Unavailable:
            if self.system_flavour() != flavour:
                raise
            return self._run([f"{stem}-{verb}", *options], input=text)

    def system_flavour(self) -> Flavour | Literal[""]:
        """What plain `iptables` is here; "" where there is none."""
        if self._system is None:
            try:
                self._system = "nft" if "nf_tables" in self._run(["iptables", "--version"]) else "legacy"
            except EdgeError:
                self._system = ""
        return self._system


def choose(
    view: View, families: Sequence[int], before: Flavour | None, system_flavour: Callable[[], str]
) -> Flavour | None:
    """The flavour with kubelet's hint chain; else the one in use (`before`); else the one that holds more of other
    people's rules; else the system's own; in any case one that this node has for one of the families. None: it has
    none.
    """
    candidates = [flavour for flavour in FLAVOURS if any((flavour, family) in view.saved for family in families)]
    hinted = [flavour for flavour in candidates if any(found.hint for found in view.of(flavour))]
    if len(hinted) == 1:
        return hinted[0]
    if before is not None or len(candidates) < 2:
        return before or next(iter(candidates), None)
    counts: Mapping[Flavour, int] = {flavour: view.foreign_rules(flavour) for flavour in candidates}
    most = [flavour for flavour in candidates if counts[flavour] == max(counts.values())]
    if len(most) == 1:
        return most[0]
    system = system_flavour()
    return next((flavour for flavour in most if flavour == system), most[0])
