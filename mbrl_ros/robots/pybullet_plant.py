"""A robot simulated by PyBullet, the stand-in for the hardware.

The plant knows efforts and time; sensor noise, limits of the drives and topics are the simulator node's.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, TracebackType

import numpy as np

from mbrl_ros.errors import ConfigError, MissingDependencyError
from mbrl_ros.robots.description import RobotDescription

GRAVITY = 9.81  # m/s^2

# PyBullet integrates by the semi-implicit Euler method, so the error is proportional to the substep. Cart-pole against
# its closed form (DOP853, rtol 1e-11), 3 s from hanging, random forces up to 5 N held for 0.05 s, worst of 5 seeds:
#
#     substep                          1e-3     5e-4     2e-4     1e-4     5e-5   s
#     error of the angle               0.011    0.0056   0.0022   0.0011   0.0006 rad
#     error of the pole rate           0.027    0.013    0.0053   0.0027   0.0013 rad/s
#     time of one period of 0.05 s     0.3      0.6      1.0      1.9      5.9    ms (median, shared core)
#
# 1e-4 keeps the error well below the sensors' noise (0.01) for 4 % of a core in real time.
SUBSTEP = 1e-4  # s


class PyBulletPlant:
    """A fixed-base robot in a physics client of its own: effort in, joint positions and velocities out.

    Args:
        robot: its URDF gives masses, friction and limits; its joints order the state, its actuators the effort.
        gui: open PyBullet's window (needs a display).
        substep: largest integration step in s; shortened so that a whole number fits into the control period.

    Raises:
        MissingDependencyError: PyBullet is not installed.
        ConfigError: no display, bad substep, URDF missing, unreadable or without one of the robot's joints.
    """

    def __init__(self, robot: RobotDescription, gui: bool = False, substep: float = SUBSTEP) -> None:
        require_simulable(robot)
        if not 0.0 < substep <= robot.dt:
            raise ConfigError(f"substep: {substep} s is not allowed; expected more than 0 and at most {robot.dt:g} s")
        self.robot = robot
        self.substeps = int(np.ceil(robot.dt / substep - 1e-9))
        self._mass_factor: dict[str, float] = {}
        self._bullet = import_pybullet()
        self._client = self._connect(gui)
        try:
            self._load()
            self.reset(np.array(robot.start_position))
        except Exception:
            self.close()
            raise

    @property
    def state(self) -> np.ndarray:
        """Joint positions, then joint velocities: (nx,) in m, rad, m/s, rad/s."""
        joints = self._bullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        return np.array([j[0] for j in joints] + [j[1] for j in joints], dtype=np.float64)

    def reset(self, position: np.ndarray) -> None:
        """Put the robot at rest at the joint positions (nq,) in a new world, which remembers nothing of the old one.

        Raises:
            ValueError: wrong shape or not finite.
        """
        position = finite("position", position, len(self.robot.joints))
        # Bullet is deterministic only from a world built anew (bulletphysics/bullet3, issue 2442); it takes 2 ms.
        self._load()
        self.set_state(np.concatenate([position, np.zeros_like(position)]))

    def set_state(self, x: np.ndarray) -> None:
        """Move the robot to the state (nx,) in the present world, for pictures.

        Raises:
            ValueError: wrong shape or not finite.
        """
        count = len(self.robot.joints)
        x = finite("x", x, 2 * count)
        for joint, position, velocity in zip(self._joints, x[:count], x[count:], strict=True):
            self._bullet.resetJointState(self._body, joint, position, velocity, physicsClientId=self._client)

    def scale_mass(self, joint: str, factor: float) -> None:
        """Multiply mass and inertia of the link that `joint` moves, from now on: another payload, same shape.

        Raises:
            ConfigError: the URDF has no such joint, or the factor is not positive.
        """
        if not (np.isfinite(factor) and factor > 0):
            raise ConfigError(f"factor: {factor} is not allowed; expected a positive number")
        link = joint_index(self._movable(), joint, self.robot)
        self._mass_factor[joint] = factor
        self._apply_mass(link, factor)

    def _apply_mass(self, link: int, factor: float) -> None:
        """Mass and inertia of the link by the URDF, times the factor."""
        mass, inertia = self._urdf_inertia[link]
        inertia = [factor * i for i in inertia]
        self._bullet.changeDynamics(
            self._body, link, mass=factor * mass, localInertiaDiagonal=inertia, physicsClientId=self._client
        )

    def step(self, effort: np.ndarray, share: float = 1.0) -> None:
        """Advance one control period, or a share of it in whole substeps, with the effort (nu,) in N or N m held.

        Raises:
            ValueError: wrong shape or not finite.
        """
        forces = finite("effort", effort, len(self.robot.actuators)).tolist()
        bullet, client = self._bullet, self._client
        for _ in range(round(share * self.substeps)):
            # Bullet forgets applied forces at the end of every substep.
            bullet.setJointMotorControlArray(
                self._body, self._actuators, bullet.TORQUE_CONTROL, forces=forces, physicsClientId=client
            )
            bullet.stepSimulation(physicsClientId=client)

    def render(self, width: int = 480, height: int = 270, view_width: float = 6.3, centre: float = 0.0) -> np.ndarray:
        """Picture from the side by the software renderer, which needs no display.

        Args:
            width: in pixels.
            height: in pixels.
            view_width: length of the track in the picture in m; the default shows all of the cart-pole's and the pole.
            centre: position on the track in the middle of the picture in m.

        Returns:
            (height, width, 3) uint8, red, green, blue.
        """
        bullet = self._bullet
        opening = np.radians(20.0)  # a narrow angle from far away, so that the track's ends are not distorted
        distance = 0.5 * view_width / np.tan(0.5 * opening)
        eye = [centre, -0.985 * distance, 0.174 * distance]  # 10 degrees from above
        vertical = np.degrees(2.0 * np.arctan(np.tan(0.5 * opening) * height / width))
        view = bullet.computeViewMatrix(eye, [centre, 0.0, 0.0], [0.0, 0.0, 1.0])
        projection = bullet.computeProjectionMatrixFOV(vertical, width / height, 0.5 * distance, 2.0 * distance)
        _, _, pixels, _, _ = bullet.getCameraImage(
            width,
            height,
            view,
            projection,
            lightDirection=[-1.0, -6.0, 4.0],
            lightAmbientCoeff=0.7,
            lightDiffuseCoeff=0.4,
            lightSpecularCoeff=0.0,
            shadow=0,
            renderer=bullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        return np.asarray(pixels, dtype=np.uint8).reshape(height, width, 4)[:, :, :3]

    def close(self) -> None:
        """Close the physics client; a second call does nothing."""
        if self._client >= 0:
            self._bullet.disconnect(physicsClientId=self._client)
            self._client = -1

    def __enter__(self) -> "PyBulletPlant":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _connect(self, gui: bool) -> int:
        """Number of a new physics client."""
        # PyBullet ends the whole process when it finds no display.
        if gui and sys.platform == "linux" and not os.environ.get("DISPLAY"):
            raise ConfigError("gui: True needs a display, but DISPLAY is not set; use gui: False")
        client = self._bullet.connect(self._bullet.GUI if gui else self._bullet.DIRECT)
        if client < 0:
            raise ConfigError(f"gui: {gui}: PyBullet could not be started")
        return client

    def _load(self) -> None:
        """Build the world: gravity, time step, the robot without motors and without PyBullet's own damping."""
        bullet, client = self._bullet, self._client
        bullet.resetSimulation(physicsClientId=client)
        bullet.setGravity(0.0, 0.0, -GRAVITY, physicsClientId=client)
        bullet.setTimeStep(self.robot.dt / self.substeps, physicsClientId=client)
        self._body = self._load_urdf()
        names = self._movable()
        self._joints = [joint_index(names, name, self.robot) for name in self.robot.joints]
        self._actuators = [joint_index(names, name, self.robot) for name in self.robot.actuators]
        for link in range(-1, bullet.getNumJoints(self._body, physicsClientId=client)):
            bullet.changeDynamics(self._body, link, linearDamping=0.0, angularDamping=0.0, physicsClientId=client)
        self._urdf_inertia = {
            j: bullet.getDynamicsInfo(self._body, j, physicsClientId=client)[0:3:2] for j in names.values()
        }
        for name, factor in self._mass_factor.items():
            self._apply_mass(names[name], factor)
        for joint in names.values():  # every joint starts with a velocity motor that brakes
            bullet.setJointMotorControl2(self._body, joint, bullet.VELOCITY_CONTROL, force=0.0, physicsClientId=client)

    def _load_urdf(self) -> int:
        """Body number of the robot, its inertia taken from the URDF instead of from shapes."""
        path = self.robot.urdf
        if path is None or not path.is_file():
            raise ConfigError(f"urdf: no file {path}")
        flags = self._bullet.URDF_USE_INERTIA_FROM_FILE
        try:
            return self._bullet.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=self._client)
        except self._bullet.error as error:
            raise ConfigError(f"urdf: PyBullet cannot load {path}: {error}") from None

    def _movable(self) -> dict[str, int]:
        """Names of the URDF's movable joints and their numbers in PyBullet."""
        bullet, client = self._bullet, self._client
        count = bullet.getNumJoints(self._body, physicsClientId=client)
        infos = [bullet.getJointInfo(self._body, j, physicsClientId=client) for j in range(count)]
        return {info[1].decode(): info[0] for info in infos if info[2] != bullet.JOINT_FIXED}


def require_simulable(robot: RobotDescription) -> None:
    """Raise ConfigError for a robot that this simulator is not made for."""
    if robot.command_interface != "effort" or robot.base != "none":
        what = robot.command_interface if robot.base == "none" else f"base {robot.base}"
        raise ConfigError(f"{robot.name}: {what} is not simulated; the simulator has joints that take efforts")
    if not robot.urdf or not robot.start_position:
        raise ConfigError(f"{robot.name}: the simulator needs urdf and start_position")


def import_pybullet() -> ModuleType:
    """Import PyBullet only where it is used, so that the rest of the package works without it."""
    try:
        with silence():
            import pybullet
    except ImportError:
        raise MissingDependencyError("the simulator needs PyBullet; install it with: pip install pybullet") from None
    return pybullet


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is written to stderr below Python: PyBullet says when it was built, in the midst of our output."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def joint_index(names: dict[str, int], name: str, robot: RobotDescription) -> int:
    """Number of a joint in PyBullet, or ConfigError that lists the joints there are."""
    if name not in names:
        raise ConfigError(f"{robot.urdf}: no movable joint '{name}'; the URDF has: {', '.join(names) or 'none'}")
    return names[name]


def finite(name: str, value: np.ndarray, length: int) -> np.ndarray:
    """Return `value` as (length,) float64 or raise ValueError that names it."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (length,) or not np.isfinite(array).all():
        raise ValueError(f"{name}: {value!r} is not allowed; expected {length} finite numbers")
    return array
