"""The page of the documentation that tells which file goes to which runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphopt.targets import Target
from graphopt.targets.tables import TARGETS

__all__ = ["SEEN", "page"]

SEEN: Mapping[str, str] = {
    "x86-vnni": "run: onnxruntime 1.22 to 1.32, all tests",
    "x86-avx2": "run: onnxruntime 1.32; its saturating kernels emulated in the tests",
    "arm": "run: onnxruntime 1.32 for aarch64 under an emulator, the bits of x86; no phone timed",
    "arm-dotprod": "run: as `arm`, with udot and sdot",
    "generic": "run: ONNX's reference implementation, `tests/runtimes/test_reference.py`",
    "xnnpack": "rules replayed in the tests; no phone",
    "nnapi": "read from its sources",
    "qnn": "read from its sources and documents",
    "coreml": "read from its sources",
    "web": "run: onnxruntime-web 1.30 under Node, `tests/runtimes/test_web.py`",
    "openvino": "run: OpenVINO 2026.4, `tests/runtimes/test_openvino.py`",
    "tensorrt": "rules replayed in the tests; no GPU",
}
"""What an entry rests on, by target."""

_HEAD = """# Which file for which runtime

Made from the tables in `graphopt/targets/`; `pytest tests/report --update-golden` writes it anew.

`graphopt optimize MODEL --target NAME --calib DATA` makes a file for a target; where its sizes must be fixed,
`graphopt optimize MODEL -p 'fix-shapes{{batch=1}}' -o FIXED.onnx` comes first. `graphopt inspect MODEL --for
{names}` tells of a model how many layers each would
compute on integers, and why not the others.

| `--target` | where it runs | what the table rests on |
|---|---|---|
"""
_FORMS = """
## What each takes on integers

*Activations* and *weights* are the codes of layers with a weight, *scales* one for each output channel or one a tensor,
*zero* whether codes of activations must have zero point 0, *bias* the form that is written, *each call* whether layers
whose ranges come from each call (`int8-dynamic`) run on integers, *own* whether operators of the domain com.microsoft
may be in the file, *sizes* what must be fixed (`fix-shapes`), *external* whether weights may lie outside of the file.

| target | activations | weights | scales | zero | bias | each call | own | sizes | external |
|---|---|---|---|---|---|---|---|---|---|
"""
_OPERATORS = """
## Operators on integers

Operators of ONNX with an integer kernel; *(moves)* hands codes on. What a table lacks is computed in floats.

| operator | targets |
|---|---|
"""
_TAIL = """
## Forms that other programs read

| form | who reads it |
|---|---|
| static int8 in Q and DQ (`int8-static`) | all of the above but Core ML, in the types of the table; MNN 3.6, ncnn and converters to TFLite reject it or answer wrongly |
| weights alone (`int8-weights`), Cast and Mul | every runtime that was tried but onnx2tf: it is a float model once it is loaded, at float speed |
| int8 with ranges from each call (`int8-dynamic`) | onnxruntime everywhere; OpenVINO computes it in floats, 1.6 to 2.3 times as long |
| onnxruntime's mobile format (`-o model.ort`) | onnxruntime of the same or a newer version; weights that are only stored small are expanded at every run |
| sparse initializers (`storage=sparse`) | onnxruntime; OpenVINO, tract, MNN, pnnx, TVM and onnx2tf refuse the file or crash: `densify` |
| low rank, fewer channels, clean-up | every runtime that reads the input |

MNN, ncnn and TFLite have 8-bit forms of their own: hand them the cleaned float file and quantize there.
Measured on six models with onnxruntime 1.32, onnxruntime-web 1.30, OpenVINO 2026.4, tract 0.23, MNN 3.6, pnnx 2026-10,
TVM 0.27 and onnx2tf 1.29.
"""
_SIZES = {"any": "any", "but the batch": "all but the batch", "all": "all"}


def page() -> str:
    """The page as Markdown."""
    names = list(TARGETS)
    others = names[names.index("generic") + 1 :]
    parts = [_HEAD.format(names=",".join(others))]
    parts += [_row([f"`{name}`", each.description, SEEN[name]]) for name, each in TARGETS.items()]
    parts.append(_FORMS)
    parts += [_row([f"`{name}`", *_cells(each)]) for name, each in TARGETS.items()]
    parts.append(_OPERATORS)
    operators = dict.fromkeys(op for each in TARGETS.values() for op in each.rules)
    parts += [_row([f"`{op}`{_moves(op)}", _holders(op)]) for op in sorted(operators)]
    parts.append(_TAIL)
    return "".join(parts)


def _cells(target: Target) -> list[str]:
    weighted = [rule for rule in target.rules.values() if rule.role == "weighted"]
    if not weighted:
        return ["none", "none", "", "", "", *_rest(target)]
    single = sorted(op for op, rule in target.rules.items() if not rule.per_channel)
    scales = "a channel" if target.per_channel else "a tensor"
    if single and target.per_channel:
        scales += f"; {', '.join(single)}: a tensor"
    return [
        _codes(code for rule in weighted for code in rule.activation_types),
        _codes(code for rule in weighted for code in rule.weight_types),
        scales,
        "0" if target.symmetric else "any",
        {"int32+zero": "int32 with a zero point"}.get(target.bias, target.bias),
        *_rest(target),
    ]


def _rest(target: Target) -> list[str]:
    yes = {True: "yes", False: "no"}
    return [
        yes[target.calls],
        yes[target.contrib],
        _SIZES[target.sizes],
        yes[target.external],
    ]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _holders(operator: str) -> str:
    holders = [name for name, each in TARGETS.items() if operator in each.rules]
    return "all but Core ML" if len(holders) == len(TARGETS) - 1 else ", ".join(holders)


def _moves(operator: str) -> str:
    roles = {each.rules[operator].role for each in TARGETS.values() if operator in each.rules}
    return " (moves)" if roles == {"same"} else ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
