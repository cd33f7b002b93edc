"""Physics: equations of motion whose few named parameters are learned (system identification).

The equation is one of `equations.EQUATIONS`; members are parameters drawn from their posterior. Unlike other models it
integrates positions by the equation itself (Runge-Kutta), which over one control period agrees with the trapezoidal
rule of the layout to third order. `physics_training` fits it.
"""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError, ModelRejectedError
from mbrl_ros.models import equations, physics_kernel
from mbrl_ros.models.analytic import INTEGRATORS, AnalyticDynamics
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout

MOST_SUBSTEPS = 1000


@dataclass(frozen=True)
class PhysicsConfig:
    """Settings of the physics model and its fit."""

    equation: str = option("", "registered equation, or package.module:object; empty: by the names of the joints")
    members: int = option(5, "parameters drawn from the posterior; 1 is the most probable", low=1, high=100)
    substeps: int = option(2, "integration steps in one control period", low=1, high=MOST_SUBSTEPS)
    window: int = option(20, "control periods of an unbroken prediction in the fit", low=1, high=10_000)
    iterations: int = option(30, "most steps of each search for the parameters", low=1, high=10_000)
    outlier: float = option(
        3.3, "standard deviations off the fit from which a measurement counts less and less", low=1.0, high=1e9
    )
    max_data: int = option(2000, "most transitions fitted to, in windows spread over all data", low=1, high=1_000_000)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Physics(LearnedModel):
    """Equations with learned parameters.

    Attributes:
        layout: meaning of the state entries.
        arrays: float64 arrays by name: most probable parameters (n_p,), those of the members `draws` (E, n_p),
            `noise_std` of the learned entries' change (ny,), `substeps` (1,), and the registered name of the equation
            as the code points of its letters.
    """

    name = "physics"
    config_class = PhysicsConfig
    array_shapes = MappingProxyType(
        {
            "equation": "letters",
            "substeps": "one",
            "parameters": "parameters",
            "draws": "members parameters",
            "noise_std": "learned",
        }
    )
    array_type = np.float64
    positive_arrays = ("noise_std", "substeps", "equation")

    @classmethod
    def example(cls, layout: StateLayout, config: PhysicsConfig, rng: np.random.Generator) -> "Physics":
        """A model with random parameters near their first guess, to compile and to measure with."""
        name = equations.resolved(config.equation, layout)
        equation = equations.load(name, layout)
        z = equation.unbounded(equation.start)
        off = 1e-3 * rng.standard_normal((config.members, len(z)))
        draws = equation.natural(z + off - off.mean(axis=0))
        return cls(layout, packed(name, config.substeps, equation.start, draws, np.full(len(layout.learned), 0.01)))

    @classmethod
    def check(cls, layout: StateLayout, arrays: dict[str, np.ndarray]) -> None:
        """See `LearnedModel.check`: the equation must be known here, its parameters as many as it has."""
        try:
            equation = equations.load(text(arrays["equation"]), layout)
        except (ConfigError, ValueError, OverflowError) as error:
            raise ModelRejectedError(f"the model's equation: {error}") from None
        if len(equation.parameters) != len(arrays["parameters"]):
            raise ModelRejectedError(f"the model's parameters are not {', '.join(equation.names)}")
        low, high = np.array([(p.low, p.high) for p in equation.parameters]).T
        for name in ("parameters", "draws"):
            if not np.all((arrays[name] >= low) & (arrays[name] <= high)):
                raise ModelRejectedError(f"the model's {name} are outside the bounds of its equation")
        if not 1 <= arrays["substeps"][0] <= MOST_SUBSTEPS or arrays["substeps"].shape != (1,):
            raise ModelRejectedError(f"the model's substeps are {arrays['substeps']}; expected 1 to {MOST_SUBSTEPS}")

    @cached_property
    def equation(self) -> equations.Equation:
        """The equation that the parameters belong to."""
        return equations.load(text(self.arrays["equation"]), self.layout)

    @property
    def members(self) -> int:
        """Number of members E."""
        return len(self.arrays["draws"])

    @cached_property
    def _dynamics(self) -> AnalyticDynamics:
        """The equation over controls w = (u, p)."""
        return dynamics(self.equation, self.layout, int(self.arrays["substeps"][0]))

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        f, rates, std = equations.augmented(self.equation), self.layout.derivative_index, np.zeros(self.nx)
        std[self.layout.learned] = self.arrays["noise_std"]
        method = (INTEGRATORS["rk4"], float(self.layout.dt), int(self.arrays["substeps"][0]))
        actions = np.ascontiguousarray(actions, np.float32)
        draws = np.ascontiguousarray(self.arrays["draws"])
        physics_kernel.rollout(f, method, actions, noise, members, draws, std, rates, out)

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict_member`; the same noise everywhere."""
        ahead = self._dynamics.step(x, joined(u, self.arrays["draws"][member]))
        mean = self.layout.targets(np.asarray(x, float), ahead)
        return mean, np.broadcast_to(self.arrays["noise_std"], mean.shape)

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the most probable parameters: x (B, nx), u (B, nu) -> (B, nx)."""
        return self._dynamics.step(x, joined(u, self.arrays["parameters"]))

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step`, to rounding: A (B, nx, nx), B (B, nx, nu)."""
        A, B = self._dynamics.linearize(x, joined(u, self.arrays["parameters"]))
        return A, B[..., : self.nu]

    def hessian(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivatives of `step`: (B, nx, nx + nu, nx + nu)."""
        n = self.nx + self.nu
        return self._dynamics.hessian(x, joined(u, self.arrays["parameters"]))[..., :n, :n]

    def rollout_feedback(
        self,
        nominal: tuple[np.ndarray, np.ndarray],
        policy: tuple[np.ndarray, np.ndarray],
        alphas: np.ndarray,
        limits: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion of `step` under feedback, see `AnalyticDynamics.rollout_feedback`; the parameters have no gain."""
        p = self.arrays["parameters"]
        (x_hat, u_hat), (k, K) = nominal, policy
        still = np.zeros((len(k), len(p)))
        gains = np.concatenate([K, np.zeros((len(k), len(p), self.nx))], axis=1)
        bounds = (joined(limits[0], p), joined(limits[1], p))
        policy = (np.concatenate([k, still], axis=1), gains)
        states, w = self._dynamics.rollout_feedback((x_hat, joined(u_hat, p)), policy, alphas, bounds)
        return states, np.ascontiguousarray(w[..., : self.nu])


def dynamics(equation: equations.Equation, layout: StateLayout, substeps: int) -> AnalyticDynamics:
    """Dynamics over controls w = (u, p), by Runge-Kutta."""
    controls = layout.nu + len(equation.parameters)
    return AnalyticDynamics(equations.augmented(equation), layout.nx, controls, layout.dt, substeps=substeps)


def joined(u: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Controls w = (u, p): u (..., nu), p (n_p,) -> (..., nu + n_p)."""
    return np.concatenate([u, np.broadcast_to(p, (*np.shape(u)[:-1], len(p)))], axis=-1)


def text(letters: np.ndarray) -> str:
    """A string from the code points of its letters."""
    return "".join(chr(int(c)) for c in letters)


def packed(
    name: str, substeps: int, parameters: np.ndarray, draws: np.ndarray, noise_std: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of a `Physics`."""
    return {
        "equation": np.array([float(ord(c)) for c in name]),
        "substeps": np.array([float(substeps)]),
        "parameters": parameters,
        "draws": draws,
        "noise_std": noise_std,
    }
