"""Motion of the known cart-pole for studies of models: whole trajectories as a robot records them, with sensor noise.

Every other trajectory is the base policy's; the others swing up by pumping energy and are held upright for a while,
with noise on top, so that the data hold what a swing-up passes through.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.linalg import solve_continuous_are

from mbrl_ros.benchmarks.offline_swingup import step
from mbrl_ros.models.analytic import AnalyticDynamics
from mbrl_ros.policies.smooth_random import SmoothRandom, SmoothRandomConfig
from mbrl_ros.robots import cartpole_equations as plant
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.types import Transitions

HALF = 0.5 * plant.POLE_LENGTH
INERTIA = plant.POLE_MASS * plant.POLE_LENGTH**2 / 12.0 + plant.POLE_MASS * HALF**2  # about the hinge
CATCH_ANGLE, CATCH_RATE = 0.5, 4.0  # rad and rad/s, within which the pole is balanced
CENTRING = np.array([2.0, 2.0])  # 1/s^2 and 1/s, pull the cart back while it pumps
PUMPING = (20.0, 60.0)  # m/s^2 of cart for 1 J of missing energy and 1 rad/s, drawn for each trajectory
NOISE = 0.15  # of a swing-up's force, root mean square as a share of the limit

Policy = Callable[[int, np.ndarray], np.ndarray]


def record(robot: RobotDescription, count: int, rng: np.random.Generator) -> Transitions:
    """The first `count` transitions of as many trials as it takes, base policy and swing-up in turn.

    Args:
        robot: a cart-pole with the masses of `cartpole_equations`; gives rate, limits, noise and length of a trial.
        count: transitions; the last trajectory is cut where they are reached.
        rng: random generator.
    """
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
    trial = 0
    while len(rows) < count:
        policy = (base_policy, swing_up_policy)[trial % 2](robot, rng)
        rows += [(*row, trial) for row in move(robot, policy, rng)]
        trial += 1
    return Transitions(*(np.array(column) for column in zip(*rows[:count], strict=True)))


def move(
    robot: RobotDescription, policy: Policy, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One trial from the robot's start, as measured; it ends at the end of the track."""
    std = np.repeat([robot.position_noise, robot.velocity_noise], len(robot.joints))
    x = np.array([*robot.start_position, *np.zeros(len(robot.joints))])
    z, rows = x + std * rng.standard_normal(len(x)), []
    for tick in range(robot.trial_steps):
        u = np.clip(policy(tick, z), -robot.u_max, robot.u_max)
        x = step(x, u, robot.dt)
        rows.append((z, u, z := x + std * rng.standard_normal(len(x))))
        if abs(x[0]) > robot.position_limit[0]:
            break
    return rows


def base_policy(robot: RobotDescription, rng: np.random.Generator) -> Policy:
    """What the robot does before there is a model."""
    random = SmoothRandom(SmoothRandomConfig(), -robot.u_max, robot.u_max, robot.trial_steps, rng)
    return lambda tick, z: random.action(tick)


def swing_up_policy(robot: RobotDescription, rng: np.random.Generator) -> Policy:
    """Pump energy (Astrom and Furuta 2000) until the pole is near upright, balance it there; noise all the while."""
    noise = SmoothRandom(replace(SmoothRandomConfig(), std=NOISE), -robot.u_max, robot.u_max, robot.trial_steps, rng)
    strength = rng.uniform(*PUMPING)

    def policy(tick: int, z: np.ndarray) -> np.ndarray:
        angle = np.arctan2(np.sin(z[1]), np.cos(z[1]))
        near = abs(angle) < CATCH_ANGLE and abs(z[3]) < CATCH_RATE
        force = -balancing_gain() @ [z[0], angle, z[2], z[3]] if near else pumping_force(z, strength)
        return noise.action(tick) + force

    return policy


def pumping_force(x: np.ndarray, strength: float) -> float:
    """Force (N) whose cart acceleration adds to the pole's energy what it lacks to stand upright."""
    _, theta, v, omega = x
    cosine, moment = np.cos(theta), plant.POLE_MASS * HALF
    energy = 0.5 * INERTIA * omega**2 + moment * plant.GRAVITY * (cosine - 1.0)  # 0 upright and at rest
    acceleration = strength * energy * omega * cosine - CENTRING @ x[[0, 2]]  # dE/dt = -m l cos(theta) omega a
    turning = moment * (plant.GRAVITY * np.sin(theta) - cosine * acceleration) / INERTIA
    swing = moment * (cosine * turning - omega**2 * np.sin(theta))
    return float((plant.CART_MASS + plant.POLE_MASS) * acceleration + swing + plant.CART_FRICTION * v)


@cache
def balancing_gain() -> np.ndarray:
    """Gain (4,) of the linear quadratic regulator at the upright equilibrium."""
    tiny = 1e-6  # s, a step so short that its Jacobians give those of the differential equation
    F, G = AnalyticDynamics(plant.derivative, 4, 1, tiny).linearize(np.zeros((1, 4)), np.zeros((1, 1)))
    A, B = (F[0] - np.eye(4)) / tiny, G[0] / tiny
    P = solve_continuous_are(A, B, np.diag([1.0, 10.0, 0.1, 0.1]), np.array([[0.1]]))
    return (B.T @ P / 0.1)[0]
