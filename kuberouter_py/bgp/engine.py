"""Owns what BIRD does: the table "bgp", whose one value is the Speaker that runs.

A new configuration is loaded from beside the last good one, which it replaces only when BIRD has agreed. What is loaded
BIRD itself tells (configuration.LOADED); which Speaker that is stands in a file for the next process. Announced
prefixes are not the engine's business but those of the hand-over table, which belongs to kernel/.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from kuberouter_py.bgp import answers, process
from kuberouter_py.bgp.configuration import LOADED, MAIN, fingerprint_of, render, restarts_gracefully
from kuberouter_py.bgp.control import PATIENCE, Control, Said, Silent, command
from kuberouter_py.bgp.files import Files, files, read_text, remove, write_private
from kuberouter_py.bgp.news import News
from kuberouter_py.bgp.process import Process, Run
from kuberouter_py.bgp.replies import Line
from kuberouter_py.model.bgp import PeerRoute, PeerState, SessionNews, Speaker
from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.names import RUN_DIR
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused, Unavailable

KEY: Final = "speaker"
# Something of ours is there, and not what it should be: equal to nothing that is wanted.
BROKEN: Final = Speaker(0, bytes(4), (), {})

_IGNORED = 6  # BIRD's code for "Reconfiguration ignored, shutting down"


class Engine:
    """Table[str, Speaker]: "speaker" -> the one that BIRD runs with. Every method from any thread.

    beside: BIRD runs beside us, whoever starts it; it is only told what to do.
    """

    name = "bgp"

    def __init__(self, run: Run, bird_socket: str = "", run_dir: str = RUN_DIR) -> None:
        """run: see process.Run. bird_socket: --bird-socket."""
        self.files: Files = files(bird_socket, run_dir)
        self._beside = bool(bird_socket)
        self._process = Process(self.files, run)
        self._lock = threading.RLock()

    def read(self) -> Actual[str, Speaker]:
        """BROKEN: BIRD runs with something else than our file says, has given sessions up (answers.given_up), or does
        not run while there is a file of ours.
        """
        with self._lock:
            loaded = self._loaded()
            text = read_text(self.files.configuration)
            if loaded is None:
                return Actual({KEY: BROKEN} if text else {})
            speaker = self._remembered()
            right = speaker is not None and loaded == fingerprint_of(text) and text == self._text(speaker)
            return Actual({KEY: speaker if right and speaker is not None and not self._given_up() else BROKEN})

    def apply(self, plan: Plan[str, Speaker]) -> dict[str, Refused]:
        wanted = plan.change[KEY][1] if KEY in plan.change else plan.add.get(KEY)
        if wanted is None and KEY not in plan.remove:
            return {}
        with self._lock:
            try:
                reason = self._end() if wanted is None else self._bring(wanted)
            except (EdgeError, ValueError) as error:
                reason = str(error)
        return {KEY: Refused(_without_passwords(reason, wanted))} if reason else {}

    def revive(self) -> str:
        """Starts our own BIRD again after it died. Why not; "" when one runs, or none is wanted."""
        with self._lock:
            try:
                text = read_text(self.files.configuration)
                if text and not self._beside and self._loaded() is None:
                    self._start(text)
            except EdgeError as error:
                return _without_passwords(str(error), self._remembered())
        return ""

    def news(self, on_session: Callable[[SessionNews], None], on_process: Callable[[bool], None]) -> News:
        """Who listens to BIRD, see News; our own is started again before it is told that it ended."""

        def tell(runs: bool) -> None:
            if not runs:
                self.revive()
            on_process(runs)

        return News(self.files, on_session, tell)

    def peers(self, within: float = PATIENCE) -> Sequence[PeerState]:
        """Every session that BIRD knows of. within: seconds. Raises EdgeError."""
        with Control(str(self.files.socket), within, in_all=True) as control:
            status, protocols = control.ask("show status"), control.ask("show protocols all")
            bfd = _if_there(control, "show bfd sessions")
        return answers.peers(status, protocols, bfd, time.time())

    def routes(self, address: bytes, within: float = PATIENCE) -> tuple[Sequence[PeerRoute], Sequence[PeerRoute]]:
        """What this peer gave us, and what it got from us. within: seconds. Raises EdgeError, also where there is no
        such peer.
        """
        with Control(str(self.files.socket), within, in_all=True) as control:
            found = [each for each in answers.sessions(control.ask("show protocols all")) if each.address == address]
            if not found:
                raise EdgeError(f"BIRD has no session with {address_text(address)}")
            [session] = found
            kept = _if_there(control, f"show route table all protocol {session.name} all")
            filtered = _if_there(control, f"show route filtered table all protocol {session.name} all")
            written = [line for family in (4, 6) for line in _if_there(control, f"show route export {MAIN}{family}")]
            out = _if_there(control, f"show route export {session.name} all")
        return tuple(answers.routes_in(kept, filtered, written)), tuple(answers.routes_out(out, session))

    def _loaded(self) -> str | None:
        """Fingerprint of the text that BIRD runs with, "" for a text that is not ours; None: none answers."""
        try:
            return answers.constant(command(str(self.files.socket), f"eval {LOADED}"))
        except Silent:
            return None
        except Said:
            return ""

    def _remembered(self) -> Speaker | None:
        try:
            return msgspec.json.decode(read_text(self.files.speaker), type=Speaker)
        except (msgspec.DecodeError, EdgeError):
            return None

    def _text(self, speaker: Speaker) -> str:
        try:
            return render(speaker, str(self.files.log), console=self._beside)
        except ValueError:
            return ""

    def _bring(self, wanted: Speaker) -> str:
        """Why not; "" when it is done. Raises EdgeError, and ValueError for a Speaker that cannot be written down."""
        text = render(wanted, str(self.files.log), console=self._beside)
        loaded = self._loaded()
        if loaded == fingerprint_of(text) and text == read_text(self.files.configuration) and not self._given_up():
            self._remember(wanted)
            return ""
        write_private(self.files.candidate, text)
        try:
            reason = self._check() if loaded is None else self._configure()
            if reason:
                return reason
            self._remember(wanted)
            self.files.candidate.replace(self.files.configuration)
        except OSError as error:
            return f"{self.files.configuration}: {error.strerror}"
        finally:
            remove(self.files.candidate)
        if loaded is None:
            return self._start(text) or self._given_up()
        process.mark(self.files)
        return self._given_up()

    def _given_up(self) -> str:
        """Why sessions will not come up; "" where all may. Raises EdgeError."""
        peers = [*answers.given_up(command(str(self.files.socket), "show protocols"))]
        if not peers:
            return ""
        who = f"{address_text(peers[0])}{f' and {len(peers) - 1} more' if peers[1:] else ''}"
        return f"BIRD cannot listen for the session with {who}: {self.files.log} says why"

    def _remember(self, speaker: Speaker) -> None:
        write_private(self.files.speaker, msgspec.json.encode(speaker).decode())

    def _check(self) -> str:
        try:
            self._process.check(self.files.candidate)
        except EdgeError as error:
            # A BIRD beside us may be in an image that we do not see: it checks at its own start.
            return "" if self._beside and isinstance(error, Unavailable) else self._words(str(error))
        return ""

    def _configure(self) -> str:
        """Loads the candidate into the BIRD that runs; sessions that are as before stay up."""
        try:
            last = command(str(self.files.socket), f'configure "{self.files.candidate}"')[-1]
        except Said as error:
            return self._words(error.line.text)
        return f"BIRD: {last.text}" if last.code == _IGNORED else ""

    def _start(self, text: str) -> str:
        if self._beside:
            return f"nobody answers on {self.files.socket}: BIRD, which shall run beside this agent, does not yet"
        self._process.start(restarts_gracefully(text))
        return ""

    def _end(self) -> str:
        """Takes everything of BIRD's away. It flushes its routes only where it does not keep them for a restart, so it
        is told first that there are no peers and no restart.
        """
        last = render(BROKEN._replace(asn=1, router_id=bytes([0, 0, 0, 1]), families=(4, 6)), str(self.files.log))
        if self._loaded() is None and self.files.ran.exists() and not self._beside:
            write_private(self.files.configuration, last)  # one that died may have left routes
            self._process.start(graceful_restart=False)
        elif self._loaded() is not None:
            write_private(self.files.candidate, last)
            if reason := self._configure():
                return reason
        remove(self.files.configuration)  # whoever keeps a BIRD beside us does not start it again
        process.end(self.files)
        remove(*self.files.all())
        return ""

    def _words(self, text: str) -> str:
        """BIRD's reason; where it speaks of the candidate, it means what was wanted."""
        return f"BIRD: {text.replace(str(self.files.candidate), self.files.configuration.name)}"


def _if_there(control: Control, asked: str) -> Sequence[Line]:
    """Of a protocol that the configuration has not always; a session that is not up has no routes to be asked for."""
    try:
        return control.ask(asked)
    except Said:
        return []


def _without_passwords(text: str, speaker: Speaker | None) -> str:
    for peer in speaker.peers if speaker else ():
        if peer.password and peer.password.text:
            text = text.replace(peer.password.text, "…")
    return text
