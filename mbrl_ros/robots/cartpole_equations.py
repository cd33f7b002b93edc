"""Cart-pole equations of motion: the closed form that the simulator and the planners are held to.

State ``x = (p, theta, v, omega)``: cart position in m, pole angle in rad (0 = upright, positive towards +p),
cart velocity in m/s, pole rate in rad/s. Control ``u = (force,)`` in N on the cart.

Lagrange's equations of a cart with a uniform rod (Deisenroth 2010, appendix C, in our angle convention)::

    (mc + mp) v' + mp l cos(theta) omega' - mp l omega^2 sin(theta) = F - b v
    mp l cos(theta) v' + (I + mp l^2) omega' - mp g l sin(theta)    = 0        with I = mp L^2 / 12, l = L / 2
"""

import numpy as np

CART_MASS = 0.5  # kg
POLE_MASS = 0.5  # kg
POLE_LENGTH = 0.5  # m, uniform rod
CART_FRICTION = 0.1  # N s/m
GRAVITY = 9.81  # m/s^2


def derivative(x, u):
    """Time derivative of the state.

    Args:
        x: four components ``(p, theta, v, omega)``, scalars or arrays of one shape.
        u: one component, the force in N.

    Returns:
        Tuple of the four derivatives, in the shape of the components.
    """
    theta, v, omega = x[1], x[2], x[3]
    s, c = np.sin(theta), np.cos(theta)
    half = 0.5 * POLE_LENGTH
    inertia = POLE_MASS * POLE_LENGTH**2 / 12.0 + POLE_MASS * half**2
    coupling = POLE_MASS * half * c
    push = u[0] - CART_FRICTION * v + POLE_MASS * half * omega**2 * s
    torque = POLE_MASS * GRAVITY * half * s
    determinant = (CART_MASS + POLE_MASS) * inertia - coupling**2
    acceleration = (inertia * push - coupling * torque) / determinant
    angular = ((CART_MASS + POLE_MASS) * torque - coupling * push) / determinant
    return v, omega, acceleration, angular
