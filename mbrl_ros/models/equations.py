"""Equations of motion with named parameters, found by name, compiled to what `AnalyticDynamics` integrates.

A user writes ``derivative(x, u, p)`` over components, where p has the parameters by name (``p.cart_mass``), and says of
each parameter where it may lie: see `robots/cartpole_equations.py`. Which equations there are is this process's own
business: a name that is not registered here is never imported, so no model that is received can name code to load.
"""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np
from scipy.special import expit, logit

from mbrl_ros.errors import ConfigError, UnknownNameError
from mbrl_ros.models.equation_registry import EQUATIONS
from mbrl_ros.models.layout import StateLayout

FALLBACK = "damped_masses"  # fits every robot
GAIN, DRAG = 1e3, 100.0  # largest of `damped_masses`, in the units of the state


@dataclass(frozen=True)
class Parameter:
    """One unknown number of an equation and where it may lie; one that must be positive is searched by its logarithm.

    Attributes:
        name: as the equation calls it.
        low: lower bound, excluded; above zero for masses and lengths.
        start: first guess and centre of the prior, between the bounds.
        high: upper bound, excluded.
        unit: SI unit, for people.
    """

    name: str
    low: float
    start: float
    high: float
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"parameter '{self.name}': the name must be a Python identifier")
        if not -np.inf < self.low < self.start < self.high < np.inf:
            raise ConfigError(f"parameter {self.name}: expected low {self.low} < start {self.start} < high {self.high}")


@dataclass(frozen=True)
class Equation:
    """Equations of motion with unknown parameters.

    Attributes:
        derivative: ``(x, u, p) -> tuple`` of the nx time derivatives; complex-differentiable, see `analytic`.
        parameters: in the order of p.
        state: names of the state entries that x means, in order.
        action: names of the action entries that u means.
    """

    derivative: Callable
    parameters: tuple[Parameter, ...]
    state: tuple[str, ...]
    action: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(p.name for p in self.parameters)

    @property
    def start(self) -> np.ndarray:
        """First guess (n_p,)."""
        return np.array([p.start for p in self.parameters])

    @cached_property
    def _range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether each parameter is searched by its logarithm, and its lower and upper bound, in logarithms there."""
        low, high = np.array([(p.low, p.high) for p in self.parameters]).T
        positive = low > 0
        bounds = (np.log(a, out=np.array(a), where=positive) for a in (low, high))
        return positive, *bounds

    def natural(self, z: np.ndarray) -> np.ndarray:
        """Parameters (..., n_p) from unbounded coordinates z: ``low + (high - low) / (1 + exp(-z))``."""
        positive, low, high = self._range
        value = low + (high - low) * expit(z)
        return np.where(positive, np.exp(np.where(positive, value, 0.0)), value)

    def unbounded(self, values: np.ndarray) -> np.ndarray:
        """Inverse of `natural`, parameters at or beyond a bound a hair within it."""
        positive, low, high = self._range
        value = np.where(positive, np.log(np.where(positive, np.maximum(values, 1e-300), 1.0)), values)
        return logit(np.clip((value - low) / (high - low), 1e-9, 1.0 - 1e-9))

    def slope(self, z: np.ndarray) -> np.ndarray:
        """Derivative (n_p,) of `natural` at z (n_p,)."""
        positive, low, high = self._range
        share = expit(z)
        return (high - low) * share * (1.0 - share) * np.where(positive, self.natural(z), 1.0)


@cache
def augmented(equation: Equation) -> Callable:
    """The equation compiled as ``f(x, w)`` with ``w = (u, p)``: parameters are controls that stay where they are."""
    from numba import njit
    from numba.np.unsafe import ndarray as unsafe

    from mbrl_ros.models.analytic import compiled

    to_fixed_tuple: Any = unsafe.to_fixed_tuple
    f, nu, count = compiled(equation.derivative), len(equation.action), len(equation.parameters)
    named: Any = namedtuple("Parameters", equation.names)  # type: ignore[misc]

    @njit(error_model="numpy", forceinline=True)
    def with_parameters(x, w):
        return f(x, w, named(*to_fixed_tuple(w[nu:], count)))

    return with_parameters


def resolved(name: str, layout: StateLayout) -> str:
    """Name of the equation to use: `name`, or where it is empty the newest one registered for this very layout."""
    if name:
        return name
    matches = (n for n in reversed(EQUATIONS) if n != FALLBACK and fits(n, layout))
    return next(matches, FALLBACK)


def fits(name: str, layout: StateLayout) -> bool:
    """Whether an equation is about the state and action entries of `layout`, by their names."""
    equation = imported(EQUATIONS[name])
    return isinstance(equation, Equation) and (equation.state, equation.action) == (layout.state, layout.action)


def load(name: str, layout: StateLayout) -> Equation:
    """The registered equation `name` for a robot's layout.

    Raises:
        UnknownNameError: it is not registered; lists those that are.
        ConfigError: its address is wrong, or it is about another number of state or action entries.
    """
    if name not in EQUATIONS:
        raise UnknownNameError("equation", name, EQUATIONS)
    found = imported(EQUATIONS[name])
    equation = found if isinstance(found, Equation) else found(layout)
    if (len(equation.state), len(equation.action)) != (layout.nx, layout.nu):
        raise ConfigError(
            f"equation '{name}' has the state {list(equation.state)} and the action {list(equation.action)}; "
            f"the robot has {list(layout.state)} and {list(layout.action)}"
        )
    return equation


def register(address: str) -> str:
    """Make the user's own equation known to this process, ``package.module:object``; returns its name, the address.

    Only for what the user of this process has configured, never for what another process says.

    Raises:
        ConfigError: the address leads nowhere, or not to an equation.
    """
    imported(address)
    EQUATIONS.setdefault(address, address)
    return address


def imported(address: str) -> Any:
    """The `Equation`, or function of a layout that makes one, at ``package.module:object``."""
    module, _, attribute = address.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"equation: '{address}' is not allowed; expected package.module:object ({error})") from None
    if not isinstance(found, Equation) and not callable(found):
        raise ConfigError(f"equation: '{address}' is a {type(found).__name__}; expected an Equation or a function")
    return found


@cache
def _damped_masses(state: tuple[str, ...], action: tuple[str, ...], rates: tuple[int, ...]) -> Equation:
    """See `damped_masses`; rates: each entry's derivative among the state, -1 for a learned entry."""
    from numba.np.unsafe import ndarray as unsafe

    to_fixed_tuple: Any = unsafe.to_fixed_tuple
    nx, nu, index = len(state), len(action), np.array(rates)
    learned = [i for i in range(nx) if rates[i] < 0]

    def derivative(x, u, p):
        out, at = np.empty_like(x), 0
        for i in range(nx):
            if index[i] >= 0:
                out[i] = x[index[i]]
            else:
                out[i] = -p[at] * x[i]
                for j in range(nu):
                    out[i] += p[at + 1 + j] * u[j]
                at += nu + 1
        return to_fixed_tuple(out, nx)

    parameters: list[Parameter] = []
    for i in learned:
        parameters.append(Parameter(f"drag_{i}", 0.0, 0.1, DRAG, "1/s"))
        parameters += [Parameter(f"gain_{i}_{j}", -GAIN, 0.0, GAIN) for j in range(nu)]
    return Equation(derivative, tuple(parameters), state, action)


def damped_masses(layout: StateLayout) -> Equation:
    """For a robot no equation is known of: every learned entry v has ``v' = sum_j gain_j u_j - drag v``."""
    return _damped_masses(layout.state, layout.action, tuple(int(i) for i in layout.derivative_index))
