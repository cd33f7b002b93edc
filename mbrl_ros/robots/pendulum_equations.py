"""Pendulum equations of motion: a uniform rod on a motor too weak to lift it in one go.

State ``x = (theta, omega)``: angle in rad (0 = upright), rate in rad/s. Control ``u = (torque,)`` in N m.

    I omega' = m g l / 2 sin(theta) - b omega + tau        with I = m l^2 / 3
"""

from collections import namedtuple

import numpy as np

from mbrl_ros.models.equations import Equation, Parameter

MASS = 1.0  # kg
LENGTH = 1.0  # m, uniform rod
FRICTION = 0.01  # N m s/rad
GRAVITY = 9.81  # m/s^2

Parameters = namedtuple("Parameters", ("mass", "length", "friction"))
TRUE = Parameters(MASS, LENGTH, FRICTION)


def derivative(x, u):
    """Time derivative of the state of the benchmark's pendulum, see `derivative_with`."""
    return derivative_with(x, u, TRUE)


def derivative_with(x, u, p):
    """Time derivative of the state.

    Args:
        x: two components ``(theta, omega)``, scalars or arrays of one shape.
        u: one component, the torque in N m.
        p: ``mass`` in kg, ``length`` in m, ``friction`` in N m s/rad.

    Returns:
        Tuple of the two derivatives, in the shape of the components.
    """
    theta, omega = x[0], x[1]
    torque = 0.5 * p.mass * GRAVITY * p.length * np.sin(theta) - p.friction * omega + u[0]
    return omega, torque / (p.mass * p.length**2 / 3.0)


EQUATION = Equation(
    derivative_with,
    (
        Parameter("mass", 0.05, 2.0, 20.0, "kg"),
        Parameter("length", 0.1, 0.6, 5.0, "m"),
        Parameter("friction", 0.0, 0.1, 2.0, "N m s/rad"),
    ),
    state=("hinge/position", "hinge/velocity"),
    action=("hinge/effort",),
)
