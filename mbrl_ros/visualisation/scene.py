"""One picture of the robot and what it believes, as points in m in one frame. No ROS, no viewer."""

from dataclasses import dataclass, field

import numpy as np

from mbrl_ros.planners.base import Dynamics
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.visualisation.candidates import Candidates

SIGMAS = 2.0  # half axes of the tube's ellipsoids in standard deviations
Colour = tuple[float, float, float, float]  # red, green, blue, alpha in [0, 1]

# The colours of Okabe and Ito (2008), which the colour-blind can tell apart.
PLAN: Colour = (0.0, 0.45, 0.70, 1.0)
TUBE: Colour = (0.34, 0.71, 0.91, 0.25)
FUTURE: Colour = (0.34, 0.71, 0.91, 0.6)
GOAL: Colour = (0.90, 0.62, 0.0, 0.9)
LIMIT: Colour = (0.84, 0.37, 0.0, 0.9)
CHEAP: Colour = (0.0, 0.62, 0.45, 0.9)
EXPENSIVE: Colour = (0.80, 0.47, 0.65, 0.7)


@dataclass(frozen=True)
class Tube:
    """An ellipsoid at each period of the plan: where the point of interest may be.

    Attributes:
        centres: (T, 3) in m.
        half_axes: (T, 3) in m, SIGMAS standard deviations along the axes.
        axes: (T, 3, 3), the axes' directions in the columns, right-handed.
    """

    centres: np.ndarray
    half_axes: np.ndarray
    axes: np.ndarray


@dataclass(frozen=True)
class Scene:
    """What is to be drawn; lines are (T, 3) in m, in `frame`.

    Attributes:
        frame: name of the frame.
        stamp_ns: time of the plan, or of the state where there is none.
        x: state of the robot (nx,).
        point: its point of interest (3,).
        plan: predicted path of the point of interest; None without a plan.
        futures: that of each particle (P, T, 3); None without a model.
        tube: how far the particles are apart; None without a model.
        candidates: paths of what the planner tried (K, T, 3), cheapest first; None where it shows none.
        costs: their costs (K,).
        goal: where the point of interest is to be (3,); None where the task does not say.
        limits: path between the limits of each entry that has them, by name.
        title: trial and what it is about.
        state: the state in words, a line an entry.
    """

    frame: str
    stamp_ns: int
    x: np.ndarray
    point: np.ndarray
    plan: np.ndarray | None = None
    futures: np.ndarray | None = None
    tube: Tube | None = None
    candidates: np.ndarray | None = None
    costs: np.ndarray = field(default_factory=lambda: np.empty(0))
    goal: np.ndarray | None = None
    limits: dict[str, np.ndarray] = field(default_factory=dict)
    title: str = ""
    state: tuple[str, ...] = ()


def futures(model: Dynamics, kinematics: Kinematics, states: np.ndarray, actions: np.ndarray, count: int) -> np.ndarray:
    """Paths of the point of interest (P, T, 3) in each particle of the model.

    Args:
        model: what the plan was made with.
        kinematics: of the robot.
        states: the plan's states; the first one (nx,) is where it begins.
        actions: its actions (T - 1, nu).
        count: P.
    """
    return kinematics.point(model.rollout(states[0], actions[None], None, count)[:, 0])


def tube(paths: np.ndarray) -> Tube:
    """Ellipsoids from the mean and covariance over particles: paths (P, T, 3)."""
    centred = paths - paths.mean(axis=0)
    covariance = np.einsum("pti,ptj->tij", centred, centred) / max(len(paths), 1)
    variance, axes = np.linalg.eigh(covariance)
    axes[np.linalg.det(axes) < 0, :, 0] *= -1.0
    return Tube(paths.mean(axis=0), SIGMAS * np.sqrt(np.maximum(variance, 0.0)), axes)


def candidate_paths(model: Dynamics, kinematics: Kinematics, tried: Candidates) -> np.ndarray:
    """Paths of the point of interest (K, T, 3) under the model's first particle, which is one rollout for all."""
    return kinematics.point(model.rollout(tried.start, tried.actions, None, 1)[0])


def cost_colours(costs: np.ndarray) -> np.ndarray:
    """Colours (K, 4) of costs (K,) by rank: a few that are very expensive would make all others look alike."""
    rank = np.argsort(np.argsort(costs, kind="stable"), kind="stable") / max(len(costs) - 1, 1)
    cheap, expensive = np.array(CHEAP), np.array(EXPENSIVE)
    return cheap + rank[:, None] * (expensive - cheap)


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) as w, x, y, z of rotations (..., 3, 3), by the largest of the four (Shepperd 1978)."""
    m = rotations
    trace = np.trace(m, axis1=-2, axis2=-1)
    squares = np.stack([trace, *(2.0 * m[..., i, i] - trace for i in range(3))], axis=-1)  # 4 q_i^2 - 1
    largest = squares.argmax(axis=-1)[..., None]
    x, y, z = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    a, b, c = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = np.stack(
        [
            np.stack([1.0 + squares[..., 0], x, y, z], axis=-1),
            np.stack([x, 1.0 + squares[..., 1], a, b], axis=-1),
            np.stack([y, a, 1.0 + squares[..., 2], c], axis=-1),
            np.stack([z, b, c, 1.0 + squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    chosen = np.take_along_axis(rows, largest[..., None], axis=-2)[..., 0, :]
    return chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)


def describe(kinematics: Kinematics, x: np.ndarray) -> tuple[str, ...]:
    """The state in words: joints with position and velocity, then the base."""
    robot = kinematics.robot
    n = len(robot.joints)
    lines = []
    for i, name in enumerate(robot.joints):
        unit = "m" if kinematics.urdf.joint_named(name).kind == "prismatic" else "rad"
        lines.append(f"{name}: {x[i]:+.2f} {unit}, {x[n + i]:+.2f} {unit}/s")
    return (*lines, *(f"{name}: {value:+.2f}" for name, value in zip(robot.base_states, x[2 * n :], strict=False)))
