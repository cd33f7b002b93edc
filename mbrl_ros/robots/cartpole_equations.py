"""Cart-pole equations of motion: the closed form that the simulator and the planners are held to.

State ``x = (p, theta, v, omega)``: cart position in m, pole angle in rad (0 = upright, positive towards +p),
cart velocity in m/s, pole rate in rad/s. Control ``u = (force,)`` in N on the cart.

Lagrange's equations of a cart with a uniform rod (Deisenroth 2010, appendix C, in our angle convention)::

    (mc + mp) v' + mp l cos(theta) omega' - mp l omega^2 sin(theta) = F - b v
    mp l cos(theta) v' + (I + mp l^2) omega' - mp g l sin(theta)    = 0        with I = mp L^2 / 12, l = L / 2
"""

from collections import namedtuple

import numpy as np

from mbrl_ros.models.equations import Equation, Parameter

CART_MASS = 0.5  # kg
POLE_MASS = 0.5  # kg
POLE_LENGTH = 0.5  # m, uniform rod
CART_FRICTION = 0.1  # N s/m
GRAVITY = 9.81  # m/s^2

Parameters = namedtuple("Parameters", ("cart_mass", "pole_mass", "pole_length", "cart_friction", "hinge_friction"))
TRUE = Parameters(CART_MASS, POLE_MASS, POLE_LENGTH, CART_FRICTION, 0.0)


def derivative(x, u):
    """Time derivative of the state of the benchmark's cart-pole, see `derivative_with`.

    Args:
        x: four components ``(p, theta, v, omega)``, scalars or arrays of one shape.
        u: one component, the force in N.

    Returns:
        Tuple of the four derivatives, in the shape of the components.
    """
    return derivative_with(x, u, TRUE)


def derivative_with(x, u, p):
    """The same for a cart-pole with the parameters p, among them friction of the hinge in N m s/rad."""
    theta, v, omega = x[1], x[2], x[3]
    s, c = np.sin(theta), np.cos(theta)
    half = 0.5 * p.pole_length
    inertia = p.pole_mass * p.pole_length**2 / 12.0 + p.pole_mass * half**2
    coupling = p.pole_mass * half * c
    push = u[0] - p.cart_friction * v + p.pole_mass * half * omega**2 * s
    torque = p.pole_mass * GRAVITY * half * s - p.hinge_friction * omega
    determinant = (p.cart_mass + p.pole_mass) * inertia - coupling**2
    acceleration = (inertia * push - coupling * torque) / determinant
    angular = ((p.cart_mass + p.pole_mass) * torque - coupling * push) / determinant
    return v, omega, acceleration, angular


EQUATION = Equation(
    derivative_with,
    (
        Parameter("cart_mass", 0.05, 1.0, 20.0, "kg"),
        Parameter("pole_mass", 0.02, 0.2, 10.0, "kg"),
        Parameter("pole_length", 0.1, 1.0, 5.0, "m"),
        Parameter("cart_friction", 0.0, 0.5, 5.0, "N s/m"),
        Parameter("hinge_friction", 0.0, 0.01, 0.2, "N m s/rad"),
    ),
    state=("cart_slider/position", "pole_hinge/position", "cart_slider/velocity", "pole_hinge/velocity"),
    action=("cart_slider/effort",),
)
