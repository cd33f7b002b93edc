"""Inverse kinematics: positions of an arm's joints that bring its point of interest to a pose.

Damped least squares from many starts at once, each damped by the error that it has left: Sugihara, "Solvability-
Unconcerned Inverse Kinematics by the Levenberg-Marquardt Method", IEEE Transactions on Robotics 27(5), 2011. So it ends
well where a pose cannot be reached, too. One round is short: a controller can search between its ticks.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.robots.urdf import TURNING

STARTS = 32  # the first one is where the joints are wanted to stay near
ROUNDS, POLISH = 60, 15
DISTANCE, ANGLE = 1e-3, 1e-2  # m and rad, within which a pose is reached
FREE = 6  # joints that a position and an orientation need
FIRM, SOFT = 0.2, 0.01  # m/rad, what a turn counts beside a distance: where it must fit, and where it may
ALIKE = 1e-4  # m, within which two ways are equally good
DAMPING = 1e-6  # m^2, at no error
STEP = 1e-6  # rad or m, of the finite differences


@dataclass(frozen=True)
class Reached:
    """The best that was found.

    Attributes:
        joints: position by name of each joint that moves the point.
        distance: from the position asked for, in m.
        angle: from the orientation asked for, in rad.
    """

    joints: dict[str, float]
    distance: float
    angle: float


class PoseSearch:
    """A search for one pose: `step` until it says that it is over, then `result`.

    With fewer than six joints the position counts, and the orientation as far as they are free to turn.
    """

    def __init__(self, kinematics: Kinematics, goal: np.ndarray, near: np.ndarray) -> None:
        """Set up.

        Args:
            kinematics: of the robot, with its point of interest.
            goal: pose (4, 4) in the kinematics' frame, of the point, turned as its link.
            near: state (nx,); of several ways the one nearest to it is taken.

        Raises:
            ConfigError: no joint of the state moves the point.
        """
        self.kinematics, self.goal, self.near = kinematics, goal, np.array(near, dtype=float)
        self.columns = chain(kinematics)
        robot = kinematics.robot
        if not self.columns:
            raise ConfigError(f"goal: no joint of {robot.name} moves {kinematics.link}")
        self.low, self.high = robot.position_low[self.columns], robot.position_high[self.columns]
        self.firm = len(self.columns) >= FREE
        self.q = self._starts()
        self.rounds = 0

    def _starts(self) -> np.ndarray:
        """Positions (S, n) to begin from: near, and anywhere within the limits; half a turn, or 1 m, where none are."""
        near = np.clip(self.near[self.columns], self.low, self.high)
        turning = [
            self.kinematics.urdf.joint_named(self.kinematics.robot.joints[c]).kind in TURNING for c in self.columns
        ]
        reach = np.where(turning, np.pi, 1.0)
        low = np.where(np.isfinite(self.low), self.low, near - reach)
        high = np.where(np.isfinite(self.high), self.high, near + reach)
        return np.vstack([near, np.random.default_rng(0).uniform(low, high, (STARTS - 1, len(near)))])

    def step(self) -> bool:
        """One round of all starts; whether it was the last."""
        weight = FIRM if self.firm else SOFT if self.rounds < ROUNDS else 0.0
        shifted = np.concatenate([self.q[None], self.q + STEP * np.eye(len(self.columns))[:, None]])
        errors = self._errors(shifted) * np.repeat([1.0, weight], 3)  # (1 + n, S, 6)
        error, jacobian = errors[0], np.moveaxis((errors[1:] - errors[0]) / STEP, 0, -1)
        slope = np.einsum("sen,se->sn", jacobian, error)
        held = ((self.q <= self.low) & (slope > 0.0)) | ((self.q >= self.high) & (slope < 0.0))
        jacobian, slope = np.where(held[:, None], 0.0, jacobian), np.where(held, 0.0, slope)
        damping = 0.5 * (error**2).sum(axis=-1) + DAMPING
        curvature = np.einsum("sen,sem->snm", jacobian, jacobian) + damping[:, None, None] * np.eye(len(self.columns))
        self.q = np.clip(self.q - np.linalg.solve(curvature, slope[..., None])[..., 0], self.low, self.high)
        self.rounds += 1
        return self.rounds == ROUNDS + POLISH

    def _errors(self, q: np.ndarray) -> np.ndarray:
        """Distance and turn (..., 6) in m and rad from the goal to where the positions (..., n) bring the point."""
        x = np.broadcast_to(self.near, (*q.shape[:-1], len(self.near))).copy()
        x[..., self.columns] = q
        pose = self.kinematics.pose(x)
        turned = (pose[..., :3, :3] @ self.goal[:3, :3].T).reshape(-1, 3, 3)
        turn = Rotation.from_matrix(turned).as_rotvec().reshape(*q.shape[:-1], 3)
        return np.concatenate([pose[..., :3, 3] - self.goal[:3, 3], turn], axis=-1)

    def result(self) -> Reached:
        """The way that turns the point best among those that reach the pose, and then the nearest.

        Raises:
            ConfigError: none does; says how far away the nearest one stays.
        """
        errors = self._errors(self.q)
        distance, angle = np.linalg.norm(errors[:, :3], axis=1), np.linalg.norm(errors[:, 3:], axis=1)
        reached = (distance <= DISTANCE) & ((angle <= ANGLE) | (not self.firm))
        if not reached.any():
            raise ConfigError(self._out_of_reach(distance, angle))
        left = np.where(reached, distance + FIRM * angle, np.inf)
        away = np.linalg.norm(self.q - self.near[self.columns], axis=1)
        best = int(np.argmin(np.where(left <= left.min() + ALIKE, away, np.inf)))
        names = [self.kinematics.robot.joints[c] for c in self.columns]
        joints = {name: float(position) for name, position in zip(names, self.q[best], strict=True)}
        return Reached(joints, float(distance[best]), float(angle[best]))

    def _out_of_reach(self, distance: np.ndarray, angle: np.ndarray) -> str:
        """Why the goal is refused: distances (S,) in m and angles (S,) in rad that are left."""
        turned = FIRM * angle if self.firm else np.zeros_like(angle)
        best = int(np.argmin(np.hypot(distance, turned)))
        left = f"{distance[best]:.3g} m" + (f" and {angle[best]:.3g} rad" if self.firm else "")
        position = ", ".join(f"{value:g}" for value in self.goal[:3, 3])
        return f"goal: [{position}] is out of reach of {self.kinematics.link}; the nearest pose found is {left} away"


def chain(kinematics: Kinematics) -> list[int]:
    """Columns of the state's joints that move the point of interest, ascending."""
    joints, columns, link = kinematics.robot.joints, set(), kinematics.link
    while (joint := kinematics.urdf.joints.get(link)) is not None:
        if (name := joint.mimics or joint.name) in joints:
            columns.add(joints.index(name))
        link = joint.parent
    return sorted(columns)
