"""Forward kinematics of a robot's state: poses of its links and its point of interest, for many states at once."""

from functools import cached_property
from typing import Any

import numpy as np

from mbrl_ros.errors import ConfigError, lookup
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.urdf import TURNING, Urdf, pose, read_urdf, turn

BASE_LINK = "base_link"  # REP-105: the frame of a mobile base
ODOM = "odom"  # REP-105: the frame that a mobile base moves in
BASE_POSITION, BASE_ANGLES = ("base_x", "base_y", "base_z"), ("base_roll", "base_pitch", "base_yaw")


class Kinematics:
    """Where the parts of a robot are.

    Attributes:
        frame: name of the frame that all positions are in: the URDF's root, or ``odom`` for a mobile base.
        links: names of the links.
        link: the link that the point of interest is fixed to.
        offset: the point of interest in the link's frame (3,) in m.
    """

    def __init__(self, robot: RobotDescription, link: str = "", point: tuple[float, ...] = ()) -> None:
        """Read the robot's URDF.

        Args:
            robot: its description.
            link: link of the point of interest; empty: the one that the last joint moves, or the base.
            point: the point in that link's frame in m; empty: the far end of the link's shapes.

        Raises:
            ConfigError: the URDF cannot be used, has no such joint or link, or there is nothing to draw.
        """
        if robot.urdf is None and robot.base == "none":
            raise ConfigError(f"{robot.name}: no urdf and no base: there is nothing to draw")
        self.robot = robot
        self.urdf = read_urdf(robot.urdf) if robot.urdf is not None else Urdf(BASE_LINK, {BASE_LINK: ()})
        self._columns = {self.urdf.joint_named(name).name: i for i, name in enumerate(robot.joints)}
        self.frame = self.urdf.root if robot.base == "none" else ODOM
        self.links = tuple(self.urdf.links)
        last = self.urdf.joint_named(robot.joints[-1]).child if robot.joints else self.urdf.root
        self.link = link or last
        lookup(self.urdf.links, "link", self.link)
        if len(point) not in (0, 3):
            raise ConfigError(f"point: {list(point)} is not allowed; expected three numbers, or none")
        self.offset = np.array(point) if point else far_end(self.urdf, self.link)

    def poses(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Pose (..., 4, 4) of every link in `frame`: states x (..., nx)."""
        known: dict[str, np.ndarray] = {}
        for link in self.links:
            self._pose(link, x, known)
        return known

    def point(self, x: np.ndarray) -> np.ndarray:
        """The point of interest (..., 3) in m: states x (..., nx)."""
        return self.pose(x)[..., :3, 3]

    def pose(self, x: np.ndarray) -> np.ndarray:
        """Pose (..., 4, 4) of the point of interest, turned as its link is: states x (..., nx)."""
        result = self._pose(self.link, x, {}).copy()
        result[..., :3, 3] += result[..., :3, :3] @ self.offset
        return result

    @cached_property
    def limits(self) -> tuple[tuple[str, float, float], ...]:
        """Entries of the state with limits on both sides that can be drawn: name, low, high."""
        robot = self.robot
        drawable = {*robot.joints, *BASE_POSITION}
        entries = zip(robot.entries, robot.position_low, robot.position_high, strict=True)
        return tuple((n, float(a), float(b)) for n, a, b in entries if n in drawable and np.isfinite(b - a))

    def sweep(self, entry: str, low: float, high: float, x: np.ndarray, steps: int = 25) -> np.ndarray:
        """Path (steps, 3) from `low` to `high` of one entry, the rest of the robot as in x (nx,).

        Of a joint that slides or a base it is the path of the link's frame; of one that turns, of the point of interest
        where it moves that, or else of its own link's far end.
        """
        states = np.repeat(x[None], steps, axis=0)
        column = self._column(entry)
        states[:, column] = np.linspace(low, high, steps)
        if entry not in self._columns:
            return self._pose(self.urdf.root, states, {})[:, :3, 3]
        joint = self.urdf.joint_named(entry)
        transform = self._pose(joint.child, states, {})
        if joint.kind not in TURNING:
            return transform[:, :3, 3]
        if np.ptp(path := self.point(states), axis=0).max() > 0.0:
            return path
        return transform[:, :3, :3] @ far_end(self.urdf, joint.child) + transform[:, :3, 3]

    def _column(self, entry: str) -> int:
        """Column of a joint's or base's position in the state."""
        n = len(self.robot.joints)
        return self._columns[entry] if entry in self._columns else 2 * n + self.robot.base_states.index(entry)

    def _pose(self, link: str, x: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
        """Pose (..., 4, 4) of one link; `known` remembers those of this x."""
        if link not in known:
            joint = self.urdf.joints.get(link)
            if joint is None:
                known[link] = self._base(x)
            else:
                motion = self._motion(joint, self._position(joint, x))
                known[link] = self._pose(joint.parent, x, known) @ joint.origin @ motion
        return known[link]

    def _position(self, joint: Any, x: np.ndarray) -> np.ndarray:
        """Position (...) of a joint; one that is not in the state is at zero."""
        column = self._columns.get(joint.mimics or joint.name)
        position = np.zeros(x.shape[:-1]) if column is None else x[..., column]
        return joint.multiplier * position + joint.offset if joint.mimics else position

    @staticmethod
    def _motion(joint: Any, position: np.ndarray) -> np.ndarray:
        """What the joint's position does to its child's frame (..., 4, 4)."""
        result = np.broadcast_to(np.eye(4), (*position.shape, 4, 4)).copy()
        if joint.kind in TURNING:
            result[..., :3, :3] = turn(joint.axis, position)
        elif joint.kind == "prismatic":
            result[..., :3, 3] = position[..., None] * joint.axis
        return result

    def _base(self, x: np.ndarray) -> np.ndarray:
        """Pose (..., 4, 4) of the root; what the state does not tell of it is zero."""

        def pick(names: tuple[str, ...]) -> np.ndarray:
            known = self.robot.base_states
            columns = [x[..., self._column(n)] if n in known else np.zeros(x.shape[:-1]) for n in names]
            return np.stack(columns, axis=-1)

        return pose(pick(BASE_POSITION), pick(BASE_ANGLES))


def far_end(urdf: Urdf, link: str) -> np.ndarray:
    """The middle of that face of the link's shapes which is farthest from the link's origin (3,); zero without."""
    ends = [
        (shape.origin @ np.append(sign * axis * shape.half_extents, 1.0))[:3]
        for shape in urdf.links[link]
        for axis in np.eye(3)
        for sign in (1.0, -1.0)
    ]
    return max(ends, key=lambda end: float(np.linalg.norm(end).round(9)), default=np.zeros(3))
