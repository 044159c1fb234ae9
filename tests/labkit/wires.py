"""The addresses and names by which host, lab kernel and the worlds in it reach each other. IPv4 is enough here.

host (own network namespace) --tap-- first namespace of the lab kernel --veth-- router of the fabric -- nodes
"""

from __future__ import annotations

from typing import Final

TAP: Final = "lab0"  # the tap's name on the host
GUEST_LINK: Final = "vec0"  # what User-Mode Linux calls its side of it
HOST_ADDRESS: Final = "172.31.255.1"  # the control plane listens here
GUEST_ADDRESS: Final = "172.31.255.2"
WIRE_PREFIX: Final = 30
WIRE: Final = f"172.31.255.0/{WIRE_PREFIX}"

UPLINK: Final = "lab-up"  # veth in the guest's first namespace, towards the router of the world being played
UPLINK_ADDRESS: Final = "172.31.254.1"
ROUTER_ADDRESS: Final = "172.31.254.2"

# Ports on HOST_ADDRESS. Agents come through a door that a scenario can shut; the lab's own requests do not.
API_PORT: Final = 6443  # the door
DIRECT_PORT: Final = 6444
CONTROL_PORT: Final = 6440  # commands to the control plane: control.py
