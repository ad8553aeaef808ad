"""The one place where a model meets onnxruntime: sessions that are quiet and fail in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.errors import ModelError, NotRun
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.rewrite.half_weights import HALVES
from graphopt.runtime.cores import core_count
from graphopt.runtime.heap import give_back
from graphopt.runtime.lending import lend, lent_weights
from graphopt.runtime.library import onnxruntime
from graphopt.runtime.options import PROVIDER, SILENT, Level, session_options
from graphopt.runtime.refusal import load_error, one_line
from graphopt.runtime.stand_in import stand_in

__all__ = ["Session", "serialized", "thread_count"]

_UNREADABLE = tuple(
    f"tensor({kind})"
    for kind in ("bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz")
)
"""Types of onnxruntime's that numpy lacks."""
_LARGE_BYTES = 64 << 20
"""From here on the memory of a session's weights is given back at once, which takes some 40 ms."""


def thread_count(threads: int) -> int:
    """Threads that a session of ``threads`` uses: 0 stands for every core it may have."""
    return threads if threads > 0 else core_count()


class Session:
    """A model loaded in onnxruntime on the CPU, ready to run.

    Args:
        graph: The model; not modified, and not needed any more once the session exists.
        threads: Threads that work on one operator; 0 for all cores.
        outputs: Tensors of the main graph to hand back instead of the model's outputs; inputs and
            constants may be among them.
        probes: Nodes to add behind those of the main graph, such as reductions of its tensors;
            their outputs may be asked for too.
        level: How far onnxruntime optimizes the graph.
        config: Session configuration entries, such as ``session.x64quantprecision``.
        profile: Prefix of the file that ``end_profiling`` writes; None for no profile.
        optimized: Where the graph as onnxruntime runs it is saved; None for nowhere.
        as_is: Raise, where else the model is computed in float32 if nothing but floats of other
            widths keep it from being loaded; ``stands_in_for`` then has the error.

    Attributes:
        inputs: Types of the inputs by name.
        outputs: The tensors that are handed back.
        stands_in_for: Why the model is computed in float32; empty where it is computed as it is.
        widened: Whether some of these tensors come as float32 since numpy lacks their type.

    Raises:
        ModelError: onnxruntime cannot load the model; the message names the cause.
        UsageError: A library of the model's operators cannot be registered.
        NoKernel: The model is sound and onnxruntime lacks an operator, a type or a version.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int = 0,
        outputs: Sequence[str] | None = None,
        probes: Sequence[NodeProto] = (),
        level: Level = "all",
        config: Mapping[str, str] | None = None,
        profile: Path | None = None,
        optimized: Path | None = None,
        as_is: bool = False,
    ) -> None:
        self.inputs = {value.name: value.type for value in graph.main.proto.input}
        self.outputs = list(graph.main.outputs if outputs is None else outputs)
        self.stands_in_for = ""
        self.widened = False
        self._large = graph.weight_bytes >= _LARGE_BYTES

        def options() -> Any:
            made = session_options(
                thread_count(threads), level, folder=graph.folder, libraries=graph.libraries
            )
            for key, value in (config or {}).items():
                made.add_session_config_entry(key, value)
            if profile is not None:
                made.enable_profiling, made.profile_file_prefix = True, str(profile)
            if optimized is not None:
                made.optimized_model_filepath = str(optimized)
            return made

        try:
            self._load(graph, options(), probes)
        except ModelError as err:
            other = None if as_is else stand_in(graph)
            if other is None:
                raise
            try:
                self._load(other, options(), probes)
            except ModelError:
                raise err from None
            self.stands_in_for = str(err)
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = SILENT

    def __del__(self) -> None:
        """Give the memory of a large model back, which the allocator would keep.

        Of a session of 540 MB of weights glibc 2.36 kept 440 MB for itself.
        """
        if self.__dict__.pop("_large", False):
            self.__dict__.pop("_session", None)
            self.__dict__.pop("_lent", None)
            give_back()

    def _load(self, graph: Graph, options: Any, probes: Sequence[NodeProto]) -> None:
        """Let onnxruntime load the model.

        Raises:
            ModelError: See ``Session``.
        """
        self._constants: dict[str, Array] = {}
        model = graph.references()
        model.graph.node.extend(probes)
        self._computed = self._request(graph, model, probes)
        self._lent = lend(lent_weights(graph, model), options)
        self._start(graph, model, options)
        unreadable = {name for name, kind in self.types().items() if kind in _UNREADABLE}
        self._fetched = [
            _readable(graph, model, name) if name in unreadable else name for name in self._computed
        ]
        self.widened = bool(unreadable)
        if unreadable:
            self._start(graph, model, options)
        del model

    def _start(self, graph: Graph, model: ModelProto, options: Any) -> None:
        payload = serialized(model)
        try:
            self._session = onnxruntime.InferenceSession(payload, options, providers=[PROVIDER])
        except Exception as err:  # onnxruntime's errors share no base class below Exception
            raise load_error(graph, type(err).__name__, str(err)) from err
        # The bytes are kept to start again on another provider, which there is none of.
        self._session.disable_fallback()
        self._session._model_bytes = None

    def _request(self, graph: Graph, model: ModelProto, probes: Sequence[NodeProto]) -> list[str]:
        """Make the asked tensors outputs of ``model``; gives those that the session computes.

        Inputs and constants are answered without the session: as outputs they would keep
        onnxruntime from folding and prepacking them.
        """
        listed = set(graph.main.outputs)
        probed = {name for node in probes for name in node.output}
        computed: list[str] = []
        for name in dict.fromkeys(self.outputs):
            if name in listed or name in probed or graph.main.producer(name) is not None:
                computed.append(name)
                if name not in listed:
                    model.graph.output.add(name=name)
            elif graph.main.holds(name) and (held := graph.main.constant(name)) is not None:
                self._constants[name] = held.values
            elif name not in self.inputs:
                raise ModelError(f"the model's main graph has no tensor {name!r}")
        return computed

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """The asked tensors for one feed, by name.

        Args:
            feeds: One array for each required input; what is none of the inputs is left out.

        Returns:
            An array for a tensor, a list for a sequence, None for an optional without value.
            Outputs of bfloat16 and 8-bit floats come as float32.

        Raises:
            NotRun: The feed does not fit the inputs, or a node fails; the message names it.
        """
        prepared = {n: self._feed(n, value) for n, value in feeds.items() if n in self.inputs}
        try:
            values = (
                self._session.run(self._fetched, prepared, self._run_options)
                if self._computed
                else []
            )
        except Exception as err:  # onnxruntime's errors share no base class below Exception
            raise NotRun(f"onnxruntime cannot run the model: {one_line(str(err))}") from err
        found = dict(zip(self._computed, values, strict=True))
        return {name: self._answer(name, found, feeds) for name in self.outputs}

    def _feed(self, name: str, value: Any) -> Any:
        """The value as onnxruntime takes it: types that numpy lacks go by their ONNX number.

        Samples of float32 become what an input that was converted to 16 bits takes.
        """
        if isinstance(value, np.generic):
            value = np.asarray(value)
        kind = self.inputs[name].tensor_type.elem_type
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and kind in HALVES:
            value = value.astype(tensor_dtype_to_np_dtype(kind))
        if kind and isinstance(value, np.ndarray) and value.dtype.kind == "V":
            return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(value, kind)
        return value

    def _answer(self, name: str, found: Mapping[str, Any], feeds: Mapping[str, Array]) -> Any:
        if name in found:
            return found[name]
        return feeds[name] if name in feeds else self._constants[name]

    def types(self) -> dict[str, str]:
        """Type of each asked tensor that the session computes, such as ``tensor(float)``."""
        types = {value.name: str(value.type) for value in self._session.get_outputs()}
        return {name: types[name] for name in self._computed}

    def end_profiling(self) -> Path:
        """Stop profiling; gives the file that was written."""
        return Path(self._session.end_profiling())


def _readable(graph: Graph, model: ModelProto, name: str) -> str:
    """The output to fetch for ``name``, of a type that numpy lacks: a cast of it to float."""
    fetched = graph.unique_name(f"{name}_float")
    model.graph.node.add(op_type="Cast", input=[name], output=[fetched]).attribute.add(
        name="to", type=AttributeProto.INT, i=TensorProto.FLOAT
    )
    model.graph.output.add(name=fetched)
    return fetched


def serialized(model: ModelProto) -> bytes:
    """The message as bytes.

    Raises:
        ModelError: It is larger than a message can be.
    """
    try:
        return bytes(model.SerializeToString())
    except Exception as err:  # protobuf has its own error class for each implementation
        raise ModelError(
            f"the model is too large for one message even without its weights: {one_line(str(err))}"
        ) from err
