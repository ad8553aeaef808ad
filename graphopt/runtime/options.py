"""How every session is opened; what a process that only tries a model can do without ``onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from graphopt.errors import UsageError
from graphopt.runtime.library import onnxruntime

__all__ = ["PROVIDER", "SILENT", "Level", "session_options"]

PROVIDER = "CPUExecutionProvider"
Level = Literal["all", "extended", "basic", "off"]
SILENT = 4
"""Only fatal messages are printed; everything else arrives as an exception."""

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}
_FOLDER_KEY = "session.model_external_initializers_file_folder_path"

onnxruntime.set_default_logger_severity(SILENT)


def session_options(
    threads: int,
    level: Level = "all",
    *,
    folder: Path | None = None,
    libraries: Sequence[Path] = (),
) -> Any:
    """Onnxruntime's options for a session.

    Args:
        threads: Threads that work on one operator, at least 1.
        level: How far onnxruntime optimizes the graph.
        folder: Where external data lies.
        libraries: Shared libraries of operators to register.

    Raises:
        UsageError: A library cannot be loaded, or registers nothing.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[level])
    # Threads that spin while they wait take the cores from other sessions and other programs: on a
    # busy machine they made a small model two to four times slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry(_FOLDER_KEY, str(folder.resolve()))
    for library in libraries:
        try:
            options.register_custom_ops_library(str(library))
        except Exception as err:  # onnxruntime's errors share no base class below Exception
            reason = " ".join(str(err).split()).rpartition(" : ")[2]
            raise UsageError(f"{library}: its operators cannot be registered: {reason}") from err
    return options
