import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graphopt.analysis.audit import Audit, Entry
from graphopt.contract.passes import Edit, Skip
from graphopt.contract.taken import GroupWidth, LayerRank, LayerZeros, Taken
from graphopt.errors import SystemFailure
from graphopt.report import html
from graphopt.run.quality import Quality
from graphopt.run.record import CandidateRecord, LayerRecord, RunRecord

MakeRecord = Callable[..., RunRecord]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), ""
)
HOSTILE = (
    "</title></style><script>alert(1)</script><img src=http://evil.example/x onerror='y'>\"&{{7*7}}"
)
FRAME = """<!DOCTYPE html><iframe id="frame" width="{width}" height="900"
style="border:0" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const inside = document.getElementById("frame").contentWindow;
  document.body.textContent = JSON.stringify({{
    title: inside.document.title,
    inner: inside.innerWidth,
    wide: inside.document.scrollingElement.scrollWidth,
    requests: inside.performance.getEntriesByType("resource").map(entry => entry.name),
  }});
}});
</script>"""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1280,900",
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


class Page(HTMLParser):
    """Tags in order, with the headings' levels and what an element lacks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_headline_says_what_was_won_and_what_it_cost(record: RunRecord) -> None:
    text = " ".join(Page(html.render(record)).text.split())
    assert "mobilenet.opt.onnx" in text
    assert "File size 3.84x smaller 14.0 MB \u2192 3.7 MB" in text
    assert "Latency 1.85x faster 11.4 ms \u2192 6.18 ms" in text
    assert "Signal to noise (SQNR) 23.4 dB of the worst output" in text
    assert "Same top-1 answer 97.44 %" in text
    assert "Metric top1 71.63 -0.25 was 71.88" in text
    assert "\u2717 not met top1 falls by 0.2 at most measured 0.25" in text


def test_passes_candidates_audit_and_recipe_are_on_the_page(record: RunRecord) -> None:
    text = " ".join(Page(html.render(record)).text.split())
    assert "quantize-static" in text
    assert "52 changed, 8 left alone, 21.6 dB, 9.9 s" in text
    assert "rolled back" in text
    assert "min-sqnr asks 20 dB, output 'logits' is at 11.2 dB" in text
    assert "chosen: smallest and fastest within the limits" in text
    assert "52 of 60 layers are on integer kernels (52 QLinearConv)" in text
    assert "onnxruntime fuses it only where both are integer" in text
    assert 'name = "correct-bias"' in text
    assert "AMD EPYC 7763" in text


def test_candidates_are_points_of_the_number_of_their_row(record: RunRecord) -> None:
    page = Page(html.render(record))
    points = [tag for tag in page.find("span") if (tag.get("class") or "").startswith("point")]
    assert len(points) == 8, "four of five, in two pictures"
    assert [tag["class"] for tag in points].count("point chosen") == 2
    assert len([tag for tag in page.find("path") if tag.get("class") == "limit"]) == 2
    text = " ".join(page.text.split())
    assert "SQNRagreementtop1verdict" in text
    assert "5 weights only" in text
    assert "the level one the limit that was asked for" in text


def test_a_training_is_drawn_with_the_kept_step(trained: RunRecord) -> None:
    page = Page(html.render(trained))
    text = " ".join(page.text.split())
    assert "with models/mobilenet.onnx as its teacher" in text
    assert "240 of 600 steps; samples: 9500 + 500 held out; step 180 kept" in text
    assert "held-out loss 6.125 \u2192 0.1512; agreement % 41.20 \u2192 95.20" in text
    assert "step 60: training 1.31, held out 0.402" in text
    assert "Before training: top1 39.40, SQNR 3.2 dB, top-1 agreement 41.90 %." in text
    assert "teacherstudentstudent / teacher" in text
    lines = [tag["class"] for tag in page.find("path") if tag.get("class")]
    assert (lines.count("kept"), lines.count("line")) == (2, 3)


def test_what_was_taken_is_drawn_group_by_group(sparser: RunRecord) -> None:
    text = html.render(sparser)
    page = Page(text)
    words = " ".join(page.text.split())
    assert "Which channels went" in words
    assert "396 of 1920 channels went, from 50 of 60 groups" in words
    assert "squared error of the layers that read the group" in words
    assert "30 more groups" in words
    assert "50.9% \u2192 51.2% of" not in words
    assert "0.0% \u2192 51.2% of 138,240 weights in 60 layers are zero" in words
    assert "40 layers became products of thin ones" in words
    panels = [tag for tag in page.find("figure") if tag.get("class") == "panel"]
    assert len(panels) == 60
    lines = [tag for tag in page.find("path") if tag.get("class") == "line"]
    assert len(lines) == 120
    assert all("\u2026" not in (tag["d"] or "") for tag in page.find("path")), (
        "no path is cut short"
    )
    assert "made by /features/features.0/conv/pointwise.0/Conv; read by" in page.text


def test_a_criterion_without_samples_is_named_for_what_it_is(sparser: RunRecord) -> None:
    first = sparser.passes[0]
    groups = [dataclasses.replace(each, damage=[]) for each in first.taken.groups]
    plain = dataclasses.replace(first, taken=Taken("l1", groups))
    text = html.render(dataclasses.replace(sparser, passes=[plain]))
    assert "share of the group's scores (criterion l1) that goes" in unescape(text)
    assert "what the answers suffer" not in text


def test_text_from_a_model_is_never_markup(record: RunRecord) -> None:
    nasty = dataclasses.replace(
        record,
        command=HOSTILE,
        output=dataclasses.replace(record.output or record.input, path=f"x/{HOSTILE[-20:]}"),
        quality=Quality({HOSTILE: 3.0, "y": 4.0}, note=HOSTILE),
        audit=Audit([], [Entry(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]),
        layers=[LayerRecord(HOSTILE, HOSTILE, 4, 2, 1.0, 1.0, 3.0)],
        candidates=[CandidateRecord(HOSTILE, HOSTILE, 4, 1.0, 1.0, 1.0, 1.0, True, HOSTILE)],
        passes=[
            dataclasses.replace(
                record.passes[0],
                name=HOSTILE,
                spec=HOSTILE,
                status="refused",
                reason=HOSTILE,
                changes=[Edit(HOSTILE, HOSTILE)],
                skipped=[Skip(HOSTILE, HOSTILE)],
                taken=Taken(
                    HOSTILE,
                    [GroupWidth(HOSTILE, [HOSTILE], [HOSTILE], 4, 2, 1, HOSTILE, [(0, 0.0)], [])],
                    [LayerZeros(HOSTILE, 4, 0, 2)],
                    [LayerRank(HOSTILE, HOSTILE, (4,), (2,))],
                ),
            )
        ],
        messages=[HOSTILE],
        recipe=HOSTILE,
    )
    text = html.render(nasty)
    page = Page(text)
    assert page.find("script") == []
    assert page.find("img") == []
    assert all(not name.startswith("on") for _, found in page.tags for name in found)
    assert len(page.find("title")) == 1 + len(nasty.layers) * 3 + 4, "of the page, strips, a panel"
    assert "{{7*7}}" in page.text
    assert page.text.count("alert(1)") >= 12


def test_control_characters_and_endless_names_are_tamed(record: RunRecord) -> None:
    names = ["a\x1b[2Jb\u202ec", "\ud800", "n" * 5000]
    text = html.render(
        dataclasses.replace(record, layers=[LayerRecord(name, "Conv", 4, 1) for name in names])
    )
    text.encode("utf-8")
    assert "a\ufffd[2Jb\ufffdc" in text
    assert "n" * 401 not in text


def test_the_page_asks_for_nothing_and_runs_nothing(record: RunRecord) -> None:
    text = html.render(record)
    page = Page(text)
    assert "default-src 'none'" in (POLICY.search(text) or [""])[0]
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|url\(|@import", text)


def test_a_reader_without_eyes_finds_the_way(record: RunRecord) -> None:
    page = Page(html.render(record))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.find("html")[0]["lang"] == "en"
    assert all("scope" in cell for cell in page.find("th"))
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in page.find("svg"))
    identities = [found["id"] for _, found in page.tags if "id" in found]
    assert len(identities) == len(set(identities))
    assert {
        found["aria-labelledby"] for found in page.find("section") if "aria-label" not in found
    } <= set(identities)


def test_large_models_stay_below_a_megabyte(make_record: MakeRecord) -> None:
    for layers in (300, 3000):
        assert len(html.render(make_record(layers)).encode()) < 1_000_000


def test_a_dry_run_and_a_run_that_measured_nothing_are_shown(record: RunRecord) -> None:
    bare = RunRecord("auto", record.environment, record.input, dry_run=True)
    assert "dry run: nothing was changed" in html.render(bare)
    unmeasured = dataclasses.replace(
        bare, dry_run=False, output=record.input, quality=Quality({"y": None}, note="not run: big")
    )
    text = html.render(unmeasured)
    assert "not run: big" in text
    assert "None" not in Page(text).text


def test_a_missing_extra_is_named(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(SystemFailure, match=r"pip install 'graphopt\[report\]'"):
        html.require()
    with pytest.raises(SystemFailure):
        html.render(record)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_chromium_shows_it_without_complaint(
    make_record: MakeRecord, sparser: RunRecord, tmp_path: Path, width: int
) -> None:
    text = html.render(dataclasses.replace(make_record(300), passes=sparser.passes))
    found, log = _open(text, tmp_path, width)
    assert found["title"] == "mobilenet.opt.onnx - graphopt"
    assert found["inner"] == width
    assert found["wide"] <= width, "the page scrolls sideways"
    assert found["requests"] == []
    assert "CONSOLE" not in log


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_the_browser_check_sees_what_it_looks_for(tmp_path: Path) -> None:
    image = "http://127.0.0.1:9/x.png"  # nothing listens there
    text = f"""<!DOCTYPE html><title>x</title><div style="width:2000px">wide</div>
    <script>console.error("oops")</script><img src="{image}">"""
    found, log = _open(text, tmp_path, 390)
    assert found["wide"] >= 2000
    assert found["requests"] == [image]
    assert "oops" in log


def _open(text: str, folder: Path, width: int) -> tuple[dict[str, Any], str]:
    """The page in a frame of that width (a window is never below 500): what it holds, the log."""
    outer = folder / "outer.html"
    outer.write_text(FRAME.format(width=width, page=escape(text, quote=True)), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    body = re.search("<body>(.*?)</body>", done.stdout, re.DOTALL)
    assert body is not None, done.stderr
    found: dict[str, Any] = json.loads(unescape(body[1]))
    return found, done.stderr
