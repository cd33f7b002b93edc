"""Pendulum equations of motion: a uniform rod on a motor too weak to lift it in one go.

State ``x = (theta, omega)``: angle in rad (0 = upright), rate in rad/s. Control ``u = (torque,)`` in N m.

    I omega' = m g l / 2 sin(theta) - b omega + tau        with I = m l^2 / 3
"""

import numpy as np

MASS = 1.0  # kg
LENGTH = 1.0  # m, uniform rod
FRICTION = 0.01  # N m s/rad
GRAVITY = 9.81  # m/s^2


def derivative(x, u):
    """Time derivative of the state.

    Args:
        x: two components ``(theta, omega)``, scalars or arrays of one shape.
        u: one component, the torque in N m.

    Returns:
        Tuple of the two derivatives, in the shape of the components.
    """
    theta, omega = x[0], x[1]
    torque = 0.5 * MASS * GRAVITY * LENGTH * np.sin(theta) - FRICTION * omega + u[0]
    return omega, torque / (MASS * LENGTH**2 / 3.0)
