"""A model as bytes: safetensors with a checksum, never pickle. Reading takes nothing on trust.

Layout of the format: 8 bytes little-endian header length, a JSON header, the arrays. The header's
``__metadata__`` (strings only) holds format, model kind, robot, version, data size, state layout and the SHA-256
of everything: of all bytes with the digest's own 64 characters written as zeros. So no bit can change unnoticed.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from mbrl_ros.errors import ModelRejectedError, UnknownNameError
from mbrl_ros.models import model_class
from mbrl_ros.models.layout import StateLayout

FORMAT = "1"
MAX_HEADER = 1 << 20  # bytes; a header of ours has a few thousand
MAX_BYTES = 1 << 28  # of a whole model; a Gaussian process of 1000 points has 32 MB
MAX_VERSION = 10**9  # far more than a robot's life has models; so no message can use the numbers up
NO_DIGEST = "0" * 64
# Arrays that any model may have; all are positive.
OPTIONAL_SHAPES = {"horizon_scale": "calibrated_periods state", "observation_std": "state"}


@dataclass(frozen=True)
class ModelHeader:
    """What the bytes say about the model in them.

    Attributes:
        kind: key of MODELS.
        robot: name of the robot it was learned from.
        version: counts the models of a run.
        data_size: transitions it was fitted to.
        checksum: SHA-256 in hexadecimal digits.
    """

    kind: str
    robot: str
    version: int
    data_size: int
    checksum: str


def to_bytes(model: Any, version: int, data_size: int, robot: str) -> bytes:
    """Write a model; the same arguments give the same bytes.

    Args:
        model: an object of a class in MODELS.
        version: counts the models of a run, from 0.
        data_size: transitions it was fitted to.
        robot: name of the robot.

    Raises:
        ModelRejectedError: the arrays are not those of a usable model (size, type, not finite).
        UnknownNameError: the model's class is not in MODELS.
    """
    check_arrays(model_class(model.name), model.layout, model.arrays)
    metadata = {
        "format": FORMAT,
        "kind": model.name,
        "robot": robot,
        "version": str(version),
        "data_size": str(data_size),
        "layout": json.dumps(asdict(model.layout), sort_keys=True),
        "sha256": NO_DIGEST,
    }
    data = safetensors.numpy.save({k: np.ascontiguousarray(a) for k, a in model.arrays.items()}, metadata)
    check_size(len(data))
    unsigned = sort_header(data)
    return unsigned.replace(NO_DIGEST.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)


def from_bytes(data: bytes, robot: str, layout: StateLayout) -> tuple[Any, ModelHeader]:
    """Read a model for `robot` with `layout`.

    Raises:
        ModelRejectedError: the bytes are damaged or not a model of ours, or it is one of another robot, layout,
            format or kind, too large, or its arrays are not those of a usable model. The message says which.
    """
    check_size(len(data))
    metadata = verified_metadata(data)
    header = read_header(metadata)
    if header.robot != robot:
        raise ModelRejectedError(f"the model is of robot '{header.robot}', not '{robot}'")
    check_layout(metadata["layout"], layout)
    try:
        cls: Any = model_class(header.kind)
    except UnknownNameError as error:
        raise ModelRejectedError(str(error)) from None
    try:
        # copies are aligned and writable whatever the library hands out: what the compiled rollout was compiled for
        arrays = {name: array.copy() for name, array in safetensors.numpy.load(data).items()}
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelRejectedError(f"the model's arrays cannot be read: {error}") from None
    check_arrays(cls, layout, arrays)
    return cls(layout, arrays), header


def check_size(size: int) -> None:
    """Refuse what is larger than any model of ours, before it is copied or read."""
    if size > MAX_BYTES:
        raise ModelRejectedError(f"a model of {size} bytes; expected at most {MAX_BYTES}")


def header_length(data: bytes) -> int:
    """Length of the JSON header in bytes, known to lie within the data."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 0 < length <= min(MAX_HEADER, len(data) - 8):
        raise ModelRejectedError(f"{len(data)} bytes that are not a complete safetensors file")
    return length


def sort_header(data: bytes) -> bytes:
    """The same safetensors file, its header in one fixed order (the library's differs from call to call)."""
    length = header_length(data)
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def verified_metadata(data: bytes) -> dict[str, str]:
    """The metadata of bytes whose checksum is right."""
    try:
        metadata = json.loads(data[8 : 8 + header_length(data)].decode())["__metadata__"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelRejectedError("the model's header is damaged or not one of ours") from None
    known = ("format", "kind", "robot", "version", "data_size", "layout", "sha256")
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in known):
        raise ModelRejectedError(f"the model's metadata lack one of: {', '.join(known)}")
    digest = metadata["sha256"].encode(errors="replace")
    if len(digest) != len(NO_DIGEST):
        raise ModelRejectedError("the model's checksum is damaged")
    if hashlib.sha256(data.replace(digest, NO_DIGEST.encode(), 1)).hexdigest().encode() != digest:
        raise ModelRejectedError("the model's checksum does not match: the bytes were damaged on their way")
    return metadata


def read_header(metadata: dict[str, str]) -> ModelHeader:
    """The metadata as numbers and names."""
    if metadata["format"] != FORMAT:
        raise ModelRejectedError(f"the model has format {metadata['format']}; this version reads {FORMAT}")
    numbers = {}
    for key in ("version", "data_size"):
        if not (metadata[key].isdecimal() and len(metadata[key]) < 20):
            raise ModelRejectedError(f"the model's {key} is {metadata[key]!r}; expected a whole number")
        numbers[key] = int(metadata[key])
    if numbers["version"] > MAX_VERSION:
        raise ModelRejectedError(f"the model's version is {numbers['version']}; expected at most {MAX_VERSION}")
    return ModelHeader(metadata["kind"], metadata["robot"], checksum=metadata["sha256"], **numbers)


def check_layout(text: str, layout: StateLayout) -> None:
    """Refuse a model whose layout differs; the message says where."""
    expected = json.loads(json.dumps(asdict(layout)))  # tuples become the lists that JSON has
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelRejectedError("the model's layout is damaged")
    for field, value in expected.items():
        if found.get(field) != value:
            raise ModelRejectedError(f"the model's layout has {field} {found.get(field)}, the robot has {value}")


def check_arrays(cls: Any, layout: StateLayout, arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays that are not those of a `cls` for `layout`: names, types, shapes, finite, positive."""
    required, known = set(cls.array_shapes), cls.array_shapes | OPTIONAL_SHAPES | cls.optional_shapes
    if not required <= set(arrays) <= set(known):
        raise ModelRejectedError(f"the model has the arrays {sorted(arrays)}; expected {sorted(required)}")
    ny = len(layout.learned)
    sizes = {"state": layout.nx, "features": layout.n_features, "learned": ny, "outputs": 2 * ny}
    for name in (n for n in known if n in arrays):  # in one order, so that the same bytes get the same message
        array = arrays[name]
        if array.dtype != cls.array_type:
            raise ModelRejectedError(f"the model's {name} is {array.dtype}; expected {np.dtype(cls.array_type)}")
        check_shape(name, array.shape, known[name].split(), sizes)
        if not np.all(np.isfinite(array)):
            raise ModelRejectedError(f"the model's {name} is not finite")
        if name in (*cls.positive_arrays, *OPTIONAL_SHAPES) and not np.all(array > 0):
            raise ModelRejectedError(f"the model's {name} must be positive")
    cls.check(layout, arrays)


def check_shape(name: str, shape: tuple[int, ...], dimensions: list[str], sizes: dict[str, int]) -> None:
    """Compare one shape with its dimensions' names; sizes met for the first time are added to `sizes`."""
    expected = [sizes.setdefault(d, n) for d, n in zip(dimensions, shape, strict=False)]
    empty = any(n == 0 and not d.endswith("*") for d, n in zip(dimensions, shape, strict=False))
    if len(shape) != len(dimensions) or list(shape) != expected or empty:
        raise ModelRejectedError(f"the model's {name} has shape {list(shape)}; expected {' x '.join(dimensions)}")
