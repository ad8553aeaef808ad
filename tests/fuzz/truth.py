"""What onnxruntime says of a model: the measure of what graphopt says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["MIN_SQNR_DB", "measured", "tried"]

MIN_SQNR_DB = 90.0  # what lossless passes promise
_HALF_LOSES_DB = 30.0  # what rounding to float16 takes of that


def tried(folder: str, model: str, feeds: str | None, out: str | None) -> dict[str, Any]:
    """Whether a model loads, runs on its feeds, and answers as what was made of it does.

    Returns:
        ``loads``, ``runs``, ``out_loads``, ``out_runs``, and with both the least ``sqnr_db`` of an
        output; ``why`` something failed; ``valid`` of a model that runs, by the checker of onnx.
    """
    os.chdir(folder)
    answer: dict[str, Any] = {}
    given: dict[str, Any] = {}
    if feeds is not None:
        with np.load(feeds) as arrays:
            given = dict(arrays)
    before = _outputs(model, given, answer, "")
    if answer["runs"]:
        answer["valid"] = _valid(model)
    if out is not None and Path(out).exists():
        after = _outputs(out, given, answer, "out_")
        if before is not None and after is not None:
            answer["sqnr_db"] = _least_sqnr(before, after)
    return answer


def measured(folder: str, model: str, out: str, feeds: str) -> dict[str, float]:
    """SQNR in dB of each output of ``out`` against ``model``, pooled over rows for the input ``x``."""
    os.chdir(folder)
    rows = np.load(feeds)
    sums: dict[str, list[float]] = {}
    sessions = [_session(path) for path in (model, out)]
    port = sessions[0].get_inputs()[0]
    batch = port.shape[0] if isinstance(port.shape[0], int) else len(rows)
    for start in range(0, len(rows), batch):
        given = {port.name: rows[start : start + batch]}
        answers = [session.run(None, given) for session in sessions]
        for output, one, other in zip(sessions[0].get_outputs(), *answers, strict=True):
            a, b = one.astype(np.float64), other.astype(np.float64)
            entry = sums.setdefault(output.name, [0.0, 0.0])
            entry[0] += float(np.sum(a * a))
            entry[1] += float(np.sum((a - b) ** 2))
    with np.errstate(divide="ignore"):
        return {
            name: float(10 * np.log10(np.divide(pair[0], pair[1]))) for name, pair in sums.items()
        }


def _session(path: str) -> Any:
    import onnxruntime  # noqa: PLC0415 - a worker that makes cases does without

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])


def _valid(model: str) -> bool:
    import onnx  # noqa: PLC0415 - the same

    try:
        onnx.checker.check_model(model)
    except Exception:
        return False
    return True


def _outputs(
    model: str, feeds: dict[str, Any], answer: dict[str, Any], prefix: str
) -> dict[str, Any] | None:
    answer[f"{prefix}loads"] = answer[f"{prefix}runs"] = False
    try:
        session = _session(model)
        answer[f"{prefix}loads"] = True
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, feeds), strict=True))
        answer[f"{prefix}runs"] = True
    except Exception as err:
        answer[f"{prefix}why"] = f"{type(err).__name__}: {str(err)[:300]}"
        return None
    return outputs


def _least_sqnr(before: dict[str, Any], after: dict[str, Any]) -> float:
    """dB; an output that is missing, or of another shape or type, counts as minus infinity."""
    least = float("inf")
    for name, one in before.items():
        other = after.get(name)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            if one.shape != other.shape or one.dtype != other.dtype:
                return float("-inf")
            if one.dtype.kind != "f":
                least = min(least, float("inf") if (one == other).all() else float("-inf"))
                continue
            a, b = one.astype(np.float64), other.astype(np.float64)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            if same.all():
                continue
            with np.errstate(all="ignore"):
                ratio = np.sum(a * a) / np.sum((a - b) ** 2)
                half = _HALF_LOSES_DB if one.dtype.itemsize == 2 else 0.0
                least = min(least, float(10 * np.log10(ratio)) + half)
        elif name not in after:
            return float("-inf")
    return least
