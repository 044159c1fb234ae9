"""Hosts whose CPUs have more state than User-Mode Linux knows (Intel's AMX): what is loaded into it there.

wide_registers.c says what is wrong and what it does about it. Host side.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.labkit.ports import LabError

SOURCE: Final = Path(__file__).with_suffix(".c")
BUILT: Final = SOURCE.parent.parent.parent / "build" / "wide_registers.so"
CPU_INFO: Final = Path("/proc/cpuinfo")
FLAG: Final = "amx_tile"  # the only state so far behind what the lab kernel keeps


def needed(cpu_info: str | None = None) -> bool:
    """cpu_info: content of /proc/cpuinfo."""
    text = CPU_INFO.read_text() if cpu_info is None else cpu_info
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return FLAG in flags.split()


def environment() -> dict[str, str]:
    """What the lab kernel's process is started with. Raises LabError where the library cannot be built."""
    return {"LD_PRELOAD": str(_built())} if needed() else {}


def _built() -> Path:
    if BUILT.exists() and BUILT.stat().st_mtime >= SOURCE.stat().st_mtime:
        return BUILT
    BUILT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT.parent) as name:  # several labs may come to build it at once
        fresh = Path(name) / BUILT.name
        command = ["gcc", "-O2", "-shared", "-fPIC", "-nostdlib", "-o", str(fresh), str(SOURCE)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except OSError as error:
            raise LabError(f"this CPU has {FLAG}, which User-Mode Linux cannot run on without help: {error}") from error
        if done.returncode:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
        os.replace(fresh, BUILT)
    return BUILT
