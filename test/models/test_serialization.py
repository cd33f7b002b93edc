"""Model bytes: what is written comes back, and nothing else is ever taken for a model."""

import dataclasses
import hashlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.errors import ModelRejectedError, UnknownNameError
from mbrl_ros.models import MODELS, model_class
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.probabilistic_ensemble import ProbabilisticEnsemble
from mbrl_ros.models.serialization import MAX_HEADER, from_bytes, to_bytes

ROBOT = "cartpole"
LAYOUT = StateLayout(
    state=("p", "theta", "v", "omega"),
    action=("force",),
    angles=("theta",),
    velocity_of={"p": "v", "theta": "omega"},
    dt=0.05,
)
SHAPES = {
    "w_in": (3, 6, 8),
    "b_in": (3, 8),
    "w_hidden": (3, 1, 8, 8),
    "b_hidden": (3, 1, 8),
    "w_out": (3, 8, 4),
    "b_out": (3, 4),
    "feature_mean": (6,),
    "feature_std": (6,),
    "target_mean": (2,),
    "target_std": (2,),
    "log_var_low": (2,),
    "log_var_high": (2,),
}


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {k: np.abs(rng.standard_normal(s)).astype(np.float32) + 0.1 for k, s in SHAPES.items()}


MODEL = ProbabilisticEnsemble(LAYOUT, arrays())
DATA = to_bytes(MODEL, version=7, data_size=123, robot=ROBOT)


def header_of(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def signed(header: dict, body: bytes) -> bytes:
    """A file with any content but a right checksum: the format as its documentation says, written independently."""
    header["__metadata__"]["sha256"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    data = len(text).to_bytes(8, "little") + text + body
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def with_metadata(**changes) -> bytes:
    header, body = header_of(DATA)
    header["__metadata__"] |= changes
    return signed(header, body)


def with_arrays(**changes) -> bytes:
    """A file of changed arrays with a right checksum; None leaves one out."""
    kept = {k: a for k, a in (arrays() | changes).items() if a is not None}
    names = {np.dtype("f4"): "F32", np.dtype("f8"): "F64", np.dtype("i8"): "I64"}
    header, body = {"__metadata__": header_of(DATA)[0]["__metadata__"]}, b""
    for name, a in kept.items():
        header[name] = {"dtype": names[a.dtype], "shape": a.shape, "data_offsets": [len(body), len(body) + a.nbytes]}
        body += a.tobytes()
    return signed(header, body)


def rejection(data: bytes, robot: str = ROBOT, layout: StateLayout = LAYOUT) -> str:
    with pytest.raises(ModelRejectedError) as caught:
        from_bytes(data, robot, layout)
    return str(caught.value)


def test_round_trip_gives_the_same_model():
    model, header = from_bytes(DATA, ROBOT, LAYOUT)
    assert (header.kind, header.robot, header.version, header.data_size) == ("probabilistic_ensemble", ROBOT, 7, 123)
    assert model.layout == LAYOUT and set(model.arrays) == set(SHAPES)
    for name, array in MODEL.arrays.items():
        np.testing.assert_array_equal(model.arrays[name], array)
        assert model.arrays[name].flags.writeable, "read-only arrays would make the compiled rollout compile again"
    x, u = np.ones((5, 4)), np.ones((5, 1))
    np.testing.assert_array_equal(model.predict(x, u)[0], MODEL.predict(x, u)[0])


def test_a_file_signed_by_the_test_is_read():
    assert from_bytes(with_metadata(), ROBOT, LAYOUT)[1].version == 7
    assert from_bytes(with_arrays(), ROBOT, LAYOUT)[1].version == 7


def test_same_model_gives_the_same_bytes_also_in_another_process():
    code = "import sys, test_serialization as t; sys.stdout.buffer.write(t.DATA)"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=__file__.rpartition("/")[0]
    )
    assert other.stdout == DATA


def test_other_tools_can_read_it(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "model.safetensors"
    path.write_bytes(DATA)
    with safe_open(path, framework="np") as file:
        assert file.metadata()["robot"] == ROBOT
        np.testing.assert_array_equal(file.get_tensor("w_in"), MODEL.arrays["w_in"])


def test_transposed_arrays_are_written_as_they_read():
    model = ProbabilisticEnsemble(LAYOUT, arrays() | {"w_in": np.asfortranarray(arrays()["w_in"])})
    assert to_bytes(model, 7, 123, ROBOT) == DATA


def test_a_single_layer_has_an_empty_array():
    flat = {"w_hidden": np.zeros((3, 0, 8, 8), np.float32), "b_hidden": np.zeros((3, 0, 8), np.float32)}
    data = to_bytes(ProbabilisticEnsemble(LAYOUT, arrays() | flat), 1, 1, ROBOT)
    assert from_bytes(data, ROBOT, LAYOUT)[0].arrays["w_hidden"].shape == (3, 0, 8, 8)


def test_every_single_byte_counts():
    """Exhaustive over positions: each byte of the file with one bit flipped is refused."""
    for i in range(len(DATA)):
        flipped = bytearray(DATA)
        flipped[i] ^= 1 << (i % 8)
        rejection(bytes(flipped))


@settings(max_examples=1500, deadline=None)
@given(flips=st.dictionaries(st.integers(0, len(DATA) - 1), st.integers(1, 255), min_size=1, max_size=8))
def test_flipped_bytes_are_refused(flips):
    data = bytearray(DATA)
    for place, mask in flips.items():
        data[place] ^= mask
    rejection(bytes(data))


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 500), st.booleans())
def test_random_bytes_are_refused(noise, length, with_length):
    rejection(length.to_bytes(8, "little") + noise if with_length else noise)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.binary(max_size=20), st.integers(0, 20))
def test_truncated_and_spliced_bytes_are_refused(place, inserted, removed):
    rejection(DATA[:place])
    spliced = DATA[:place] + inserted + DATA[place + removed :]
    if spliced != DATA:
        rejection(spliced)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=1000, deadline=None)
@given(
    where=st.sampled_from(["metadata", "w_in", "dtype", "shape", "data_offsets", "kind", "version", "layout"]),
    value=json_values,
)
def test_any_value_under_a_right_checksum_raises_nothing_else(where, value):
    header, body = header_of(DATA)
    if where == "w_in":
        header["w_in"] = value
    elif where in ("dtype", "shape", "data_offsets"):
        header["w_in"][where] = value
    elif where == "metadata":
        header["__metadata__"] |= value if isinstance(value, dict) else {"robot": value}
    else:
        header["__metadata__"][where] = value
    try:
        model, _ = from_bytes(signed(header, body), ROBOT, LAYOUT)
    except ModelRejectedError:
        return
    np.testing.assert_array_equal(model.arrays["w_in"], MODEL.arrays["w_in"])


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a complete safetensors file"),
        (b"1234567", "not a complete safetensors file"),
        ((10**15).to_bytes(8, "little") + b"{}", "not a complete safetensors file"),
        ((MAX_HEADER + 1).to_bytes(8, "little") + b" " * (MAX_HEADER + 9), "not a complete safetensors file"),
        (bytes(8) + b"{}", "not a complete safetensors file"),
        ((2).to_bytes(8, "little") + b"{}", "header"),
        ((3).to_bytes(8, "little") + b"[1]", "header"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "header"),
        ((19).to_bytes(8, "little") + b'{"__metadata__":{}}', "metadata lack"),
        (pickle.dumps({"w_in": 1}), "not a complete safetensors file"),
    ],
)
def test_what_is_no_model_file_is_named(data, message):
    assert message in rejection(data)


def test_a_plain_safetensors_file_is_refused():
    from safetensors.numpy import save

    assert "header" in rejection(save(arrays()))
    assert "metadata lack" in rejection(save(arrays(), {"kind": "probabilistic_ensemble"}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "2"}, "format 2"),
        (
            {"kind": "crystal_ball"},
            "unknown model 'crystal_ball'; choose one of: ",
        ),
        ({"robot": "walker"}, "robot 'walker', not 'cartpole'"),
        ({"version": "-1"}, "version is '-1'"),
        ({"data_size": "many"}, "data_size is 'many'"),
        ({"version": "9" * 5000}, "version"),
        ({"layout": "{"}, "layout is damaged"),
        ({"layout": "[" * 100_000}, "layout is damaged"),
        ({"layout": "[]"}, "layout is damaged"),
        ({"layout": "{}"}, "layout has state None"),
    ],
)
def test_wrong_metadata_under_a_right_checksum(changes, message):
    assert message in rejection(with_metadata(**changes))


def test_another_robot_is_refused():
    assert "robot 'cartpole', not 'walker'" in rejection(DATA, robot="walker")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dt": 0.02}, "dt 0.05, the robot has 0.02"),
        ({"state": ("theta", "p", "v", "omega")}, "state"),
        ({"action": ("torque",)}, "action ['force'], the robot has ['torque']"),
        ({"angles": ()}, "angles"),
        ({"velocity_of": {"p": "v"}}, "velocity_of"),
    ],
)
def test_another_layout_is_refused(change, message):
    assert message in rejection(DATA, layout=dataclasses.replace(LAYOUT, **change))


F32 = np.float32
BAD_ARRAYS = [
    ({"w_in": None}, "has the arrays"),
    ({"extra": np.ones(1, F32)}, "has the arrays"),
    ({"b_in": np.full((3, 8), np.nan, F32)}, "b_in is not finite"),
    ({"w_out": np.full((3, 8, 4), -np.inf, F32)}, "w_out is not finite"),
    ({"b_in": np.ones((3, 8))}, "b_in is float64; expected float32"),
    ({"b_in": np.ones((3, 8), np.int64)}, "b_in is int64"),
    ({"b_in": np.ones((2, 8), F32)}, "b_in has shape [2, 8]; expected members x width"),
    ({"b_in": np.ones((3, 8, 1), F32)}, "b_in has shape [3, 8, 1]"),
    ({"w_in": np.ones((3, 5, 8), F32)}, "w_in has shape [3, 5, 8]; expected members x features x width"),
    ({"w_hidden": np.ones((3, 2, 8, 8), F32)}, "b_hidden has shape"),
    ({"target_mean": np.ones(3, F32)}, "target_mean has shape [3]; expected learned"),
    ({"feature_std": np.zeros(6, F32)}, "feature_std must be positive"),
    ({"w_in": np.ones((0, 6, 8), F32)}, "w_in has shape [0, 6, 8]"),
]


@pytest.mark.parametrize("changes, message", BAD_ARRAYS)
def test_wrong_arrays_under_a_right_checksum(changes, message):
    assert message in rejection(with_arrays(**changes))


@pytest.mark.parametrize("changes, message", BAD_ARRAYS)
def test_wrong_arrays_are_not_written_either(changes, message):
    bad = ProbabilisticEnsemble(LAYOUT, {k: a for k, a in (arrays() | changes).items() if a is not None})
    with pytest.raises(ModelRejectedError) as caught:
        to_bytes(bad, 1, 1, ROBOT)
    assert message in str(caught.value)


def test_every_registered_model_declares_what_reading_needs():
    for name in MODELS:
        cls = model_class(name)
        assert cls.name == name and cls.array_shapes and set(cls.positive_arrays) <= set(cls.array_shapes)
    with pytest.raises(UnknownNameError, match="probabilistic_ensemble"):
        model_class("crystal_ball")


def test_the_package_of_models_is_cheap_to_import():
    code = "import sys, mbrl_ros.models.layout; print([m for m in ('torch', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
