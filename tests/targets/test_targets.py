from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.facts.quantized import moves_data
from graphopt.numerics.grids import CODE_TYPES, CodeName
from graphopt.targets import host
from graphopt.targets.tables import TARGETS

LAST_OPSET = onnx.defs.onnx_opset_version()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing remembered of this machine, before and after."""
    host.host_name.cache_clear()
    yield
    host.host_name.cache_clear()


def test_targets_are_found_by_name() -> None:
    assert targets.names() == [
        "host", "x86-vnni", "x86-avx2", "arm", "arm-dotprod", "generic", "xnnpack", "nnapi", "qnn",
        "coreml", "web", "openvino", "tensorrt",
    ]  # fmt: skip
    for name in targets.names()[1:]:
        assert targets.find(name).name == name
    assert targets.find("host") is TARGETS[host.host_name()]


@pytest.mark.parametrize(
    ("name", "near"), [("x86_avx2", "'x86-avx2'"), ("Generic", "'generic'"), ("hots", "'host'")]
)
def test_a_misspelt_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown target '{name}'; did you mean {near}\\?$"):
        targets.find(name)


def test_a_name_like_none_gets_the_list() -> None:
    with pytest.raises(UsageError, match=r"^unknown target 'zzz'; known: .*, host, .*x86-vnni"):
        targets.find("zzz")


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_tables_speak_of_onnx_as_it_is(target: targets.Target) -> None:
    for op_type, rule in target.rules.items():
        schema = onnx.defs.get_schema(op_type, LAST_OPSET)
        assert all(index < schema.max_input for index in rule.inputs or ()), op_type
        assert set(rule.attributes) <= set(schema.attributes), op_type
        for name, value in rule.attributes.items():
            default = onnx.helper.get_attribute_value(schema.attributes[name].default_value)
            assert default == (value.encode() if isinstance(value, str) else value), op_type
        assert 10 <= rule.min_opset <= target.min_opset or op_type == "MaxPool"
        if rule.role == "same":
            assert rule.inputs == (0,)
    for op_type in (*target.activations, *target.requantizes):
        onnx.defs.get_schema(op_type, LAST_OPSET)
    weighted = {name for name, rule in target.rules.items() if rule.role == "weighted"}
    known = {"Conv", "MatMul"} <= weighted <= {"Conv", "MatMul", "Gemm"}
    assert known or (target.name, weighted) == ("coreml", set())
    assert target.min_opset == 13  # the first DequantizeLinear with an axis


def test_the_generic_target_promises_only_what_onnx_does() -> None:
    generic = targets.find("generic")
    assert generic.saturates
    assert set(generic.rules) < set(targets.find("x86-vnni").rules)
    assert not {"Gemm", "Add", "Mul", "Concat", "Sigmoid"} & set(generic.rules)


def test_only_x86_without_vnni_saturates_among_machines() -> None:
    assert {name for name, each in TARGETS.items() if each.saturates} == {"x86-avx2", "generic"}


@pytest.mark.skipif(not host.cpu_flags(), reason="the system does not list CPU flags")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86-64")
def test_the_probe_agrees_with_the_flags() -> None:
    exact = {"avx512_vnni", "avx_vnni"} & host.cpu_flags()
    assert host.saturates() is not bool(exact)


@pytest.mark.parametrize(
    ("machine", "saturates", "name"),
    [
        ("x86_64", True, "x86-avx2"),
        ("AMD64", False, "x86-vnni"),
        ("aarch64", False, "arm-dotprod"),
        ("arm64", True, "arm-dotprod"),
        ("riscv64", False, "generic"),
        ("", False, "generic"),
    ],
)
@pytest.mark.usefixtures("fresh")
def test_the_host_is_known_by_architecture_and_arithmetic(
    monkeypatch: pytest.MonkeyPatch, machine: str, saturates: bool, name: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(host, "saturates", lambda: saturates)
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"asimd", "asimddp"}))
    assert host.host_name() == name
    assert targets.find("host").name == name


@pytest.mark.usefixtures("fresh")
def test_an_arm_whose_flags_do_not_tell_has_no_dot_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(host, "cpu_flags", frozenset)
    assert host.host_name() == "arm"


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("host", False), ("x86-vnni", False), ("x86-avx2", False), ("generic", False),
        ("arm", True), ("openvino", True), ("web", True), ("tensorrt", True),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("fresh")
def test_times_of_this_machine_are_not_those_of_another_one_or_of_another_runtime(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(host, "saturates", lambda: False)
    assert targets.elsewhere(targets.find(name)) is there


def test_names_and_flags_are_read_from_the_kernels_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu avx2 avx_vnni\n\n")
    monkeypatch.setattr(host, "_CPUINFO", listed)
    assert host.cpu_name() == "A CPU: fast"
    assert host.cpu_flags() == {"fpu", "avx2", "avx_vnni"}
    listed.write_text("Features : asimd asimddp\n")
    assert host.cpu_flags() == {"asimd", "asimddp"}
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "absent")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "loongarch64")
    assert host.cpu_flags() == frozenset()
    assert host.cpu_name() == "loongarch64"


_EMULATING = [each for each in TARGETS.values() if each.emulates and each.name != "xnnpack"]


@pytest.mark.parametrize("target", _EMULATING, ids=lambda each: each.name)
def test_no_target_of_onnxruntime_computes_on_four_bits(target: targets.Target) -> None:
    assert {*target.weight_types, *target.activation_types} <= set(CODE_TYPES)
    conv = target.rules["Conv"]
    assert not conv.computes("int4", "uint8") and not conv.computes("int8", "uint4")
    assert not target.refuses(conv, "int4", "uint4"), "it runs them in floats"
    assert not conv.computes("int8", "uint16") and not target.refuses(conv, "int8", "uint16")
    phone = replace(conv, weight_types=("int8", "int4"))
    assert phone.computes("int4", "uint8") and not phone.computes("int4", "int4")
    assert target.rules["MaxPool"].computes("int4", "uint8"), "it has no weight"


def test_the_codes_of_a_target_are_those_of_its_layers_and_then_the_emulated() -> None:
    rules = {
        "Conv": targets.OpRule("weighted", weight_types=("int8",), activation_types=("int8",)),
        "MatMul": targets.OpRule("weighted", weight_types=("int4",), activation_types=("uint16",)),
        "Add": targets.OpRule("integer", activation_types=("uint8",)),
    }
    npu = targets.Target(
        "npu", "", "any machine", saturates=False, rules=rules, emulates=("int4", "uint4")
    )
    assert npu.weight_types == ("int8", "int4", "uint4")
    assert npu.activation_types == ("int8", "uint16", "int4", "uint4")


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_a_symmetric_target_takes_no_unsigned_activations(target: targets.Target) -> None:
    unsigned = {name for name, codes in CODE_TYPES.items() if codes.qmin == 0}
    for rule in target.rules.values() if target.symmetric else ():
        assert not unsigned & set(rule.activation_types)


def test_rules_without_a_kernel_only_move_values() -> None:
    rules = targets.find("x86-vnni").rules
    same = {name for name, rule in rules.items() if rule.role == "same"}
    moving = {name for name in same if moves_data(onnx.helper.make_node(name, ["x"], ["y"]))}
    assert same - moving == {"MaxPool", "Resize", "ReduceMax"}
    assert {name for name, rule in rules.items() if not rule.pays} == {
        "ReduceMax",
        "Softmax",
        "Where",
    }


@pytest.mark.parametrize(
    ("name", "codes", "refused"),
    [
        ("xnnpack", {("int8", "int8")}, {("int8", "uint8"), ("uint8", "int8")}),
        ("nnapi", {("int8", "uint8"), ("uint8", "uint8")}, {("int8", "int8")}),
        ("qnn", {("int8", "uint8"), ("int8", "uint16"), ("int4", "uint16")}, {("int8", "int8")}),
        ("tensorrt", {("int8", "int8")}, {("int8", "uint8"), ("uint8", "int8")}),
        ("openvino", {("int8", "uint8"), ("int8", "int8")}, {("int8", "uint16")}),
        ("web", {("int8", "uint8"), ("int8", "int8")}, {("int4", "uint8")}),
    ],
)
def test_a_convolution_is_taken_of_the_codes_that_the_sources_name(
    name: str, codes: set[tuple[CodeName, CodeName]], refused: set[tuple[CodeName, CodeName]]
) -> None:
    conv = targets.find(name).rules["Conv"]
    assert all(conv.computes(*each) for each in codes)
    assert not any(conv.computes(*each) for each in refused)


def test_coreml_takes_no_quantized_layer_and_qnn_and_tensorrt_none_of_ranges_at_run_time() -> None:
    coreml = targets.find("coreml")
    assert (coreml.rules, coreml.weight_types, coreml.activation_types) == ({}, (), ())
    assert {name for name, each in TARGETS.items() if not each.calls} == {
        "qnn", "coreml", "openvino", "tensorrt",
    }  # fmt: skip
    biases = {name: each.bias for name, each in TARGETS.items() if each.bias != "int32"}
    assert biases == {
        "arm": "int32+zero", "arm-dotprod": "int32+zero", "xnnpack": "int32+zero",
        "nnapi": "int32+zero", "tensorrt": "float",
    }  # fmt: skip
