"""The running agent beside another Service proxy: it waits for its end, takes over what it left, and looks out for its
return.

Two proxies write the same virtual servers and addresses, so nothing is written while one is alive. With --takeover the
dead one's chains, sets and link go as soon as all of ours is in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

import structlog

from kuberouter_py.agent.others import Found, Others
from kuberouter_py.config import Config
from kuberouter_py.controllers.services.controller import ServicesController
from kuberouter_py.controllers.takeover.differences import Compared
from kuberouter_py.controllers.takeover.served import mode
from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.model.others import Gone, Part, Sign
from kuberouter_py.model.report import Note
from kuberouter_py.ports import EdgeError

log = structlog.get_logger(__name__)

# Seconds between two looks at the processes, some milliseconds each: while it is waited for their end, and after that.
WAITING, LOOKING_OUT = 3.0, 15.0
ALIVE, DIFFERENCES = "OtherProxyAlive", "OtherProxyDiffers"


class Beside:
    """compare: what we would not serve of theirs. ours: what we serve, and what of it is not in place. kubelet: its
    version. tell: notes on the Node. gone: called when theirs has gone: addresses and routes may have changed.
    unenforced: why our firewall, where it runs, does not enforce all policies (yet); "" where it does.
    """

    def __init__(
        self,
        config: Config,
        node: str,
        others: Others,
        compare: Callable[[Found], Compared],
        ours: ServicesController,
        kubelet: Callable[[], str],
        tell: Callable[[Sequence[Note]], None],
        gone: Callable[[], None],
        unenforced: Callable[[], str],
    ) -> None:
        self._config = config
        self._node = ObjectKey("", node)
        self._others = others
        self._compare = compare
        self._ours = ours
        self._kubelet = kubelet
        self._tell = tell
        self._gone = gone
        self._unenforced = unenforced
        self._reasons: tuple[str, ...] = ()
        self._left = ""  # what of whom is still there, in a word
        self._compared = Compared((), ())
        self.waited = False
        self.translating = False  # its rules send new connections to endpoints, as long as they stand
        self._kept: tuple[str, ...] = ()
        self._synced = threading.Event()
        self._ended = threading.Event()

    # -- before the first sync ---------------------------------------------------------------------------------------

    def wait(self, ended: threading.Event, beat: Callable[[], None]) -> bool:
        """Until nothing stands in the way of writing; False when it is all over before."""
        said: tuple[str, ...] = ()
        while not ended.is_set():
            self._reasons = self._in_the_way()
            if not self._reasons:
                return True
            self.waited = True
            if self._reasons != said:
                said = self._reasons
                self._say(said)
            beat()
            ended.wait(WAITING)
        return False

    def _in_the_way(self) -> tuple[str, ...]:
        try:
            signs = self._others.glance()
            if not self._config.takeover:
                return tuple(f"{sign}; nothing is written beside it" for sign in _proxies(signs))
            if signs:
                return tuple(f"{sign}; it is taken over from when it has ended" for sign in signs)
            found = self._others.look()
        except EdgeError as error:
            return (f"whether another proxy is here cannot be seen: {error}",)
        if found.signs:
            return tuple(f"{sign}; it is taken over from when it has ended" for sign in found.signs)
        self._left = str(found)
        self.translating = mode(found.remains) in ("iptables", "nftables")
        if not found.owners:
            return ()
        if found.remains.unread:
            return tuple(f"what {self._left} left cannot be read: {reason}" for reason in found.remains.unread)
        return self._differing(found)

    def _differing(self, found: Found) -> tuple[str, ...]:
        compared = self._compare(found)
        if compared != self._compared:
            self._compared = compared
            if compared.stale:
                log.info("served by the other proxy for no Service", frontends=compared.stale)
            for difference in compared.differences:
                log.warning("served by the other proxy, not by us", what=str(difference))
        if self._config.accept_differences:
            return ()
        why = "served what we would not, --accept-differences goes on"
        return tuple(f"{found} {why}: {each}" for each in compared.differences)

    # -- after it ----------------------------------------------------------------------------------------------------

    def synced(self) -> None:
        """All of ours stands."""
        self._synced.set()

    def stop(self) -> None:
        self._ended.set()
        self._synced.set()

    def run(self) -> None:
        """A loop of its own, until `stop`."""
        self._synced.wait()
        if not self._config.takeover and not self._ended.is_set():
            self._look_for_remains()
        alive: Collection[Sign] = ()
        while not self._ended.is_set():
            if self._config.takeover and self._left and not alive:
                self._remove()
            self._ended.wait(LOOKING_OUT)
            if self._ended.is_set():
                return
            alive = self._look_out(alive)

    def _remove(self) -> None:
        """What would not go now is tried again at the next glance."""
        if missing := self._ours.missing():
            self._reasons = (f"{self._left}: not removed before all of ours is in place: {'; '.join(missing[:3])}",)
            return
        try:
            found = self._others.look()
            if found.signs:
                return
            if found.enforced and self._config.run_firewall and (reason := self._unenforced()):
                self._reasons = (f"{self._left}: not removed before its policies are enforced by us: {reason}",)
                return
            if differing := self._differing(found):
                self._reasons = differing
                return
            gone = self._others.remove(found, self._ours.frontends(), self._kubelet())
            left = str(self._others.look()) if gone.kept or gone.failed else ""
        except EdgeError as error:
            log.error("not taken over yet", reason=str(error))
            return
        log_gone(str(found), gone)
        self._reasons = tuple(f"{self._left}: not removed: {reason}" for reason in gone.failed)
        self._kept = tuple(gone.kept)
        self._left = left if gone.failed else ""
        self._gone()

    def _look_for_remains(self) -> None:
        try:
            self._left = str(self._others.look())
        except EdgeError as error:
            log.warning("what another proxy may have left cannot be seen", reason=str(error))

    def _look_out(self, before: Collection[Sign]) -> Collection[Sign]:
        """A kube-proxy that comes back (kubeadm upgrade installs it) writes what we write."""
        try:
            now = _proxies(self._others.glance())
        except EdgeError as error:
            log.warning("whether another proxy is here cannot be seen", reason=str(error))
            return before
        if {sign.owner for sign in now} != {sign.owner for sign in before}:
            self._reasons = tuple(f"{sign}; it writes what this agent writes: end one of the two" for sign in now)
            self._say(self._reasons)
            if not now:
                log.info("the other proxy has ended")
                self._look_for_remains()
        return now

    def _say(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            log.warning("another Service proxy", reason=reason)
        kind = DIFFERENCES if any("--accept-differences" in reason for reason in reasons) else ALIVE
        self._tell([Note("Node", self._node, kind, reason, event=True) for reason in reasons])

    # -- what may be asked, from any thread ---------------------------------------------------------------------------

    def problems(self) -> Sequence[str]:
        return self._reasons

    def facts(self) -> dict[str, str]:
        said = {}
        if self._left and not self._config.takeover:
            said["left by another proxy"] = f"{self._left}; `kuberouter-py takeover` removes it"
        if self._kept:
            said["chains of another proxy that stay"] = "; ".join(self._kept)
        if blind := self._others.blind():
            said["other proxies"] = blind
        return said


def _proxies(signs: Collection[Sign]) -> tuple[Sign, ...]:
    """A policy controller alone may live beside us."""
    return tuple(sign for sign in signs if sign.owner.part is Part.SERVICES)


def log_gone(whose: str, gone: Gone) -> None:
    for reason in gone.failed:
        log.error("not removed", of=whose, reason=reason)
    for chain in gone.kept:
        log.info("stays", of=whose, chain=chain)
    done = {kind.replace(" ", "_"): number for kind, number in gone.done.items()}
    log.info("taken over", of=whose, failures=len(gone.failed), **done)
