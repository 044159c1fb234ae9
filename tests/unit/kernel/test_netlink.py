"""The batch transport against a kernel made of a list: what is packed together, what is laid at whom, what is lost."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from kuberouter_py.kernel import netlink, netlink_socket
from kuberouter_py.kernel.generic_netlink import generic_family
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, Batch, NetlinkError
from kuberouter_py.ports import Busy, Unavailable

Reply = tuple[int, int, int, bytes]  # type, flags, sequence, payload


class FakeKernel:
    """A netlink socket. `refuse` gives the errno for a message's body; `queue` is how many answers it can hold."""

    def __init__(self) -> None:
        self.sends: list[list[bytes]] = []
        self.refuse: Callable[[bytes], int] = lambda body: 0
        self.queue = 1000
        self.dumps: list[list[Reply]] = []
        self._answers: list[bytes] = []
        self._overrun = False

    def getsockname(self) -> tuple[int, int]:
        return 4711, 0

    def close(self) -> None:
        self._answers.clear()

    def send(self, data: bytes) -> None:
        bodies, offset = [], 0
        while offset < len(data):
            length, _, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
            bodies.append(bytes(data[offset + 16 : offset + length]))
            self._handle(bodies[-1], flags, sequence)
            offset += length
        self.sends.append(bodies)

    def _handle(self, body: bytes, flags: int, sequence: int) -> None:
        if flags & netlink.NLM_F_DUMP == netlink.NLM_F_DUMP:
            for kind, more, shift, payload in self.dumps.pop(0):
                self._answer(kind, more, sequence + shift, payload)
            return
        number = self.refuse(body)
        if number or flags & netlink.NLM_F_ACK:
            self._answer(netlink.NLMSG_ERROR, 0, sequence, struct.pack("=i", -number) + body)

    def _answer(self, kind: int, flags: int, sequence: int, payload: bytes) -> None:
        if len(self._answers) >= self.queue:
            self._overrun = True
        else:
            self._answers.append(struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload)

    def recv_into(self, buffer: bytearray, size: int = 0, flags: int = 0) -> int:
        if self._overrun:
            self._overrun = False
            raise OSError(errno.ENOBUFS, "overrun")
        if not self._answers:
            raise BlockingIOError(errno.EAGAIN, "no answer within the time")
        answer = self._answers.pop(0)
        buffer[: len(answer)] = answer
        return len(answer)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    fake = FakeKernel()
    monkeypatch.setattr(netlink_socket, "_connect", lambda protocol, strict: fake)
    yield fake


def numbered(count: int, size: int = 4) -> list[bytes]:
    return [netlink.message(99, 0, struct.pack("=I", number) + bytes(size - 4)) for number in range(count)]


def number_of(body: bytes) -> int:
    return int(struct.unpack_from("=I", body)[0])


class TestSend:
    def test_hundreds_to_a_send_and_one_acknowledgement_each(self, kernel: FakeKernel) -> None:
        batch = Batch(0)
        assert batch.send(numbered(1000)) == {}
        assert [len(bodies) for bodies in kernel.sends] == [400, 400, 200]
        assert batch.sent == 1000
        assert batch.send([]) == {}

    def test_a_send_is_bounded_by_bytes(self, kernel: FakeKernel) -> None:
        assert Batch(0).send(numbered(10, 60_000)) == {}
        assert [len(bodies) for bodies in kernel.sends] == [2, 2, 2, 2, 2]

    @pytest.mark.parametrize("bad", [{0}, {999}, {399, 400, 401}, set(range(0, 1000, 7)), set(range(1000))])
    def test_each_failure_is_laid_at_its_message(self, kernel: FakeKernel, bad: set[int]) -> None:
        kernel.refuse = lambda body: 17 if number_of(body) in bad else 0
        details: dict[int, bytes] = {}
        batch = Batch(0)
        assert batch.send(numbered(1000), details) == dict.fromkeys(bad, 17)
        assert {index: number_of(repeated) for index, repeated in details.items()} == {one: one for one in bad}
        kernel.refuse = lambda body: 0
        assert batch.send(numbered(3)) == {}

    def test_lost_answers_are_asked_for_again(self, kernel: FakeKernel) -> None:
        kernel.queue = 40
        bad = set(range(0, 400, 2))
        kernel.refuse = lambda body: 2 if number_of(body) in bad else 0
        assert Batch(0).send(numbered(400)) == dict.fromkeys(bad, 2)

    def test_no_answer_at_all_fails_the_batch_and_only_it(self, kernel: FakeKernel) -> None:
        kernel.queue = 0
        batch = Batch(0)
        assert batch.send(numbered(2)) == {0: errno.ENOBUFS, 1: errno.ENOBUFS}
        kernel.queue = 1000
        assert batch.send(numbered(2)) == {}

    def test_without_the_protocol_every_message_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> socket.socket:
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

        monkeypatch.setattr(netlink_socket, "_connect", refuse)
        assert Batch(31).send(numbered(2)) == dict.fromkeys(range(2), errno.EPROTONOSUPPORT)
        with pytest.raises(Unavailable, match="netlink protocol 31"):
            Batch(31).dump(numbered(1)[0])


DONE: Reply = (netlink.NLMSG_DONE, 0, 0, bytes(4))


class TestDump:
    def test_is_whole_and_ignores_answers_to_others(self, kernel: FakeKernel) -> None:
        kernel.dumps = [[(16, 0, 0, b"one."), (16, 0, -1, b"old."), (16, 0, 0, b"two."), DONE]]
        assert [bytes(each) for each in Batch(0).dump(numbered(1)[0])] == [b"one.", b"two."]

    def test_interrupted_is_taken_again(self, kernel: FakeKernel) -> None:
        cut: list[Reply] = [(16, netlink.NLM_F_DUMP_INTR, 0, b"old."), DONE]
        kernel.dumps = [cut, cut, [(16, 0, 0, b"new."), DONE]]
        assert [bytes(each) for each in Batch(0).dump(numbered(1)[0])] == [b"new."]

    def test_interrupted_always_is_busy(self, kernel: FakeKernel) -> None:
        kernel.dumps = [[(netlink.NLMSG_DONE, netlink.NLM_F_DUMP_INTR, 0, bytes(4))]] * 8
        with pytest.raises(Busy, match="interrupted 8 times"):
            Batch(0).dump(numbered(1)[0])

    @pytest.mark.parametrize("kind", [netlink.NLMSG_DONE, netlink.NLMSG_ERROR])
    def test_refused(self, kernel: FakeKernel, kind: int) -> None:
        kernel.dumps = [[(kind, 0, 0, struct.pack("=i", -errno.ENOENT))]]
        with pytest.raises(NetlinkError) as caught:
            Batch(0).dump(numbered(1)[0])
        assert caught.value.errno == errno.ENOENT


def test_a_family_that_the_kernel_lacks_names_the_module(kernel: FakeKernel) -> None:
    kernel.refuse = lambda body: errno.ENOENT
    with pytest.raises(Unavailable, match="no IPVS: No such file or directory; on the host, try: modprobe ip_vs"):
        generic_family(Batch(NETLINK_GENERIC), "IPVS", "ip_vs")


def test_port_id(kernel: FakeKernel) -> None:
    assert Batch(0).port_id == 4711


def test_attributes_round_trip() -> None:
    data = netlink.u8(1, 2) + netlink.u32(2, 3) + netlink.text(3, "lo") + netlink.nested(4, netlink.be16(1, 80))
    found = netlink.attributes(memoryview(data))
    assert {kind: bytes(value) for kind, value in found.items()} == {
        1: b"\2", 2: struct.pack("=I", 3), 3: b"lo\0", 4: netlink.be16(1, 80),
    }  # fmt: skip
    assert netlink.string(found[3]) == "lo"
    assert netlink.attributes(memoryview(data[:7])).keys() == {1}
    with pytest.raises(ValueError, match="16-bit"):
        netlink.nested(1, bytes(1 << 16))
