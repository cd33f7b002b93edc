"""How a model's uncertainty is carried through time: by particles, by moment matching, or not at all.

TS-infinity and TS1 are the trajectory samplings of PETS (Chua et al. 2018, section 5): a particle keeps its member for
the whole horizon, so that it is one possible robot, or takes another one at every step, which averages what is not
known as if it were noise. `moment_matching` is theirs too (MM): after every step the particles are replaced by those of
a Gaussian with the same mean and covariance. `mean` follows the mean over members and knows no uncertainty.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mbrl_ros.errors import lookup

if TYPE_CHECKING:
    from mbrl_ros.models.base import LearnedModel

Generator = np.random.Generator | None
SCHEDULE = (
    20180530  # seed of the member schedule and the standard points: the same in every plan, so that plans compare
)
JITTER = 1e-9  # on the diagonal of a covariance that may be singular, in the units of the state


def ts_inf(model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, particles: int) -> np.ndarray:
    """Particle p keeps member p mod E: (P, N, H + 1, nx)."""
    kept = np.arange(particles)[:, None] % model.members
    return sampled(model, x0, actions, rng, np.broadcast_to(kept, (particles, actions.shape[1])))


def ts1(model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, particles: int) -> np.ndarray:
    """Every particle takes a member anew at every step, each member about equally often: (P, N, H + 1, nx)."""
    return sampled(model, x0, actions, rng, schedule(model.members, particles, actions.shape[1], rng))


def moment_matching(
    model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, particles: int
) -> np.ndarray:
    """After every step the particles are those of the Gaussian with their mean and covariance: (P, N, H + 1, nx).

    The new particles are fixed standard points, so that candidates and plans are compared under the same luck; their
    number must exceed the number of state entries for the covariance to be carried in full.
    """
    n, horizon, _ = actions.shape
    noise, first, time_first = prepared(model, x0, actions, rng, particles)
    members = schedule(model.members, particles, horizon, rng)
    points = standard_points(particles, model.nx)
    out = np.empty((particles, horizon + 1, n, model.nx), np.float32)
    out[:, 0] = first
    step = np.empty((particles, 2, n, model.nx), np.float32)
    for t in range(horizon):
        step[:, 0] = out[:, t]
        model.advance_particles(time_first[t : t + 1], noise[:, t : t + 1], members[:, t : t + 1], step)
        out[:, t + 1] = matched(step[:, 1].astype(float), points)
    return out.transpose(0, 2, 1, 3)


def mean(model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, particles: int) -> np.ndarray:
    """Every particle follows the mean over members, without noise: (P, N, H + 1, nx)."""
    starts = x0 if np.ndim(x0) == 2 else x0[None]
    _, first, time_first = prepared(model, starts, actions, None, len(starts))
    out = np.empty((len(starts), actions.shape[1] + 1, len(actions), model.nx), np.float32)
    out[:, 0] = first
    model.advance_mean(time_first, out)
    states = out.transpose(0, 2, 1, 3)
    return np.broadcast_to(states, (particles, *states.shape[1:]))


PROPAGATIONS: dict[str, Callable[..., np.ndarray]] = {
    "ts_inf": ts_inf,
    "ts1": ts1,
    "moment_matching": moment_matching,
    "mean": mean,
}


def known(name: str) -> str:
    """`name` where it is one of PROPAGATIONS; UnknownNameError lists them."""
    lookup(PROPAGATIONS, "propagation", name)
    return name


def prepared(
    model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, particles: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise (P, H or 0, ny), starts (P, 1, nx) and actions time first (H, N, nu), all float32."""
    draws = (particles, 0 if rng is None else actions.shape[1], len(model.layout.learned))
    noise = np.empty(draws, np.float32) if rng is None else rng.standard_normal(draws, dtype=np.float32)
    starts = np.broadcast_to(x0, (particles, model.nx))[:, None]
    return noise, starts, np.ascontiguousarray(actions.transpose(1, 0, 2), np.float32)


def sampled(
    model: "LearnedModel", x0: np.ndarray, actions: np.ndarray, rng: Generator, members: np.ndarray
) -> np.ndarray:
    """Particles that follow a schedule of members (P, H): (P, N, H + 1, nx)."""
    particles, (n, horizon, _) = len(members), actions.shape
    noise, starts, time_first = prepared(model, x0, actions, rng, particles)
    out = np.empty((particles, horizon + 1, n, model.nx), np.float32)
    out[:, 0] = starts
    model.advance_particles(time_first, noise, np.ascontiguousarray(members), out)
    return out.transpose(0, 2, 1, 3)


def schedule(members: int, particles: int, horizon: int, rng: Generator) -> np.ndarray:
    """Member of every particle at every step (P, H): at each step a shuffled ``p mod E``."""
    rng = rng if rng is not None else np.random.default_rng(SCHEDULE)
    dealt = np.repeat((np.arange(particles) % members)[:, None], horizon, axis=1)
    if particles < members:  # then some members take part later only
        dealt = rng.permuted(np.tile(np.arange(members)[:, None], horizon), axis=0)[:particles]
    return rng.permuted(dealt, axis=0)


def standard_points(particles: int, nx: int) -> np.ndarray:
    """Points (P, nx) with zero mean and, where P > nx, unit covariance (divisor P)."""
    points = np.random.default_rng(SCHEDULE).standard_normal((particles, nx))
    points -= points.mean(axis=0)
    if particles <= nx:
        return points
    factor = np.linalg.cholesky(points.T @ points / particles)
    return np.linalg.solve(factor, points.T).T


def matched(particles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Particles (P, N, nx) replaced by ``mean + L points`` with their mean and covariance ``L L'`` (divisor P)."""
    centre = particles.mean(axis=0)
    off = particles - centre
    covariance = np.einsum("pni,pnj->nij", off, off) / len(particles)
    finite = np.isfinite(covariance).all(axis=(1, 2))
    covariance[~finite] = 0.0  # the mean is not finite either, and the cost refuses it
    factor = np.linalg.cholesky(covariance + JITTER * np.eye(len(covariance[0])))
    return centre + np.einsum("nij,pj->pni", factor, points)


def widened(states: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Particles (P, N, H + 1, nx) drawn away from their mean by scale (K, nx) at h = 1 .. K, its last further on."""
    if scale is None or len(scale) == 0:
        return states
    steps = np.minimum(np.arange(states.shape[2] - 1), len(scale) - 1)
    factor = np.concatenate([np.ones((1, states.shape[3])), scale[steps]]).astype(np.float32)
    centre = states.mean(axis=0)
    return centre + (states - centre) * factor
