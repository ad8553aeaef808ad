"""Names that are not UTF-8: each is said with what it names."""

import onnx
import pytest

from graphopt.errors import ModelError
from graphopt.graph import io

TEXT = """<ir_version: 8, opset_import: ["": 17, "dddd": 1]>
g (float[ssss, 4] x) => (float[ssss, 4] y) <float[1] wwww = {1}> {
  [nnnn] hhhh = Add(x, wwww)
  y = Softmax <axis = 1> (hhhh)
}"""


def damaged(old: bytes) -> bytes:
    model = onnx.parser.parse_model(TEXT)
    model.graph.doc_string, model.producer_name = "text", "prod"
    data: bytes = model.SerializeToString()
    return data.replace(old, b"\xa4" + old[1:])


@pytest.mark.parametrize(
    ("old", "words"),
    [
        (b"Softmax", r"the operator of node 'y' is not UTF-8 text: b'\xa4oftmax'"),
        (b"axis", r"the name of an attribute of node 'y' is not UTF-8 text: b'\xa4xis'"),
        (b"hhhh", "the output of node 'nnnn' is not UTF-8 text"),
        (b"nnnn", "the name of node 'hhhh' is not UTF-8 text"),
        (b"ssss", "the name of a dimension is not UTF-8 text"),
        (b"dddd", "the domain of an operator set is not UTF-8 text"),
        (b"wwww", "the input of node 'nnnn' is not UTF-8 text"),
    ],
)
def test_faults(old: bytes, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        io.load(damaged(old))
    assert words in str(caught.value)


@pytest.mark.parametrize("old", [b"text", b"prod"])
def test_what_nobody_looks_up_may_be_any_bytes(old: bytes) -> None:
    graph = io.load(damaged(old))
    assert b"\xa4" in graph.to_model().SerializeToString()
