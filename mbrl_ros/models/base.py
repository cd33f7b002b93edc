"""What every learned model of dynamics is, and all that follows from it.

A model predicts, for each of its members, a Gaussian over the change of the learned entries in one control period. A
member is one possible robot: a network, a function drawn from a posterior, a set of parameters. What a member's own
Gaussian spreads is what the world does not repeat (aleatoric); what lies between members is what the data do not tell
(epistemic). From `predict_member` alone, this base propagates, linearises and separates uncertainties; models that
have something faster or in closed form put it in its place.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from mbrl_ros.models import propagation
from mbrl_ros.models.layout import StateLayout


@cache
def helpers(count: int) -> ThreadPoolExecutor:
    """Threads that share rollouts with the caller's; made once, since starting one takes as long as a rollout."""
    return ThreadPoolExecutor(count, thread_name_prefix="rollout")


@dataclass(frozen=True)
class Uncertainty:
    """What a model does not know at (x, u), for B pairs.

    Attributes:
        aleatoric: variance (B, ny) that the members agree on: the mean of theirs.
        epistemic: variance (B, ny) of their means: what more data would take away.
        entropy: (B,) nats of the Gaussian with the total variance, entries in the units of the state; the textbook's
            output entropy, which alone does not tell the two apart.
        disagreement: (B,) root mean square over entries of ``epistemic / total``, from 0 (known) to 1.
    """

    aleatoric: np.ndarray
    epistemic: np.ndarray
    entropy: np.ndarray
    disagreement: np.ndarray


@dataclass(frozen=True)
class LearnedModel:
    """A fitted model. Everything it has learned is in `arrays`, so that it can be written, sent and compared.

    Attributes:
        layout: meaning of the state entries.
        arrays: by name, see `array_shapes`; any model may also have ``horizon_scale`` (K, nx), the calibration: how
            much wider than the particles the truth was h = 1 .. K periods ahead (see `calibration`), and
            ``observation_std`` (nx,), see `observed`.
        threads: threads that a rollout shares its particles among; the result is the same for any number.
        propagation: how uncertainty is carried through time, a key of `propagation.PROPAGATIONS`.
    """

    layout: StateLayout
    arrays: dict[str, np.ndarray]
    threads: int = 1
    propagation: str = "ts_inf"

    name: ClassVar[str]
    config_class: ClassVar[type]
    array_shapes: ClassVar[Any]
    optional_shapes: ClassVar[Any] = MappingProxyType({})
    array_type: ClassVar[type]
    positive_arrays: ClassVar[tuple[str, ...]] = ()
    adaptable: ClassVar[bool] = False

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
        raise NotImplementedError

    @classmethod
    def check(cls, layout: StateLayout, arrays: dict[str, np.ndarray]) -> None:
        """Refuse received arrays whose shapes are right and which still make no model; ModelRejectedError says why."""

    def predict_member(self, member: int, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One member's Gaussian over the change of the learned entries.

        Args:
            member: 0 .. E - 1.
            x: states (B, nx).
            u: actions (B, nu).

        Returns:
            Mean and standard deviation, each (B, ny), in the units of the state.
        """
        raise NotImplementedError

    def predict(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gaussian of every member: mean and standard deviation, each (E, B, ny), see `predict_member`."""
        means, stds = zip(*(self.predict_member(e, x, u) for e in range(self.members)), strict=True)
        return np.stack(means), np.stack(stds)

    def uncertainty(self, x: np.ndarray, u: np.ndarray) -> Uncertainty:
        """Aleatoric and epistemic parts (law of total variance): x (B, nx), u (B, nu)."""
        mean, std = self.predict(x, u)
        aleatoric, epistemic = (std**2).mean(axis=0), mean.var(axis=0)
        total = aleatoric + epistemic
        entropy = 0.5 * np.log(2.0 * np.pi * np.e * total).sum(axis=-1)
        disagreement = np.sqrt(np.mean((epistemic / total) ** 2, axis=-1))
        return Uncertainty(aleatoric, epistemic, entropy, disagreement)

    # through time

    def rollout(
        self, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None, particles: int
    ) -> np.ndarray:
        """Futures of every candidate, by this model's `propagation`.

        Args:
            x0: start state (nx,) or one a particle (P, nx).
            actions: candidates (N, H, nu).
            rng: source of the aleatoric noise; None propagates each member's mean.
            particles: P.

        Returns:
            States (P, N, H + 1, nx), float32.
        """
        out = propagation.PROPAGATIONS[self.propagation](self, x0, actions, rng, particles)
        return propagation.widened(out, self.arrays.get("horizon_scale"))

    def observed(self, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations of predicted states (P, N, H + 1, nx): the noise of sensors is added, which no motion follows.

        It is that of entries which the model integrates (`fitting.observation_std`); the start stays as it is.
        """
        std = self.arrays.get("observation_std")
        if std is None:
            return states
        seen = states.copy()
        seen[:, :, 1:] += std * rng.standard_normal(seen[:, :, 1:].shape)
        return seen

    def advance_particles(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` from its first states on; compiled where a model has a kernel.

        Args:
            actions: candidates (H, N, nu) float32, time first.
            noise: standard normal draws (P, H, ny), shared by the candidates so that they are compared under the same
                luck; (P, 0, ny) for none.
            members: member of each particle at each step (P, H).
            out: (P, H + 1, N, nx) float32, ``out[:, 0]`` holds the start.
        """

        def share(p: slice) -> None:
            self._advance(actions, noise[p], members[p], out[p])

        count = min(self.threads, len(out))
        ends = [-(-len(out) * i // count) for i in range(count + 1)]
        shares = [slice(*pair) for pair in itertools.pairwise(ends)]
        others = [helpers(self.threads - 1).submit(share, part) for part in shares[1:]]
        share(shares[0])  # the largest
        for other in others:
            other.result()

    def _advance(self, actions: np.ndarray, noise: np.ndarray, members: np.ndarray, out: np.ndarray) -> None:
        """`advance_particles` of a share of the particles, in one thread."""
        for t, member in np.ndindex(len(actions), self.members):
            mine = np.flatnonzero(members[:, t] == member)
            if len(mine) == 0:
                continue
            x = out[mine, t]  # (P', N, nx): particles of one member are asked for together
            rows = (x.reshape(-1, self.nx), np.tile(actions[t], (len(mine), 1)))
            mean, std = (a.reshape(*x.shape[:2], -1) for a in self.predict_member(int(member), *rows))
            change = mean + std * noise[mine, t][:, None] if noise.shape[1] else mean
            out[mine, t + 1] = self.layout.integrate(x, change)

    def advance_mean(self, actions: np.ndarray, out: np.ndarray) -> None:
        """As `advance_particles`, by the mean over the members: actions (H, N, nu), out (P, H + 1, N, nx)."""
        for p, t in np.ndindex(len(out), len(actions)):
            out[p, t + 1] = self.step(out[p, t], actions[t])

    def with_threads(self, threads: int) -> Self:
        """The same model, its rollouts shared among so many threads."""
        return replace(self, threads=threads)

    def with_propagation(self, name: str) -> Self:
        """The same model with another propagation; UnknownNameError lists the known ones."""
        return replace(self, propagation=propagation.known(name))

    def with_arrays(self, **arrays: np.ndarray) -> Self:
        """The same model with some arrays exchanged or added."""
        return replace(self, arrays=self.arrays | arrays)

    # adaptation of the last layer, see `last_layer`

    def basis(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Functions that the last layer weighs, per network: x (B, nx), u (B, nu) -> (E', B, F).

        E' is 1 where the members share them. A model that has none (`adaptable` is False) is not adapted.
        """
        raise NotImplementedError

    @property
    def output_scale(self) -> np.ndarray:
        """Unit of the last layer's outputs, (ny,): the standard deviation of the targets in the data."""
        return self.arrays["target_std"].astype(float)

    def with_output_change(self, weights: np.ndarray) -> Self:
        """The same model with ``output_scale * (basis @ weights)`` added to its means: weights (E', F, ny)."""
        raise NotImplementedError

    # the mean as differentiable dynamics

    def step(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Next states by the mean over the members: x (B, nx), u (B, nu) -> (B, nx)."""
        return self.layout.integrate(np.asarray(x, float), self.predict(x, u)[0].mean(axis=0))

    def linearize(self, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobians of `step`, by central differences: A (B, nx, nx), B (B, nx, nu)."""
        z = np.concatenate([x, u], axis=-1).astype(float)
        offsets = np.diag(np.full(z.shape[-1], 1e-5))
        J = central_differences(lambda at: self.step(at[:, : self.nx], at[:, self.nx :]), z, offsets)
        return J[..., : self.nx], J[..., self.nx :]

    def hessian(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Second derivatives of `step` by central differences of its Jacobians: (B, nx, nx + nu, nx + nu)."""
        z = np.concatenate([x, u], axis=-1).astype(float)

        def jacobian(at: np.ndarray) -> np.ndarray:
            return np.concatenate(self.linearize(at[:, : self.nx], at[:, self.nx :]), axis=-1)

        slope = central_differences(jacobian, z, np.diag(self.difference_steps))
        return 0.5 * (slope + slope.swapaxes(2, 3))

    @property
    def difference_steps(self) -> np.ndarray:
        """Steps (nx + nu,) of `hessian`'s differences in the units of the state and the action."""
        return np.full(self.nx + self.nu, 1e-4)


def central_differences(f: Callable[[np.ndarray], np.ndarray], z: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Derivative of f (B, n) -> (B, ...) at z (B, n): (B, ..., n), the steps (n, n) on a diagonal."""
    n = z.shape[-1]
    ahead, behind = (f((z[:, None] + sign * offsets).reshape(-1, n)) for sign in (1.0, -1.0))
    slope = (ahead - behind).reshape(len(z), n, *ahead.shape[1:])
    return np.moveaxis(slope, 1, -1) / (2.0 * np.diag(offsets))
