"""The graph as a module: parameters by their ONNX names, a forward pass that runs the steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from graphopt.bridge.frozen import FrozenPart
from graphopt.bridge.ops.table import TrainingSettings
from graphopt.bridge.plan import Plan
from graphopt.bridge.program import Known, Values, needed, run, with_frees
from graphopt.errors import DataError, UsageError

__all__ = ["GraphModule"]

_SHAPES_KEPT = 16
"""Input shapes for which what follows from them is kept."""


class GraphModule(nn.Module):
    """A model as a torch module; made by ``to_torch``.

    ``train()`` and ``eval()`` decide, with what the caller chose, how BatchNormalization and
    Dropout act. Weights are parameters, running statistics buffers; their attributes are numbered,
    as ONNX names may hold dots, and ``weights``, ``statistics`` give them by ONNX name.

    Attributes:
        input_names: Names of the required inputs, in order.
        output_names: Names of the outputs, in order.
    """

    def __init__(
        self,
        plan: Plan,
        settings: TrainingSettings,
        outputs: Sequence[str],
        frozen: FrozenPart | None = None,
    ) -> None:
        super().__init__()
        self.input_names = list(plan.inputs)
        self.output_names = list(outputs)
        self._plan = replace(plan, weights={}, statistics={}, modules=[])
        self._settings = settings
        self._frozen = frozen
        self._weights = list(plan.weights)
        self._statistics = list(plan.statistics)
        self._attributes: dict[str, str] = {}
        self._filled: list[tuple[int, str]] = []
        for name, (slot, values) in plan.weights.items():
            attribute = f"weight_{len(self._attributes)}"
            self.register_parameter(attribute, nn.Parameter(values))
            self._enter(name, attribute, slot)
        for name, (slot, values) in plan.statistics.items():
            attribute = f"statistic_{len(self._attributes)}"
            self.register_buffer(attribute, values)
            self._enter(name, attribute, slot)
        for slot, moved in plan.moved.items():
            if slot in plan.constants:
                self.register_buffer(f"constant_{slot}", plan.constants[slot], persistent=False)
                self._filled.append((moved, f"constant_{slot}"))
        self.substitutes = nn.ModuleList(plan.modules)
        self._programs: dict[tuple[str, ...], _Program] = {}
        self.train(settings.training)

    def _enter(self, name: str, attribute: str, slot: int) -> None:
        self._attributes[name] = attribute
        self._filled.append((slot, attribute))

    def weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable tensors by ONNX name, in the order of the graph."""
        for name in self._weights:
            yield name, self.get_parameter(self._attributes[name])

    def statistics(self) -> Iterator[tuple[str, Tensor]]:
        """The running means and variances by ONNX name."""
        for name in self._statistics:
            yield name, self.get_buffer(self._attributes[name])

    def freeze_statistics(self) -> bool:
        """Let BatchNormalization take the stored statistics; tells if it would have moved them."""
        moved = self._settings.batch_norm == "batch" and bool(self._statistics)
        self._settings.batch_norm = "frozen"
        return moved

    def attribute(self, name: str) -> str:
        """The attribute that holds the weight or statistic of an ONNX name.

        Raises:
            UsageError: There is no such weight or statistic.
        """
        if name not in self._attributes:
            raise UsageError(f"the model has no trainable tensor {name!r}")
        return self._attributes[name]

    def train(self, mode: bool = True) -> GraphModule:
        """Set training or evaluation mode, for BatchNormalization and Dropout too."""
        self._settings.training = mode
        super().train(mode)
        return self

    def forward(self, feeds: Mapping[str, Tensor], taps: Sequence[str] = ()) -> dict[str, Tensor]:
        """The outputs for one feed.

        Args:
            feeds: A tensor for each required input, all on the module's device.
            taps: Further tensors of the main graph to hand back.

        Returns:
            Outputs and taps by name.

        Raises:
            DataError: An input is missing.
            UsageError: A tap is no tensor of the main graph.
            ModelError: A node refuses its inputs; the message names it.
        """
        program = self._program(tuple(taps))
        values: Values = [None] * self._plan.slots
        for slot, constant in self._plan.constants.items():
            values[slot] = constant
        for slot, attribute in self._filled:
            values[slot] = getattr(self, attribute)
        for name, slot in self._plan.inputs.items():
            if name not in feeds:
                raise DataError(f"input {name!r} is missing; the model needs {self.input_names}")
            values[slot] = feeds[name]
        device = self._device(values)
        if self._frozen is not None:
            for name, tensor in self._frozen(feeds, device).items():
                values[self._plan.frozen[name]] = tensor
        program.run(values, device)
        return {name: values[slot].to(device) for name, slot in program.results.items()}

    def _device(self, values: Values) -> torch.device:
        """Where the data lies; for a model without inputs, where its weights do."""
        held = (values[slot] for slot in self._plan.inputs.values())
        first = next(held, next(self.parameters(), None))
        return torch.device("cpu") if first is None else torch.device(first.device)

    def _program(self, taps: tuple[str, ...]) -> _Program:
        if taps not in self._programs:
            for name in taps:
                if name not in self._plan.tensors:
                    raise UsageError(f"the main graph has no tensor {name!r} to tap")
            self._programs[taps] = _Program(self._plan, [*self.output_names, *taps])
        return self._programs[taps]


class _Program:
    """The steps for certain results, and what they made of the input shapes seen so far."""

    def __init__(self, plan: Plan, names: Sequence[str]) -> None:
        self.results = {name: plan.tensors[name] for name in names}
        self._inputs = [*plan.inputs.values(), *plan.frozen.values()]
        self._moved = plan.moved
        sources = {moved: slot for slot, moved in plan.moved.items()}
        steps = needed(plan.steps, self.results.values(), sources)
        by_data = [step for step in steps if step.known is Known.BY_DATA]
        early = {s for step in steps if step.known is Known.BY_SHAPES for s in step.outputs}
        early |= {plan.moved[slot] for slot in early if slot in plan.moved}
        self._cold = with_frees(steps, early | set(self.results.values()))
        self._warm = with_frees(by_data, self.results.values())
        self._late = early & {s for step in by_data for s in step.reads()}
        self._late |= early & set(self.results.values())
        self._kept: dict[object, dict[int, Tensor]] = {}

    def run(self, values: Values, device: torch.device) -> None:
        """Run the steps; what follows from the shapes alone only for shapes not seen before."""
        shapes = tuple((values[slot].shape, values[slot].dtype) for slot in self._inputs)
        key = (shapes, device, torch.is_inference_mode_enabled())
        if key not in self._kept:
            if len(self._kept) >= _SHAPES_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._run_all(values, device)
            return
        for slot, value in self._kept[key].items():
            values[slot] = value
        run(self._warm, values)

    def _run_all(self, values: Values, device: torch.device) -> dict[int, Tensor]:
        """Run every step; gives what later runs on the same shapes need not compute again."""
        for step, frees in self._cold:
            step.run(values)
            if step.known is Known.BY_SHAPES:
                for slot in step.outputs:
                    if slot in self._moved:
                        values[self._moved[slot]] = values[slot].to(device)
            for slot in frees:
                values[slot] = None
        return {slot: values[slot] for slot in self._late}
