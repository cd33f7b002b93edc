"""Probabilistic ensemble: E networks that each predict a Gaussian over the change of the learned entries.

PETS (Chua et al. 2018). The spread within a member is what the world does not repeat (aleatoric), the
spread between members is what the data do not tell (epistemic). This file is the model as planners use it:
numpy arrays and a compiled rollout, no torch. `ensemble_training` fits it.
"""

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.models import ensemble_jacobian, ensemble_kernel
from mbrl_ros.models.base import LearnedModel
from mbrl_ros.models.layout import StateLayout

WEIGHTS = ("w_in", "b_in", "w_hidden", "b_hidden", "w_out", "b_out")
SCALES = ("feature_mean", "feature_std", "target_mean", "target_std")
BOUNDS = ("log_var_low", "log_var_high")


@dataclass(frozen=True)
class EnsembleConfig:
    """Settings of the ensemble and its training."""

    members: int = option(5, "networks in the ensemble", low=1, high=100)
    layers: int = option(2, "hidden layers of each network", low=1, high=10)
    width: int = option(64, "units of each hidden layer", low=1, high=2048)
    learning_rate: float = option(5e-3, "first step size of Adam, falling along a cosine", low=1e-7, high=1.0)
    weight_decay: float = option(1e-4, "weight of the squared weights in the loss", low=0.0, high=10.0)
    batch_size: int = option(64, "transitions in a minibatch", low=1, high=100_000)
    steps: int = option(600, "gradient steps of a fit from scratch", low=1, high=1_000_000)
    refit_steps: int = option(300, "gradient steps of a refit that starts from the last model", low=1, high=1_000_000)
    beta: float = option(0.5, "0 is the plain likelihood, 1 weights errors like least squares", low=0.0, high=1.0)
    mirror: bool = option(False, "the robot is symmetric: all signs of a motion reversed give another possible motion")

    bootstrap: bool = option(False, "every member learns from a resample of its own, which stays when data are added")
    holdout: float = option(
        0.0, "share of the trajectories that is only judged by, not learned from", low=0.0, high=0.9
    )
    patience: int = option(
        0,
        "steps without a better held-out likelihood that end the training, best weights kept; 0 never",
        low=0,
        high=1_000_000,
    )
    elites: int = option(0, "members that plan, those of best held-out likelihood; 0 is all", low=0, high=100)
    loss_horizon: int = option(
        1, "periods a member is rolled out for in the loss; 1 is the one-step likelihood", low=1, high=100
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.elites > self.members:
            raise ConfigError(f"elites: {self.elites} is not allowed; expected at most members, {self.members}")

    @property
    def planning(self) -> int:
        """Members that plan."""
        return self.elites or self.members


@dataclass(frozen=True)
class ProbabilisticEnsemble(LearnedModel):
    """A fitted ensemble.

    Attributes:
        layout: meaning of the state entries.
        arrays: float32 arrays by name: WEIGHTS (networks leading; w_hidden (E, layers - 1, width, width)),
            SCALES of the normaliser, BOUNDS of the log-variance (ny,). All networks are there, since a refit goes on
            from all of them; the optional `elites` are the indices of those that plan, the members.
    """

    name = "probabilistic_ensemble"
    config_class: ClassVar[type] = EnsembleConfig
    array_shapes = MappingProxyType(
        {
            "w_in": "members features width",
            "b_in": "members width",
            "w_hidden": "members further_layers* width width",
            "b_hidden": "members further_layers* width",
            "w_out": "members width outputs",
            "b_out": "members outputs",
            "feature_mean": "features",
            "feature_std": "features",
            "target_mean": "learned",
            "target_std": "learned",
            "log_var_low": "learned",
            "log_var_high": "learned",
        }
    )
    optional_shapes = MappingProxyType({"elites": "elites"})
    array_type = np.float32
    positive_arrays = ("feature_std", "target_std")
    adaptable = True

    @classmethod
    def example(cls, layout: StateLayout, config: Any, rng: np.random.Generator) -> Self:
        """A model of the configured size with random weights, to compile and to measure with before there are data."""
        ny = len(layout.learned)
        sizes = {"members": config.planning, "width": config.width, "further_layers*": config.layers - 1}
        sizes |= {"features": layout.n_features, "outputs": 2 * ny, "learned": ny}
        shapes = {k: [sizes[d] for d in v.split()] for k, v in cls.array_shapes.items()}
        arrays = {k: np.zeros(shape, np.float32) for k, shape in shapes.items()}
        for name in ("w_in", "w_hidden", "w_out"):
            arrays[name] = (rng.standard_normal(shapes[name]) / np.sqrt(shapes[name][-2])).astype(np.float32)
        for name in ("feature_std", "target_std"):
            arrays[name] = np.ones(shapes[name], np.float32)
        arrays["log_var_low"] -= 10.0
        return cls(layout, arrays)

    @property
    def members(self) -> int:
        """Number of members E: networks that plan."""
        return len(self._planning["w_in"])

    @cached_property
    def _planning(self) -> dict[str, np.ndarray]:
        """WEIGHTS of the networks that plan."""
        return {k: self.arrays[k][self._chosen] for k in WEIGHTS}

    @property
    def _chosen(self) -> slice | np.ndarray:
        """Which networks plan."""
        if "elites" not in self.arrays:
            return slice(None)
        # What came over the network may hold any number; a kernel does not look where it reads.
        return np.clip(self.arrays["elites"], 0, len(self.arrays["w_in"]) - 1).astype(int)

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        net, scale, bounds, index = self._constants
        net = net if noise.shape[1] else self._mean_net
        dt = np.float32(self.layout.dt)
        ensemble_kernel.rollout(actions, noise, members, net, scale, bounds, index, dt, out)

    @cached_property
    def _mean_net(self) -> tuple:
        """The networks without the outputs that only the noise needs."""
        *hidden, w_out, b_out = self._constants[0]
        ny = len(self.layout.learned)
        return (*hidden, np.ascontiguousarray(w_out[..., :ny]), np.ascontiguousarray(b_out[..., :ny]))

    @cached_property
    def _constants(self) -> tuple:
        """What the kernel needs of the model, gathered once."""
        a, layout = self.arrays, self.layout
        return (
            tuple(self._planning.values()),
            (a["feature_mean"], 1.0 / a["feature_std"], a["target_mean"], a["target_std"]),
            tuple(a[k] for k in BOUNDS),
            (np.flatnonzero(layout.angle_mask), layout.derivative_index, layout.learned),
        )

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LearnedModel.predict_member`."""
        a, ny = self.arrays, len(self.layout.learned)
        features = self.layout.features(x, u).astype(np.float32)
        features = np.ascontiguousarray((features - a["feature_mean"]) / a["feature_std"])
        heads = np.empty((len(features), 2 * ny), np.float32)
        h1, h2 = (np.empty((len(features), a["w_in"].shape[2]), np.float32) for _ in range(2))
        w_in, b_in, w_hidden, b_hidden, w_out, b_out = (w[member] for w in self._planning.values())
        ensemble_kernel.forward(features, w_in, b_in, w_hidden, b_hidden, w_out, b_out, h1, h2, heads)
        mean = heads[:, :ny] * a["target_std"] + a["target_mean"]
        low, high = a["log_var_low"], a["log_var_high"]
        log_var = high - np.logaddexp(0, high - heads[:, ny:])
        log_var = low + np.logaddexp(0, log_var - low)
        return mean, np.exp(0.5 * log_var) * a["target_std"]

    def basis(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """See `LearnedModel.basis`: the last hidden layer of every member, and one."""
        a = self.arrays | self._planning
        features = self.layout.features(x, u).astype(np.float32)
        features = np.ascontiguousarray((features - a["feature_mean"]) / a["feature_std"])
        networks, _, width = a["w_in"].shape
        out = np.ones((networks, len(features), width + 1))
        h1, h2 = np.empty((2, len(features), width), np.float32)
        for e in range(networks):
            w_in, b_in, w_hidden, b_hidden = (a[k][e] for k in WEIGHTS[:4])
            out[e, :, :-1] = ensemble_kernel.last_hidden(features, w_in, b_in, w_hidden, b_hidden, h1, h2)
        return out

    def with_output_change(self, weights: np.ndarray) -> Self:
        """See `LearnedModel.with_output_change`."""
        a, ny = self.arrays, len(self.layout.learned)
        w_out, b_out = a["w_out"].copy(), a["b_out"].copy()
        w_out[self._chosen, :, :ny] += weights[:, :-1]
        b_out[self._chosen, :ny] += weights[:, -1]
        return self.with_arrays(w_out=w_out, b_out=b_out)

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the mean over the members: x (B, nx), u (B, nu) -> (B, nx)."""
        return ensemble_jacobian.step(self._constants, self.layout.dt, x, u)

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step` in closed form: A (B, nx, nx), B (B, nx, nu)."""
        return ensemble_jacobian.linearize(self._constants, self.layout.dt, x, u)

    @property
    def difference_steps(self) -> np.ndarray:
        """A hundredth of each entry's spread in the data; networks run in float32, and shorter ones meet rounding."""
        angles = len(self.layout.angles)
        spread = np.delete(self.arrays["feature_std"], slice(self.nx, self.nx + angles)).astype(float)
        return 0.01 * np.where(np.append(self.layout.angle_mask, [False] * self.nu), 1.0, spread)

    def rollout_feedback(
        self,
        nominal: tuple[np.ndarray, np.ndarray],
        policy: tuple[np.ndarray, np.ndarray],
        alphas: np.ndarray,
        limits: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion of the mean under feedback, see `AnalyticDynamics.rollout_feedback`."""
        return ensemble_jacobian.rollout_feedback(self._constants, self.layout.dt, nominal, policy, alphas, limits)
