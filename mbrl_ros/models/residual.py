"""Physics plus a learned rest: known equations predict, another model learns what they leave.

    v' = v + physics(x, u) + rest(x, u)

The physics comes first and takes all it can; the rest is any other model, fitted to what is left. Members pair one draw
of the parameters with one member of the rest; what the world does not repeat is the rest's noise. Each combination is a
class of its own, so that a received model's name says which arrays it must have. `residual_training` fits them.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from mbrl_ros.errors import ModelRejectedError
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.physics import Physics, PhysicsConfig

PHYSICS, REST = "physics.", "rest."  # prefixes of the arrays


def combined_shapes(rest: Any) -> MappingProxyType:
    """Shapes of the arrays of physics and a rest; both have the same members."""
    shapes = {PHYSICS + k: v for k, v in Physics.array_shapes.items()}
    return MappingProxyType(shapes | {REST + k: v for k, v in rest.array_shapes.items()})


def combined_optional(rest: Any) -> MappingProxyType:
    """Shapes of the arrays that the rest may have."""
    return MappingProxyType({REST + k: v for k, v in rest.optional_shapes.items()})


def combined_positive(rest: Any) -> tuple[str, ...]:
    """Arrays that must be positive."""
    return (*(PHYSICS + k for k in Physics.positive_arrays), *(REST + k for k in rest.positive_arrays))


def part(arrays: dict[str, np.ndarray], prefix: str, kind: Any) -> dict[str, np.ndarray]:
    """The arrays of one part, without its prefix and in its own type."""
    return {k.removeprefix(prefix): a.astype(kind, copy=False) for k, a in arrays.items() if k.startswith(prefix)}


def of_class(config: Any, cls: type) -> Any:
    """The settings that a combination's config shares with `cls`."""
    return cls(**{f.name: getattr(config, f.name) for f in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class ResidualModel(LearnedModel):
    """A physics model and the model of its rest; subclasses name the rest's class.

    Attributes:
        layout: meaning of the state entries.
        arrays: those of both, behind the prefixes ``physics.`` and ``rest.``, all of the rest's type.
    """

    rest_class: ClassVar[Any]

    @classmethod
    def of(cls, physics: Physics, rest: LearnedModel) -> Self:
        """A combination of two fitted models with as many members."""
        arrays: dict[str, np.ndarray] = {PHYSICS + k: a.astype(cls.array_type) for k, a in physics.arrays.items()}
        return cls(physics.layout, arrays | {REST + k: a for k, a in rest.arrays.items()})

    @classmethod
    def example(cls, layout: StateLayout, config: Any, rng: np.random.Generator) -> Self:
        """A model of the configured size with random weights, to compile and to measure with."""
        physics = Physics.example(layout, of_class(config, PhysicsConfig), rng)
        return cls.of(physics, cls.rest_class.example(layout, of_class(config, cls.rest_class.config_class), rng))

    @classmethod
    def check(cls, layout: StateLayout, arrays: dict[str, np.ndarray]) -> None:
        """See `LearnedModel.check`."""
        try:
            Physics.check(layout, part(arrays, PHYSICS, Physics.array_type))
        except ModelRejectedError as error:
            raise ModelRejectedError(f"{cls.name}: {error}") from None
        cls.rest_class.check(layout, part(arrays, REST, cls.array_type))

    @cached_property
    def physics(self) -> Physics:
        """The equations."""
        return Physics(self.layout, part(self.arrays, PHYSICS, Physics.array_type))

    @cached_property
    def rest(self) -> Any:
        """The model of what the equations leave."""
        return self.rest_class(self.layout, part(self.arrays, REST, self.array_type))

    @property
    def members(self) -> int:
        """Number of members E: the rest's, of which some may only be there to go on training."""
        return self.rest.members

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict_member`."""
        known, _ = self.physics.predict_member(member, x, u)
        left, std = self.rest.predict_member(member, x, u)
        return known + left, std

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        """One period at a time through both compiled models, all particles at once."""
        after, left = (np.empty((len(out), 2, *out.shape[2:]), np.float32) for _ in range(2))
        none = noise[:, :0]
        for t in range(len(actions)):
            now = slice(t, t + 1)
            after[:, 0] = left[:, 0] = out[:, t]
            who = np.ascontiguousarray(members[:, now])
            self.physics._advance(actions[now], none, who, after)
            self.rest._advance(actions[now], np.ascontiguousarray(noise[:, now]), who, left)
            out[:, t + 1] = after[:, 1] + left[:, 1] - self.coasting(out[:, t])

    def coasting(self, x: np.ndarray) -> np.ndarray:
        """Next states where no learned entry changes: what a model of the rest adds its own part to."""
        return self.layout.integrate(x, np.zeros((*x.shape[:-1], len(self.layout.learned)), x.dtype))

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the most probable parameters and the rest's mean: x (B, nx), u (B, nu) -> (B, nx)."""
        x = np.asarray(x, float)
        return self.physics.step(x, u) + self.rest.step(x, u) - self.coasting(x)

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step`: A (B, nx, nx), B (B, nx, nu)."""
        A, B = self.physics.linearize(x, u)
        A_left, B_left = self.rest.linearize(x, u)
        return A + A_left - self.coasting(np.eye(self.nx)).T, B + B_left

    def hessian(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivatives of `step`: (B, nx, nx + nu, nx + nu)."""
        return self.physics.hessian(x, u) + self.rest.hessian(x, u)
