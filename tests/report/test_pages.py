from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import CalibrationSamples, MinOpset, When
from graphopt.graph.graph import Graph
from graphopt.report.pages import OptionRow, page


@dataclass(frozen=True, kw_only=True)
class Sample(Pass):
    """Do something to weights.

    x -> y
    """

    name: ClassVar[str] = "do-something"
    lossy: ClassVar[bool] = True
    requires = (CalibrationSamples(), MinOpset("this", 21, when=When("form", "b")))
    exclude: Annotated[tuple[str, ...], Option("nodes to leave alone")] = ()
    share: Annotated[float, Option("how much", low=0, high=1, high_open=True)] = 0.5
    size: Annotated[int | None, Option("from here on", low=0, unit="elements")] = None
    form: Annotated[Literal["a", "b"], Option("which")] = "a"

    def run(self, graph: Graph, context: Context) -> Changes:
        return Changes()


def test_a_page_is_made_from_the_class() -> None:
    found = page(Sample)
    assert found.summary == "Do something to weights."
    assert found.text.endswith("x -> y")
    assert found.lossy
    assert found.needs_samples
    assert found.requires == ["calibration samples", "opset 21 or later: this (with form=b)"]
    assert found.options[1:] == [
        OptionRow("share", "0.5", "0 <= share < 1", "how much"),
        OptionRow("size", "none", "0 <= size (elements) or none", "from here on"),
        OptionRow("form", "a", "a | b", "which"),
    ]


def test_the_example_shows_an_option_that_has_a_value() -> None:
    assert (
        page(Sample).example
        == "graphopt optimize model.onnx -p 'do-something{share=0.5}' --calib calib.npz"
    )
