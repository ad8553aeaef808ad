"""What was measured of a model's layers, kept in a file so that a run goes on from it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphopt import __version__, outside
from graphopt.atomic import whole
from graphopt.errors import DataError, SystemFailure
from graphopt.graph.graph import Graph
from graphopt.run.layer_forms import Measured
from graphopt.run.means import Means

__all__ = ["fingerprint", "keeper", "read_measured"]

_SCHEMA = "graphopt-measured/1"


def fingerprint(graph: Graph, means: Means) -> dict[str, str]:
    """What the measured noise depends on, in a few words each: model, samples, target, version.

    Args:
        graph: The model as it came.
        means: With a judge, who holds the samples.
    """
    model, samples = hashlib.sha256(), hashlib.sha256()
    for node in graph.main.nodes:
        model.update(node.SerializeToString(deterministic=True))
    for name, tensor in sorted(graph.main.initializers.items()):
        model.update(name.encode())
        for chunk in graph.chunks(tensor):
            model.update(chunk)
    assert means.judge is not None
    for sample in means.judge.samples:
        for name, value in sorted(sample.feeds.items()):
            samples.update(name.encode() + str(value.shape).encode() + value.tobytes())
    observed = 0 if means.calibration is None else means.calibration.count
    return {
        "model": model.hexdigest()[:16],
        "samples": f"{samples.hexdigest()[:16]}, {observed} to calibrate on",
        "target": means.target.name,
        "seed": str(means.seed),
        "graphopt": __version__,
    }


def read_measured(path: Path, print_of: dict[str, str]) -> Measured:
    """What a file holds of an earlier run; nothing where there is no file yet.

    Args:
        path: The file.
        print_of: See ``fingerprint``.

    Raises:
        DataError: It is no such file, or one of another model, other samples or another target.
    """
    try:
        outside.regular(path)
        document: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else "it is no JSON, or cut off"
        raise DataError(f"{path}: not read: {why}; give another name, or remove it") from err
    kept = document.get("measured") if isinstance(document, dict) else None
    if not isinstance(kept, dict) or document.get("schema") != _SCHEMA:
        raise DataError(f"{path}: no file of what was measured; give another name")
    for what, value in print_of.items():
        if document.get(what) != value:
            raise DataError(
                f"{path}: holds what was measured with another {what} "
                f"({document.get(what)}, here {value}); give another name, or remove it"
            )
    if not all(isinstance(v, float) and math.isfinite(v) and v >= 0 for v in kept.values()):
        raise DataError(f"{path}: holds noise that is no number; remove it")
    return dict(kept)


def keeper(path: Path, print_of: dict[str, str]) -> Callable[[Measured], None]:
    """A function that writes what was measured, whole or not at all.

    Args:
        path: The file.
        print_of: See ``fingerprint``.
    """

    def keep(measured: Measured) -> None:
        text = json.dumps({"schema": _SCHEMA, **print_of, "measured": measured}, indent=1)
        try:
            with whole(path) as file:
                file.write(text.encode())
        except OSError as err:
            raise SystemFailure(f"cannot write {path}: {err.strerror}") from err

    return keep
