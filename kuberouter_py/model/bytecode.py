"""Classic BPF programs that our rules carry (xt_bpf(8)), for what iptables has no word.

"source = destination": loads one address, compares it with the other (offsets of RFC 791 and RFC 8200).
"""

from __future__ import annotations

from collections.abc import Mapping

SAME_ADDRESS: Mapping[int, str] = {
    4: "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 1,6 0 0 0",
    6: "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,"
    "32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 1,6 0 0 0",
}
