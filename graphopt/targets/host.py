"""Which target this very machine is: its CPU flags, confirmed by what onnxruntime computes."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import numpy as np
import onnx.parser

from graphopt.graph.graph import Graph
from graphopt.runtime.session import Session

__all__ = ["cpu_flags", "cpu_name", "host_name", "saturates"]

_ARM = ("aarch64", "arm64")
_X86 = ("x86_64", "amd64")
_CPUINFO = Path("/proc/cpuinfo")


def _cpuinfo(*keys: str) -> str:
    """First value of one of the keys in the kernel's list of CPUs; empty where there is none."""
    if not _CPUINFO.exists():
        return ""
    for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def cpu_name() -> str:
    """Model name of the CPU, or the architecture where the system does not tell."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction-set flags as Linux lists them; empty on other systems."""
    return frozenset(_cpuinfo("flags", "Features").split())


@cache
def saturates() -> bool:
    """Whether onnxruntime's uint8 x int8 product saturates here, found by computing one.

    255 * 127 + 255 * 127 does not fit in 16 bits; a kernel on VPMADDUBSW gives 32767 instead.
    """
    text = """<ir_version: 8, opset_import: ["" : 13]>
        probe (uint8[1, 64] a) => (int32[1, 16] y) <int8[64, 16] b> { y = MatMulInteger(a, b) }"""
    model = onnx.parser.parse_model(text)
    weight = np.zeros((64, 16), np.int8)
    weight[:2] = 127
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "b"))
    answer = Session(Graph(model)).run({"a": np.full((1, 64), 255, np.uint8)})["y"]
    return bool((answer != 2 * 255 * 127).any())


@cache
def host_name() -> str:
    """Name of this machine's target.

    The flags say what the machine could do; the product says what the runtime does with it.
    """
    machine = platform.machine().lower()
    if machine in _ARM:
        return "arm-dotprod" if "asimddp" in cpu_flags() else "arm"
    if machine in _X86:
        return "x86-avx2" if saturates() else "x86-vnni"
    return "generic"
