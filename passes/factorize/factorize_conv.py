"""Pass ``factorize-conv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from graphopt.contract.examples import Example
from graphopt.contract.passes import Option
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.weights import WeightGroup, rank_of_product
from graphopt.families.layer_inputs import Inputs
from graphopt.families.low_rank import LowRank
from graphopt.families.low_rank_forms import Factored, Forms
from graphopt.graph.graph import Graph
from graphopt.numerics.lowrank import Budget
from graphopt.numerics.lowrank_conv import ConvFactors, Scheme, applies, compose
from graphopt.numerics.lowrank_forms import ConvForms
from graphopt.rewrite.conv_chain import PLACES, Link, fits_kernel, replace_conv, strides

__all__ = ["FactorizeConv"]

_SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "auto": ("spatial", "channel"),
    "spatial": ("spatial",),
    "channel": ("channel",),
    "tucker": ("tucker",),
    "cp": ("cp",),
}


@register("factorize-conv")
@dataclass(frozen=True, kw_only=True)
class FactorizeConv(LowRank):
    """Replace a Conv by two or three cheaper ones in a row.

        x -> Conv(k x k) -> y  becomes, by scheme, x -> ... -> y with
            spatial   Conv(k x 1, r channels) -> Conv(1 x k)
            channel   Conv(k x k, r channels) -> Conv(1 x 1)
            tucker    Conv(1 x 1, r channels) -> Conv(k x k, s channels) -> Conv(1 x 1)
            cp        Conv(1 x 1, r channels) -> depthwise Conv(k x k) -> Conv(1 x 1)

    With calibration samples the factors lose as little as can be of the *outputs* on them, told by
    the moments of what the layer reads: in closed form for channel, by weighted alternating least
    squares for the others; the bias makes up for the mean. Without samples they lose as little as
    can be of the weights, which costs far more accuracy. A ResNet-20 at half of its MACs,
    untrained: top-1 52 without samples, 76 with, 79 with reconstruct-weights behind it; 81 before.

    The ranks follow from one budget: a fixed ``rank``, or the ``energy`` to keep (share of the sum
    of squares of the output, or without samples of the weight), the same for every layer; or the
    ``macs`` or ``bytes`` that all chosen layers keep together of what they had before the first
    lossy pass, those that cannot be factorized with them. With samples these two go where the
    answers need them: each layer alone is measured at two ranks, and then greedily the step is
    taken whose measured damage rises least for what it saves. Without any budget energy is 0.95.

    A form that takes longer on this machine than the layer did is not taken, unless ``bytes`` are
    asked for or ``allow_slower`` is set: layer and form are timed side by side, at batch size and
    size of the first sample, once for all layers that are alike. Half of the MACs is not half of
    the time: ranks that are multiples of 16 gain, thin ones mostly do not, and cp hardly ever
    does, so it serves size. Grouped and depthwise layers stay, whose weights are small already. The
    bias stays on the last Conv, which keeps name and output of the layer. Put it before any
    quantize pass.

    ``auto`` takes for each layer spatial or channel, whichever loses less for what it saves. tucker
    and cp have to be asked for. tucker mostly loses more than spatial; where a rank comes out as
    all channels, that 1 x 1 is left out. cp loses least of all per MAC: it is searched by
    alternating least squares, half a minute for a layer of 256 channels, eight times that for twice
    as many. The 2-D depthwise Conv in its middle loses less per MAC than k x 1 and 1 x k would.
    Source: Jaderberg et al. 2014, Speeding up Convolutional Neural Networks with Low Rank
    Expansions (spatial); Zhang et al. 2015, Accelerating Very Deep Convolutional Networks for
    Classification and Detection (channel); Kim et al. 2016, Compression of Deep Convolutional
    Neural Networks for Fast and Low Power Mobile Applications (tucker); Lebedev et al. 2015,
    Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition (cp). For outputs in
    place of weights: Zhang et al. 2015, section 3.1; many layers in one budget: the same, 3.4.
    """

    scheme: Annotated[
        Literal["auto", "spatial", "channel", "tucker", "cp"],
        Option("which convolutions to make of one"),
    ] = "auto"
    op_types = ("Conv",)

    def refusal(self, group: WeightGroup, graph: Graph) -> Refusal | None:
        first, axes = group.layers[0], len(group.constant.shape) - 2
        for layer in group.layers:
            node = layer.node
            if layer.groups > 1:
                kind = "depthwise" if layer.depthwise else "grouped"
                return Refusal(node, f"it is {kind}, and only plain convolutions are factorized")
            if not fits_kernel(node, axes):
                return Refusal(node, "its strides, pads or dilations do not fit its kernel")
            if strides(node, axes) != strides(first.node, axes):
                return Refusal(node, "layers of different strides share its weight")
            if layer.weight.order != first.weight.order:
                return Refusal(node, "its weight is read with its axes in several orders")
            if rank_of_product(layer) is not None:
                return Refusal(node, "it is part of a low-rank product already")
        return first.refusal("finite")

    def forms(self, group: WeightGroup, read: Inputs | None, seed: int) -> Forms:
        values = group.layers[0].weight.values()
        moved = strides(group.layers[0].node, values.ndim - 2)
        gram = None if read is None else read.gram
        found = ConvForms(values, moved, seed, gram)
        return _Chains(group, read, _SCHEMES[self.scheme], found)

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example("cnn", {"allow_slower": True})
        schemes = ("spatial", "channel", "tucker", "cp")
        return [
            plain,
            Example("cnn", {"bytes": 0.5}),
            *(plain.but(scheme=each, macs=0.4) for each in schemes),
            plain.but(rank=2, nodes=("conv_0",), min_size=0),
            plain.but(energy=0.8, exclude=("conv_0",)),
        ]


@dataclass(frozen=True, eq=False)
class _Chains(Forms):
    """Convolutions in a row, in some schemes."""

    schemes: tuple[Scheme, ...]
    found: ConvForms

    def at(self, budget: Budget) -> ConvFactors | str:
        best = self.found.best(budget, self.schemes)
        if best is not None:
            return best
        kernel = list(self.found.metric.weight.shape[2:])
        if not any(applies(scheme, kernel) for scheme in self.schemes):
            return f"a kernel of {kernel} has no {' or '.join(self.schemes)} form"
        return f"no rank within {budget.kind} {budget.value:g} makes it cheaper"

    def grid(self, share: float) -> Sequence[ConvFactors]:
        return [each for scheme in self.schemes for each in self.found.grid(scheme, share)]

    def finished(self, found: Factored) -> Factored:
        assert isinstance(found, ConvFactors)
        return self.found.fitted(found)

    def put(self, found: Factored, layers: Sequence[Layer]) -> None:
        assert isinstance(found, ConvFactors)
        home, origin = layers[0].weight.constant.scope, layers[0].weight.constant.origin
        weight = self.found.metric.weight
        lost = (weight - compose(found.stages)).reshape(len(weight), -1).T
        links = [
            Link(
                home.add_constant(f"{origin}_{place}", stage.weight.astype(layers[0].weight.dtype)),
                stage.weight.shape[2:],
                stage.axes,
                len(stage.weight) if stage.depthwise else 1,
            )
            for place, stage in zip(PLACES, found.stages, strict=False)
        ]
        if self.read is not None:
            self.read.rebias(layers, lost)
        for layer in layers:
            replace_conv(layer.scope, layer.node, links)
