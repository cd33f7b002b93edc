"""Probabilistic ensemble: E networks that each predict a Gaussian over the change of the learned entries.

PETS (Chua et al. 2018). The spread within a member is what the world does not repeat (aleatoric), the
spread between members is what the data do not tell (epistemic). This file is the model as planners use it:
numpy arrays and a compiled rollout, no torch. `ensemble_training` fits it.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.models import ensemble_jacobian, ensemble_kernel
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

    def __post_init__(self) -> None:
        validate(self)


@cache
def helpers(count: int) -> ThreadPoolExecutor:
    """Threads that share rollouts with the caller's; made once, since starting one takes as long as a rollout."""
    return ThreadPoolExecutor(count, thread_name_prefix="rollout")


@dataclass(frozen=True)
class ProbabilisticEnsemble:
    """A fitted ensemble.

    Attributes:
        layout: meaning of the state entries.
        arrays: float32 arrays by name: WEIGHTS (members leading; w_hidden (E, layers - 1, width, width)),
            SCALES of the normaliser, BOUNDS of the log-variance (ny,).
        threads: threads that a rollout shares its particles among; the result is the same for any number.
    """

    layout: StateLayout
    arrays: dict[str, np.ndarray]
    threads: int = 1

    name = "probabilistic_ensemble"
    config_class = EnsembleConfig
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
    array_type = np.float32
    positive_arrays = ("feature_std", "target_std")

    @classmethod
    def example(cls, layout: StateLayout, config: EnsembleConfig, rng: np.random.Generator) -> "ProbabilisticEnsemble":
        """A model of the configured size with random weights, to compile and to measure with before there are data."""
        ny = len(layout.learned)
        sizes = {"members": config.members, "width": config.width, "further_layers*": config.layers - 1}
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
    def nx(self) -> int:
        """State entries."""
        return self.layout.nx

    @property
    def nu(self) -> int:
        """Action entries."""
        return self.layout.nu

    @property
    def members(self) -> int:
        """Number of members E."""
        return len(self.arrays["w_in"])

    def rollout(
        self, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None, particles: int
    ) -> np.ndarray:
        """Sampled futures of every candidate; particle p keeps member p mod E (TS-infinity, Chua et al. 2018).

        Args:
            x0: start state (nx,) or one a particle (P, nx).
            actions: candidates (N, H, nu).
            rng: source of the aleatoric noise; None propagates each member's mean.
            particles: P.

        Returns:
            States (P, N, H + 1, nx), float32.
        """
        n, horizon, _ = actions.shape
        net, scale, bounds, index = self._constants
        net = net if rng is not None else self._mean_net
        draws = (particles, 0 if rng is None else horizon, len(self.layout.learned))
        noise = np.empty(draws, np.float32) if rng is None else rng.standard_normal(draws, dtype=np.float32)
        starts = np.ascontiguousarray(np.broadcast_to(x0, (particles, self.nx)), np.float32)
        time_first = np.ascontiguousarray(actions.transpose(1, 0, 2), np.float32)
        members, dt = np.arange(particles) % self.members, np.float32(self.layout.dt)
        out = np.empty((particles, horizon + 1, n, self.nx), np.float32)

        def share(p: slice) -> None:
            ensemble_kernel.rollout(starts[p], time_first, noise[p], members[p], net, scale, bounds, index, dt, out[p])

        self._divide(share, particles)
        return out.transpose(0, 2, 1, 3)

    def _divide(self, work: Callable[[slice], None], particles: int) -> None:
        """Call `work` for shares of the particles: the first, and largest, here, the others in helper threads."""
        count = min(self.threads, particles)
        ends = [-(-particles * i // count) for i in range(count + 1)]
        shares = [slice(*pair) for pair in itertools.pairwise(ends)]
        others = [helpers(self.threads - 1).submit(work, share) for share in shares[1:]]
        work(shares[0])
        for other in others:
            other.result()

    def with_threads(self, threads: int) -> "ProbabilisticEnsemble":
        """The same model, its rollouts shared among so many threads."""
        return replace(self, threads=threads)

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
            tuple(a[k] for k in WEIGHTS),
            (a["feature_mean"], 1.0 / a["feature_std"], a["target_mean"], a["target_std"]),
            tuple(a[k] for k in BOUNDS),
            (np.flatnonzero(layout.angle_mask), layout.derivative_index, layout.learned),
        )

    def predict(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gaussian of each member over the change of the learned entries.

        Args:
            x: states (B, nx).
            u: actions (B, nu).

        Returns:
            Mean and standard deviation, each (E, B, ny), in the units of the state.
        """
        a = self.arrays
        features = self.layout.features(x, u).astype(np.float32)
        features = np.ascontiguousarray((features - a["feature_mean"]) / a["feature_std"])
        n, width, ny = len(features), a["w_in"].shape[2], len(self.layout.learned)
        heads = np.empty((self.members, n, 2 * ny), np.float32)
        h1, h2 = np.empty((n, width), np.float32), np.empty((n, width), np.float32)
        for e in range(self.members):
            w_in, b_in, w_hidden, b_hidden, w_out, b_out = (a[k][e] for k in WEIGHTS)
            ensemble_kernel.forward(features, w_in, b_in, w_hidden, b_hidden, w_out, b_out, h1, h2, heads[e])
        mean = heads[..., :ny] * a["target_std"] + a["target_mean"]
        low, high = a["log_var_low"], a["log_var_high"]
        log_var = high - np.logaddexp(0, high - heads[..., ny:])
        log_var = low + np.logaddexp(0, log_var - low)
        return mean, np.exp(0.5 * log_var) * a["target_std"]

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the mean over the members: x (B, nx), u (B, nu) -> (B, nx)."""
        return ensemble_jacobian.step(self._constants, self.layout.dt, x, u)

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step` in closed form: A (B, nx, nx), B (B, nx, nu)."""
        return ensemble_jacobian.linearize(self._constants, self.layout.dt, x, u)

    def hessian(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivatives of `step` by central differences of its Jacobians: (B, nx, nx + nu, nx + nu).

        The step is a hundredth of each entry's spread in the data: networks run in float32, and a shorter one would
        difference their rounding.
        """
        z = np.concatenate([x, u], axis=-1)
        spread = np.delete(self.arrays["feature_std"], self._cosines).astype(float)
        offsets = 0.01 * np.diag(np.where(np.append(self.layout.angle_mask, [False] * self.nu), 1.0, spread))
        shifted = z[:, None, None] + np.stack([offsets, -offsets], axis=1)  # (B, n, 2, n)
        flat = shifted.reshape(-1, z.shape[-1])
        jacobian = np.concatenate(self.linearize(flat[:, : self.nx], flat[:, self.nx :]), axis=-1)
        ahead, behind = np.moveaxis(jacobian.reshape(*shifted.shape[:3], self.nx, -1), 2, 0)  # (B, n, nx, n)
        slope = (ahead - behind) / (2.0 * np.diag(offsets)[:, None, None])
        return 0.5 * (np.moveaxis(slope, 1, 2) + np.moveaxis(slope, 1, 3))

    @property
    def _cosines(self) -> slice:
        """Where the inputs hold the angles' cosines."""
        return slice(self.nx, self.nx + len(self.layout.angles))

    def rollout_feedback(
        self,
        nominal: tuple[np.ndarray, np.ndarray],
        policy: tuple[np.ndarray, np.ndarray],
        alphas: np.ndarray,
        limits: tuple[np.ndarray, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion of the mean under feedback, see `AnalyticDynamics.rollout_feedback`."""
        return ensemble_jacobian.rollout_feedback(self._constants, self.layout.dt, nominal, policy, alphas, limits)
