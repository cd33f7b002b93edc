"""A robot whose drives follow positions, velocities or twists, for the fault matrix: kinematics alone. No ROS."""

import numpy as np

from mbrl_ros.robots.description import RobotDescription

LAG = 0.02  # s, time constant with which the drives follow
SUBSTEPS = 10  # a control period


class KinematicRobot:
    """Drives of first order: q' = (u - q) / LAG within the velocity limit, or v' = (u - v) / LAG.

    A base moves in the plane. A position is followed for ever, as ros2_control's forward controllers do; velocities and
    twists end with `rest`.

    Attributes:
        position: of the joints (n,) in m or rad.
        velocity: of the joints (n,), or of the base along x in m/s and about z in rad/s (2,).
        pose: of the base (3,): x and y in m, yaw in rad.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._twist = robot.command_interface == "twist"
        self._follows_positions = robot.command_interface == "position"
        self._columns = [0, 1] if self._twist else [robot.joints.index(a) for a in robot.actuators]
        self._fastest = np.array([] if self._twist else robot.velocity_limit)
        self._h = robot.dt / SUBSTEPS
        self._share = 1.0 - np.exp(-self._h / LAG)  # exact over a substep in which the command is held
        self.position, self.pose = robot.initial_state[: len(robot.joints)].copy(), np.zeros(3)
        self.halt()

    def halt(self) -> None:
        """At rest where it is."""
        self.velocity = np.zeros(2 if self._twist else len(self.position))
        self.command = self.position[self._columns] if self._follows_positions else np.zeros(len(self._columns))

    def rest(self) -> None:
        """What the drives do without commands: those that follow positions keep the last one."""
        if not self._follows_positions:
            self.command = np.zeros(len(self._columns))

    def step(self) -> None:
        """One control period under `command` (nu,)."""
        for _ in range(SUBSTEPS):
            if self._follows_positions:
                self._follow_position()
            else:
                self.velocity[self._columns] += self._share * (self.command - self.velocity[self._columns])
            if self._twist:
                v, w = self.velocity
                self.pose += self._h * np.array([v * np.cos(self.pose[2]), v * np.sin(self.pose[2]), w])
            else:
                self.position += self._h * self.velocity

    def _follow_position(self) -> None:
        wish = self._share * (self.command - self.position[self._columns]) / self._h
        fastest = self._fastest[self._columns]
        self.velocity[self._columns] = np.clip(wish, -fastest, fastest)
