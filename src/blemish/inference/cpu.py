"""What the processor can compute: the instructions that decide the speed and the rounding of networks."""

from __future__ import annotations

import platform
from functools import cache
from importlib import import_module
from pathlib import Path

# By the names of Linux: vector widths, then products of small integers and of bfloat16.
_WIDTHS = (("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon"))
_EXTRAS = (
    (("avx512_vnni", "avx_vnni", "asimddp"), "int8"),
    (("avx512_bf16", "amx_bf16", "bf16"), "bf16"),
    (("amx_int8", "amx_tile"), "amx"),
)
# The same in NumPy's names, for systems without /proc/cpuinfo.
_NUMPY_NAMES = {
    "AVX512F": "avx512f",
    "AVX2": "avx2",
    "ASIMD": "asimd",
    "ASIMDDP": "asimddp",
    "AVX512_ICL": "avx512_vnni",
    "AVX512_SPR": "avx512_bf16",
}


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the processor by Linux's names, such as `avx2`; empty if unknown."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    try:
        features = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):  # a private name, and the best that Windows and macOS offer
        return frozenset()
    return frozenset(flag for name, flag in _NUMPY_NAMES.items() if features.get(name))


def cpu_capability() -> str:
    """Return the widest vector instructions, and whether products of INT8 and bfloat16 have their own.

    Both change the rounding of a network, or its speed.

    Returns:
        Such as `avx512 int8 bf16`, `avx2` or `neon int8`; without known vectors, the machine's name.
    """
    flags = cpu_flags()
    width = next((name for flag, name in _WIDTHS if flag in flags), platform.machine().lower())
    return " ".join([width, *(name for known, name in _EXTRAS if flags.intersection(known))])


def computes_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 numbers itself."""
    return "bf16" in cpu_capability().split()
