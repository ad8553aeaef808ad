"""Folders of images: preprocessing against numpy, and what is refused."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from PIL import Image

import graphopt
from graphopt.data import open_data
from graphopt.data.feeds import told_of
from graphopt.data.images import parse_preprocessing
from graphopt.errors import DataError, SystemFailure, UsageError, quoted
from graphopt.graph.graph import Graph


def graph_of(inputs: str) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({inputs}) => (float[1] out) {{ out = Constant<value_floats: floats = [1.0]>() }}"""
    return Graph(onnx.parser.parse_model(text))


NCHW = "float[N, 3, 4, 6] x"


def picture(path: Path, height: int = 4, width: int = 6, mode: str = "RGB") -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(height * width)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def first(folder: Path, inputs: str, **images: Any) -> np.ndarray[Any, Any]:
    feeds, _ = next(open_data(folder, graph_of(inputs), images).feeds())
    return feeds["x"]


def test_pixels_as_they_are(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    got = first(tmp_path, NCHW)
    assert got.dtype == np.float32
    assert np.array_equal(got, pixels.transpose(2, 0, 1)[None])


def test_layout_is_taken_from_the_model(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    assert np.array_equal(first(tmp_path, "float[N, 4, 6, 3] x"), pixels[None])
    assert first(tmp_path, "float[N, A, B, C] x").shape == (1, 3, 4, 6)
    assert first(tmp_path, "float[N, A, B, C] x", layout="NHWC").shape == (1, 4, 6, 3)


def test_scale_mean_and_std_come_in_this_order_and_by_channel(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    expected = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None]
    got = first(tmp_path, NCHW, scale=1 / 255, mean=mean, std=std)
    assert got == pytest.approx(expected, abs=1e-5)
    expected = ((pixels[..., ::-1] / 255 - mean) / std).transpose(2, 0, 1)[None]
    got = first(tmp_path, NCHW, scale=1 / 255, mean=mean, std=std, color="BGR")
    assert got == pytest.approx(expected, abs=1e-5)
    got = first(tmp_path, NCHW, mean=127.5, std=127.5)
    assert (got.min() >= -1, got.max() <= 1) == (True, True)


def test_gray_follows_from_one_channel(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", mode="L")
    assert np.array_equal(first(tmp_path, "float[N, 1, 4, 6] x"), pixels[None, None])
    assert np.array_equal(first(tmp_path, NCHW)[0], np.stack([pixels] * 3))


def test_integer_inputs_get_the_pixels(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png")
    got = first(tmp_path, "uint8[N, 4, 6, 3] x")
    assert got.dtype == np.uint8
    assert np.array_equal(got, pixels[None])
    with pytest.raises(DataError, match="'x' holds float32 where the model takes uint8"):
        first(tmp_path, "uint8[N, 4, 6, 3] x", scale=0.5)


def test_size_keeps_the_aspect_and_crop_takes_the_middle(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 8, 20)
    assert first(tmp_path, "float[N, 3, H, W] x", size=4).shape == (1, 3, 4, 10)
    assert first(tmp_path, "float[N, 3, H, W] x", size=[4, 5]).shape == (1, 3, 4, 5)
    pixels = picture(tmp_path / "a.png", 8, 20)
    got = first(tmp_path, "float[N, 3, H, W] x", crop=[4, 6])
    assert np.array_equal(got[0], pixels[2:6, 7:13].transpose(2, 0, 1))


def test_pictures_are_joined_into_batches_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    second = picture(tmp_path / "cat" / "1.png", 4, 6)
    Image.fromarray(255 - second).save(tmp_path / "0.png")
    np.save(tmp_path / "labels.npy", np.array([3, 5]))
    samples = open_data(tmp_path, graph_of(NCHW))
    ((feeds, real),) = samples.feeds(8)
    assert (samples.count, real) == (2, 2)
    assert np.array_equal(feeds["x"].sum(0), np.full((3, 4, 6), 255))
    assert samples.labels is not None
    assert samples.labels.tolist() == [3, 5]


def refusal(folder: Path, inputs: str = NCHW, **images: Any) -> str:
    with pytest.raises((DataError, UsageError)) as caught:
        list(open_data(folder, graph_of(inputs), images).feeds())
    return str(caught.value)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(path, 5, 6)
    assert "set size and crop" in refusal(tmp_path)
    assert "fewer than the crop of 7 x 7" in refusal(tmp_path, "float[N, 3, H, W] x", crop=7)
    assert "a model of one input with four axes" in refusal(tmp_path, "float[N, 3] x")
    assert "a model of one input" in refusal(tmp_path, "float[N, 3, 5, 6] x, float[N] y")
    assert "mean has 3 values for 1 channel" in refusal(tmp_path, mean=[1, 2, 3], color="L")
    whole = path.read_bytes()
    for content in (b"", b"junk", whole[:60], whole[:-30]):
        path.write_bytes(content)
        assert "a.png: cannot be read as an image" in refusal(tmp_path, "float[N, 3, H, W] x")


@pytest.mark.parametrize("form", ["EPS", "GIF", "ICO", "TGA"])
def test_other_decoders_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Pillow finds the format by content, and its reader of PostScript starts Ghostscript."""
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png", format=form)
    monkeypatch.setattr("subprocess.check_call", lambda *_args, **_named: pytest.fail("started"))
    words = refusal(tmp_path)
    assert words.endswith("a.png: cannot be read as an image; BMP, JPEG, PNG, PPM, TIFF, WEBP are")


@pytest.mark.parametrize("name", ["a.pbm", "a.pnm", "a.JPG"])
def test_names_of_pictures(tmp_path: Path, name: str) -> None:
    Image.new("1" if name == "a.pbm" else "RGB", (6, 4)).save(tmp_path / "x.ppm")
    (tmp_path / "x.ppm").rename(tmp_path / name)  # what is inside says what it is
    assert first(tmp_path, NCHW).shape == (1, 3, 4, 6)


@pytest.mark.parametrize("form", ["BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_formats_that_are_meant(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (6, 4), (90, 90, 90)).save(tmp_path / "a.png", format=form)
    assert np.abs(first(tmp_path, NCHW) - 90).max() <= 3  # JPEG and WebP round


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert "too many" in refusal(tmp_path, "float[N, 3, H, W] x")


def test_resizing_cannot_blow_up_a_thin_picture(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1)).save(tmp_path / "a.png")
    assert "too many when resized" in refusal(tmp_path, "float[N, 3, H, W] x", size=2048)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SystemFailure, match=r"pip install 'graphopt\[images\]'"):
        open_data(tmp_path, graph_of(NCHW))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sise": 3}, "did you mean 'size'"),
        ({"size": 0}, "size = 0 must be 1 to 16384 pixels"),
        ({"size": [1, 2, 3]}, "must be 1 to 16384 pixels"),
        ({"size": 2.5}, "must be 1 to 16384 pixels"),
        ({"crop": 1 << 20}, "must be 1 to 16384 pixels"),
        ({"crop": True}, "must be 1 to 16384 pixels"),
        ({"layout": "CHW"}, "must be one of NCHW, NHWC"),
        ({"color": "rgb"}, "must be one of RGB, BGR, L"),
        ({"mean": "x"}, "must be a number"),
        ({"mean": [1, 2]}, "one for each channel"),
        ({"std": [1, 0, 1]}, "std must not be zero"),
        ({"scale": 0}, "scale must not be zero"),
        ({"scale": float("nan")}, "must be a number"),
    ],
)
def test_preprocessing_that_makes_no_sense(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_preprocessing(values)


def test_what_was_done_to_pictures_is_told_by_place_and_number(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jfif", "b.jpe"):  # 6 x 4 once they are upright
        Image.new("RGB", (4, 6), (90, 90, 90)).save(tmp_path / name, "JPEG", exif=exif)
    clear = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "c.png", save_all=True, append_images=[Image.new("RGBA", (6, 4))])
    samples = open_data(tmp_path, graph_of(NCHW))
    assert told_of(samples) == [
        f"{tmp_path}: 2 of 3 pictures were turned as their EXIF tag says",
        f"{tmp_path}: 1 of 3 pictures hold several pictures, of which the first was read",
    ]
    assert [feeds["x"][0, 0, 0, 0] for feeds, _ in samples.feeds()] == [90, 90, 255]
    assert told_of(samples, None, samples) == [
        f"{tmp_path}: 2 of 3 pictures were turned as their EXIF tag says",
        f"{tmp_path}: 1 of 3 pictures have transparent parts and were laid on white",
        f"{tmp_path}: 1 of 3 pictures hold several pictures, of which the first was read",
    ]


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_report_and_the_comparison_tell_it(tmp_path: Path, dry_run: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png", exif=exif)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 3, 4, 6] x) => (float[N, 3, 4, 6] y) { y = Relu(x) }"""
    )
    words = f"{tmp_path}: 1 of 1 pictures were turned as their EXIF tag says"
    result = graphopt.optimize(
        model, passes="eliminate-dead", calibration=tmp_path, dry_run=dry_run
    )
    assert words in result.report.messages
    if not dry_run:
        assert graphopt.compare(model, model, tmp_path).note == words


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "a.avif"])
def test_pictures_of_other_formats_are_refused_aloud(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "b.png")
    Image.new("RGB", (6, 4)).save(tmp_path / name, "GIF")
    assert f"{name}: cannot be read as an image; BMP" in refusal(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"scale": 10**400},
        {"scale": 1e-300},
        {"std": [1, 1e300, 1]},
        {"mean": float("inf")},
        {"mean": [[1], 2, 3]},
        {"size": 10**5000},
        {"crop": [10**400, 1]},
    ],
    ids=quoted,
)
def test_numbers_that_float32_cannot_hold(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"images: {next(iter(values))}") as caught:
        parse_preprocessing(values)
    assert len(str(caught.value)) < 200


def test_pictures_in_subfolders_have_classes(tmp_path: Path) -> None:
    for name in ("bar", "blob", "edge"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "0.png")
    samples = open_data(tmp_path, graph_of(NCHW))
    assert samples.labels is not None
    assert samples.labels.tolist() == ["bar", "blob", "edge"]
    assert told_of(samples) == [f"{tmp_path}: 3 classes from subfolders: bar, blob, edge"]
