"""Which CPUs the lab kernel needs help on."""

from __future__ import annotations

from tests.labkit import wide_registers


def test_only_a_cpu_with_amx_needs_it() -> None:
    assert wide_registers.needed("processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n")
    assert not wide_registers.needed("processor\t: 0\nflags\t\t: fpu avx512f\nbugs\t\t: amx_tile\n")
    assert not wide_registers.needed("processor\t: 0\n")
