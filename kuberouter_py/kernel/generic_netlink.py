"""Generic netlink: its header, and the number that a family of it (IPVS) has. The transport is netlink_socket.py's."""

from __future__ import annotations

import struct

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError, error_text
from kuberouter_py.ports import Unavailable

_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_GENERIC = struct.Struct("=BBH")  # command, version, reserved


def generic_header(command: int, version: int) -> bytes:
    """struct genlmsghdr."""
    return _GENERIC.pack(command, version, 0)


def generic_family(batch: Batch, name: str, module: str) -> int:
    """The message type of a generic netlink family. Asking makes the kernel load its module where it can.

    Raises Unavailable, naming the module, where there is none.
    """
    ask = netlink.message(
        _GENL_ID_CTRL, 0, generic_header(_CTRL_CMD_GETFAMILY, 1), netlink.text(_CTRL_ATTR_FAMILY_NAME, name)
    )
    try:
        answers = batch.request(ask)
    except NetlinkError as error:
        raise Unavailable(
            f"this kernel offers no {name}: {error_text(error.errno)}; on the host, try: modprobe {module}"
        ) from error
    found = netlink.attributes(answers[0], 4).get(_CTRL_ATTR_FAMILY_ID) if answers else None
    if found is None:
        raise Unavailable(f"this kernel's answer for {name} has no family number; on the host, try: modprobe {module}")
    return int(struct.unpack("=H", found)[0])
