"""A cart-pole as a careful user of a peer writes it: plain Python, Jacobians derived by hand.

The equations are those of `robots/cartpole_equations.py`; its constants arrive with the request.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cartpole:
    """State ``(p, theta, v, omega)``, control the force in N; dt in s, the other fields in SI units."""

    cart_mass: float
    pole_mass: float
    pole_length: float
    friction: float
    gravity: float
    dt: float

    def accelerations(self, x, force):
        """Cart and pole acceleration and their derivatives by (theta, v, omega, force): (a, b, da, db)."""
        theta, v, omega = x[1], x[2], x[3]
        s, c = math.sin(theta), math.cos(theta)
        half = 0.5 * self.pole_length
        k, total = self.pole_mass * half, self.cart_mass + self.pole_mass
        inertia = self.pole_mass * self.pole_length**2 / 12.0 + k * half
        coupling, push = k * c, force - self.friction * v + k * omega**2 * s
        torque = k * self.gravity * s
        inverse = 1.0 / (total * inertia - coupling**2)
        a, b = (inertia * push - coupling * torque) * inverse, (total * torque - coupling * push) * inverse
        slope = 2.0 * k * coupling * s  # of the determinant, by theta
        push_theta, torque_theta, coupling_theta = k * omega**2 * c, k * self.gravity * c, -k * s
        a_theta = inertia * push_theta - coupling_theta * torque - coupling * torque_theta - a * slope
        b_theta = total * torque_theta - coupling_theta * push - coupling * push_theta - b * slope
        push_rest = (-self.friction, 2.0 * k * omega * s, 1.0)
        da = (a_theta * inverse, *(inertia * inverse * p for p in push_rest))
        db = (b_theta * inverse, *(-coupling * inverse * p for p in push_rest))
        return a, b, da, db

    def slope(self, x, force):
        """Time derivative, a tuple of four."""
        a, b, _, _ = self.accelerations(x, force)
        return x[2], x[3], a, b

    def slope_jacobian(self, x, force):
        """Derivatives of `slope` by (x, force): (4, 5)."""
        _, _, da, db = self.accelerations(x, force)
        return np.array(((0.0, 0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0, 0.0), (0.0, *da), (0.0, *db)))


class Euler(Cartpole):
    """Explicit Euler."""

    def step(self, x, force):
        """Next state, a tuple of four."""
        return tuple(p + self.dt * d for p, d in zip(x, self.slope(x, force), strict=True))

    def jacobian(self, x, force):
        """[A B] (4, 5) of `step`."""
        return np.eye(4, 5) + self.dt * self.slope_jacobian(x, force)


class RK4(Cartpole):
    """The classical fourth-order method."""

    def points(self, x, force):
        """Where the slopes are taken, and the slopes: four of each."""
        points, slopes = [x], [self.slope(x, force)]
        for h in (0.5 * self.dt, 0.5 * self.dt, self.dt):
            points.append([p + h * d for p, d in zip(x, slopes[-1], strict=True)])
            slopes.append(self.slope(points[-1], force))
        return points, slopes

    def step(self, x, force):
        """Next state, a list of four."""
        sums = zip(x, *self.points(x, force)[1], strict=True)
        return [p + self.dt / 6.0 * (a + 2.0 * (b + c) + d) for p, a, b, c, d in sums]

    def jacobian(self, x, force):
        """[A B] (4, 5) of `step`."""
        dt, total, D = self.dt, np.zeros((4, 5)), np.zeros((4, 5))
        steps, weights = (0.0, 0.5 * dt, 0.5 * dt, dt), (1.0, 2.0, 2.0, 1.0)
        for point, h, weight in zip(self.points(x, force)[0], steps, weights, strict=True):
            J = self.slope_jacobian(point, force)
            D = J + h * (J[:, :4] @ D)
            total += weight * D
        return np.eye(4, 5) + dt / 6.0 * total


INTEGRATORS = {"euler": Euler, "rk4": RK4}
