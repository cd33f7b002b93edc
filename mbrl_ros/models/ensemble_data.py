"""Which transitions each member learns from: resamples that stay, whole trajectories held out, windows for rollouts."""

import numpy as np

from mbrl_ros.types import Transitions


def mirrored(data: Transitions) -> Transitions:
    """The transitions, then all of them with every sign reversed: twice the data for a symmetric robot."""
    x, u, x_next = (np.concatenate([a, -a]) for a in (data.x, data.u, data.x_next))
    return Transitions(x, u, x_next, np.concatenate([data.trajectory, data.trajectory]))


def bootstrap_counts(seed: int, members: int, count: int) -> np.ndarray:
    """How often each member's resample holds each transition: (E, n) int, Poisson(1).

    The Poisson bootstrap (Oza and Russell 2001, "Online bagging"): a count of its own for every row, so that the count
    of row i for member e depends on (seed, e, i) only. When data are added the earlier rows keep theirs, and a member
    stays the member it was.
    """
    return np.stack([np.random.default_rng([seed, e]).poisson(1.0, count) for e in range(members)])


def resamples(counts: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Those of `rows` that each member learns from, as often as its counts (E, n) say; all where that is none."""
    drawn = [np.repeat(rows, c[rows]) for c in counts]
    return [own if len(own) else rows for own in drawn]


def held_out(trajectory: np.ndarray, share: float) -> np.ndarray:
    """Mask (n,) of the rows of trajectories kept for validation.

    Trajectories count in the order in which they begin, and every 1/share-th is held out; so a trajectory stays on its
    side when others are added, and a warm start has not seen what it is judged by. The first is always learned from.
    """
    _, first, inverse = np.unique(trajectory, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # (trajectories,)
    chosen = np.floor((order + 1) * share + 0.5) > np.floor(order * share + 0.5)
    return (chosen & (order > 0))[inverse]


def remaining(trajectory: np.ndarray, most: int) -> np.ndarray:
    """Transitions from each row to the end of its trajectory, itself included, at most `most`: (n,)."""
    rows = np.arange(len(trajectory))
    ends = np.flatnonzero(np.append(np.diff(trajectory) != 0, True))
    return np.minimum(ends[np.searchsorted(ends, rows)] - rows + 1, most)
