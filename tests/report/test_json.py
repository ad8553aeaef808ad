import copy
import dataclasses
import json as standard
from typing import Any

import jsonschema
import pytest

from graphopt.errors import Need
from graphopt.report import json
from graphopt.run.quality import Quality
from graphopt.run.record import LayerRecord, ModelRecord, RunRecord


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_full_record_keeps_the_schema(
    record: RunRecord, validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate(standard.loads(json.dump(json.document(record))))


def test_a_dry_run_and_a_run_that_measured_nothing_keep_the_schema(
    record: RunRecord, validator: jsonschema.Draft202012Validator
) -> None:
    empty = RunRecord("auto", record.environment, ModelRecord(None, "", 9, 0, None, 1))
    for item in (dataclasses.replace(empty, dry_run=True), _unmeasured(empty)):
        validator.validate(standard.loads(json.dump(json.document(item))))


def test_a_training_keeps_the_schema(
    trained: RunRecord, validator: jsonschema.Draft202012Validator
) -> None:
    document = standard.loads(json.dump(json.document(trained)))
    validator.validate(document)
    assert document["passes"][0]["curves"]["held_out_loss"][3] == [180, 0.1512]
    assert document["start"]["quality"]["metric"]["after"] == 39.4
    for path, value in (("start/surplus", 1), ("passes/0/curves/loss", [[1, 2.0, 3]])):
        assert not validator.is_valid(_set(document, path, value))


def test_what_was_taken_keeps_the_schema(
    sparser: RunRecord, validator: jsonschema.Draft202012Validator
) -> None:
    document = standard.loads(json.dump(json.document(sparser)))
    validator.validate(document)
    group = document["passes"][0]["taken"]["groups"][1]
    assert (group["before"], group["after"], group["loss"][0]) == (16, 8, [0, 0.0])
    assert document["passes"][1]["taken"]["zeros"][0]["after"] == 1150
    assert document["passes"][2]["taken"]["ranks"][0]["after"] == [1]
    for path, value in (
        ("passes/0/taken/surplus", 1),
        ("passes/0/taken/groups", [{"name": "x"}]),
        ("passes/2/taken/ranks", [{"node": "x", "form": "", "before": [0], "after": [0]}]),
    ):
        assert not validator.is_valid(_set(document, path, value))


def test_a_loss_that_was_not_finite_becomes_null(
    trained: RunRecord, validator: jsonschema.Draft202012Validator
) -> None:
    curves = trained.passes[0].curves
    assert curves is not None
    curves.held_out_loss[1] = (60, float("inf"))
    document = standard.loads(json.dump(json.document(trained)))
    validator.validate(document)
    assert document["passes"][0]["curves"]["held_out_loss"][1] == [60, None]


def _unmeasured(empty: RunRecord) -> RunRecord:
    return dataclasses.replace(
        empty,
        output=empty.input,
        quality=Quality({"y": None}, note="not run"),
        layers=[LayerRecord("Conv_0", "Conv", 4, 1)],
    )


def test_the_document_has_the_keys_that_pipelines_rely_on(record: RunRecord) -> None:
    document = json.document(record)
    assert document["schema"] == json.SCHEMA
    assert document["input"]["bytes"] == 14_018_332
    assert document["output"]["latency_ms"] == 6.18
    assert document["quality"]["sqnr_db"] == {"logits": 23.41, "features": 27.9}
    assert document["quality"]["metric"] == {
        "name": "top1",
        "before": 71.88,
        "after": 71.63,
        "output": "",
        "higher_is_better": True,
        "beside": [],
    }
    assert document["passes"][2]["skipped"][0].keys() == {"node", "reason"}
    assert document["audit"].keys() == {"integer", "float", "table", "unfixed"}
    assert document["audit"]["float"][0]["reason"].startswith("reads the input")
    assert [limit["met"] for limit in document["limits"]] == [True, False]


def test_numbers_that_json_lacks_become_null(record: RunRecord) -> None:
    broken = dataclasses.replace(record, latency_ratio=float("nan"), latency_spread=float("inf"))
    document = standard.loads(json.dump(json.document(broken)))
    assert document["latency_ratio"] is None
    assert document["latency_spread"] is None


def _set(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    place: Any = changed
    *parents, last = path.split("/")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "graphopt-report/1"),
        ("surplus", 1),
        ("input", None),
        ("input/sha256", "XYZ"),
        ("input/bytes", -1),
        ("output/latency_ms", "fast"),
        ("output/surplus", 1),
        ("quality/agreement_top1", 101),
        ("quality/source", "web"),
        ("passes/0/status", "perhaps"),
        ("passes/0/changes/0/surplus", ""),
        ("passes/0/spec", KeyError),
        ("candidates/0/chosen", "yes"),
        ("audit/float", KeyError),
        ("audit/integer/0/reason", None),
        ("layers/0/bytes_after", 1.5),
        ("limits/0/met", KeyError),
        ("environment/threads", 0),
        ("seconds", -1),
    ],
)
def test_the_schema_refuses(
    record: RunRecord, validator: jsonschema.Draft202012Validator, path: str, value: Any
) -> None:
    document = standard.loads(json.dump(json.document(record)))
    assert not validator.is_valid(_set(document, path, value))


def test_every_key_of_the_schema_is_required_and_closed() -> None:
    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "properties" in part:
                assert part["additionalProperties"] is False
                assert set(part["required"]) == set(part["properties"])
            for item in part.values():
                walk(item)
        elif isinstance(part, list):
            for item in part:
                walk(item)

    walk(json.schema())


def test_text_from_a_model_cannot_steer_a_terminal() -> None:
    evil = "a\x1b[2J\x9b31m\x7f\u202e\ud800\U000e0001 \u00e9"
    text = json.dump({evil: evil})
    assert all(mark.isprintable() or mark == "\n" for mark in text)
    assert "\u00e9" in text
    assert standard.loads(text) == {evil: evil}


def test_the_schema_knows_all_that_can_be_needed() -> None:
    assert set(json.schema()["$defs"]["needs"]["items"]["enum"]) == {str(need) for need in Need}
