"""A cart-pole as a careful user of a peer writes it: plain Python, Jacobians derived by hand (explicit Euler).

The equations are those of `robots/cartpole_equations.py`; its constants arrive with the request.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EulerCartpole:
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

    def step(self, x, force):
        """Next state, a tuple of four."""
        a, b, _, _ = self.accelerations(x, force)
        return x[0] + self.dt * x[2], x[1] + self.dt * x[3], x[2] + self.dt * a, x[3] + self.dt * b

    def jacobian(self, x, force):
        """Rows of [A B] (4, 5) of `step`."""
        dt = self.dt
        _, _, da, db = self.accelerations(x, force)
        return (
            (1.0, 0.0, dt, 0.0, 0.0),
            (0.0, 1.0, 0.0, dt, 0.0),
            (0.0, dt * da[0], 1.0 + dt * da[1], dt * da[2], dt * da[3]),
            (0.0, dt * db[0], dt * db[1], 1.0 + dt * db[2], dt * db[3]),
        )
