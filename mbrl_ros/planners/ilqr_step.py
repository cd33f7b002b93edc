"""One iteration of iLQR as a finishing touch: a sampled plan has the right shape, this takes its jitter out.

The backward pass is iLQR's (Li and Todorov 2004; with limits Tassa, Mansard and Todorov 2014), about the mean of the
particles. The forward pass goes through the linearised dynamics, so that every step length gives a candidate like any
other, to be compared by what counts: the cost over all particles.
"""

import numpy as np

from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import DifferentiableDynamics, Problem
from mbrl_ros.planners.cost_expansion import convex, expand_running, expand_terminal
from mbrl_ros.planners.riccati_kernel import backward

STEP_LENGTHS = np.array([1.0, 0.5, 0.25, 0.1])
REGULARISATION = 1e-6  # of the actions' Hessian, which vanishes where an action changes nothing


def improvements(problem: Problem, x0: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Candidates (M, H, nu) between the plan `actions` (H, nu) and the one that an iteration of iLQR makes of it.

    None, M = 0, where the dynamics or the cost have no derivatives or the backward pass has no answer.

    Args:
        problem: the control problem.
        x0: start state (nx,).
        actions: the plan, within the limits.
    """
    limits = [np.broadcast_to(np.asarray(u, float), actions.shape[1:]).copy() for u in (problem.u_min, problem.u_max)]
    policy = (
        backward_pass(problem, x0, actions, limits) if isinstance(problem.dynamics, DifferentiableDynamics) else None
    )
    if policy is None:
        return np.empty((0, *actions.shape))
    change = linear_rollout(*policy, [u - actions for u in limits])
    return np.clip(actions + STEP_LENGTHS[:, None, None] * change, *limits)


def backward_pass(
    problem: Problem, x0: np.ndarray, actions: np.ndarray, limits: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Jacobians F (H, nx, nx + nu) along the plan, steps k (H, nu) and gains K (H, nu, nx); None: no answer."""
    dynamics, task = problem.dynamics, problem.task
    states = dynamics.rollout(x0, actions[None], None, problem.particles)[:, 0].mean(axis=0).astype(float)
    try:
        c, C = expand_running(task, states[:-1], actions)
        v, V = expand_terminal(task, states[-1])
    except ConfigError:  # this cost cannot be differentiated; sampling does not need it
        return None
    F = np.concatenate(dynamics.linearize(states[:-1], actions), axis=2)  # type: ignore[attr-defined]
    if not all(np.isfinite(a).all() for a in (F, c, C, v, V)):
        return None
    F, c, C, v, V = (np.ascontiguousarray(a, np.float64) for a in (F, c, convex(C), v, convex(V)))
    fzz, k, K = np.empty((len(F), 0, *C.shape[1:])), np.zeros_like(actions), np.zeros((*actions.shape, len(v)))
    solved, *_ = backward(F, c, C, fzz, (v, V), actions, tuple(limits), REGULARISATION, k, K)
    return (F, k, K) if solved else None


def linear_rollout(F: np.ndarray, k: np.ndarray, K: np.ndarray, room: list[np.ndarray]) -> np.ndarray:
    """Changes of the actions (H, nu): ``du = k + K dx`` within `room` (each (H, nu)), ``dx' = F [dx; du]``."""
    changes, dx = np.empty_like(k), np.zeros(F.shape[1])
    for t in range(len(k)):
        changes[t] = np.clip(k[t] + K[t] @ dx, room[0][t], room[1][t])
        dx = F[t] @ np.concatenate([dx, changes[t]])
    return changes
