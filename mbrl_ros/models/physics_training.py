"""Fits a Physics: the most probable parameters, how sure they are, and members drawn accordingly.

Windows grow from a few periods to the configured length, since a short prediction finds its way from any first guess
and a long one is more exact. Around the most probable parameters the posterior is taken for normal (Laplace; Bishop
2006, section 4.4) in coordinates that keep every draw within its bounds.
"""

import time
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mbrl_ros.models import equations
from mbrl_ros.models.fitting import FitError, checked, stream
from mbrl_ros.models.layout import StateLayout
from mbrl_ros.models.multiple_shooting import MAD, Estimate, estimate, spread_over, windows
from mbrl_ros.models.physics import Physics, PhysicsConfig, dynamics, joined, packed
from mbrl_ros.types import Transitions

PRIOR_STD = 2.0  # of the unbounded coordinates: nearly all that the bounds allow
FIRST_WINDOWS = (2, 6)  # periods of the windows that a fit from scratch begins with
ROUNDS = 3  # of search and noise
KNOWN = 0.5  # share of the prior's deviation above which the data have not determined a direction
LOADING = 0.3  # of a parameter in such a direction, from which on it is named
SMALLEST_NOISE = 1e-6


@dataclass(frozen=True)
class ParameterEstimate:
    """One line of the report: what was found of a parameter, and between which bounds, from which guess."""

    name: str
    value: float
    standard_error: float
    unit: str
    low: float
    start: float
    high: float


@dataclass(frozen=True)
class PhysicsReport:
    """What a fit did.

    Attributes:
        loss: robust loss of a measured value, in squared standard deviations.
        steps: steps of the searches.
        seconds: wall time.
        transitions: size of the data.
        warm: whether the search began with the last model's parameters.
        equation: its registered name.
        parameters: what was found.
        correlation: of the parameters' errors (n_p, n_p).
        undetermined: groups of parameters of which the data do not say more than the prior, alone or as a combination.
        measurement_std: noise of the measured states (nx,).
    """

    loss: float
    steps: int
    seconds: float
    transitions: int
    warm: bool
    equation: str
    parameters: tuple[ParameterEstimate, ...]
    correlation: np.ndarray
    undetermined: tuple[tuple[str, ...], ...]
    measurement_std: np.ndarray

    def parameter_table(self) -> str:
        """The parameters as a table, then what is not determined."""
        lines = [f"{'parameter':<16} {'value':>10} {'std. error':>10}  unit      prior"]
        for p in self.parameters:
            prior = f"{p.start:g} in ({p.low:g}, {p.high:g})"
            lines.append(f"{p.name:<16} {p.value:>10.4g} {p.standard_error:>10.2g}  {p.unit:<8}  {prior}")
        for names in self.undetermined:
            what = "a combination of " if len(names) > 1 else ""
            lines.append(f"not determined by the data: {what}{', '.join(names)}")
        return "\n".join(lines)


class Identified:
    """An equation as `multiple_shooting.System`, its parameters in unbounded coordinates."""

    prior_std = PRIOR_STD

    def __init__(self, equation: equations.Equation, layout: StateLayout, substeps: int) -> None:
        self.equation, self.nu = equation, layout.nu
        self.z0 = equation.unbounded(equation.start)
        self._dynamics = dynamics(equation, layout, substeps)

    def step(self, x: np.ndarray, u: np.ndarray, z: np.ndarray) -> np.ndarray:
        """See `multiple_shooting.System`."""
        return self._dynamics.step(x, joined(u, self.equation.natural(z)))

    def linearize(self, x: np.ndarray, u: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `multiple_shooting.System`; by the complex step of the integration."""
        A, B = self._dynamics.linearize(x, joined(u, self.equation.natural(z)))
        return A, B[..., self.nu :] * self.equation.slope(z)


def fit(
    data: Transitions, layout: StateLayout, config: PhysicsConfig, seed: int, previous: Physics | None = None
) -> tuple[Physics, PhysicsReport]:
    """Fit to transitions; same data, previous model and seed give the same bytes.

    Args:
        data: one transition or more.
        layout: meaning of the state entries.
        config: settings.
        seed: of the members.
        previous: start from its parameters, with windows of full length at once.

    Raises:
        FitError: no data, non-finite data or motion that the equation cannot follow at all.
        ConfigError: the equation is not known or not about this robot.
    """
    begin = time.perf_counter()
    _, targets = checked(data, layout)
    name = equation_name(config, layout)
    system = Identified(equations.load(name, layout), layout, config.substeps)
    warm = previous is not None and previous.equation is system.equation
    z = system.equation.unbounded(previous.arrays["parameters"]) if previous is not None and warm else system.z0
    found, steps = identified(system, data, config, z, warm)
    equation, noise = system.equation, noise_left(system, data, targets, found.z, layout)
    draws = equation.natural(drawn(found, config.members, np.random.default_rng(stream(seed, len(data)))))
    arrays = packed(name, config.substeps, equation.natural(found.z), draws, noise)
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise FitError("fit: the model is not finite; the last good model stays in use")
    report = reported(name, equation, found, steps, time.perf_counter() - begin, len(data), warm)
    return Physics(layout, arrays), report


def equation_name(config: PhysicsConfig, layout: StateLayout) -> str:
    """Registered name of the configured equation; an address becomes one, for it is this user's own setting."""
    name = equations.resolved(config.equation, layout)
    return equations.register(name) if ":" in name else name


def identified(
    system: Identified, data: Transitions, config: PhysicsConfig, z: np.ndarray, warm: bool
) -> tuple[Estimate, int]:
    """Estimate of the longest windows, and the steps of all."""
    lengths = sorted({config.window} if warm else {min(n, config.window) for n in (*FIRST_WINDOWS, config.window)})
    steps = 0
    for length in lengths:
        w = spread_over(windows(data, length), config.max_data)
        try:
            found = estimate(system, w, z, config.outlier, config.iterations, ROUNDS if length == lengths[-1] else 1)
        except np.linalg.LinAlgError as error:
            raise FitError(f"fit: no parameters found, {error}; the last good model stays in use") from None
        z, steps = found.z, steps + found.steps
    return found, steps


def noise_left(
    system: Identified, data: Transitions, targets: np.ndarray, z: np.ndarray, layout: StateLayout
) -> np.ndarray:
    """Standard deviation (ny,) of what the equation leaves of the change in one period, wild values not counted."""
    error = targets - layout.targets(data.x, system.step(data.x, data.u, z))
    scale = MAD * np.median(np.abs(error), axis=0)
    near = np.abs(error) <= 4.0 * np.maximum(scale, SMALLEST_NOISE)
    mean_square = np.where(near, error**2, 0.0).sum(axis=0) / np.maximum(near.sum(axis=0), 1)
    return np.maximum(np.sqrt(mean_square), SMALLEST_NOISE)


def drawn(found: Estimate, members: int, rng: np.random.Generator) -> np.ndarray:
    """Draws (E, n_p) of the coordinates, centred and rescaled: their mean is the most probable one."""
    draws = rng.standard_normal((members, len(found.z)))
    draws = (draws - draws.mean(axis=0)) * np.sqrt(members / max(members - 1, 1))
    variance, directions = np.linalg.eigh(found.covariance)
    return found.z + (draws * np.sqrt(np.maximum(variance, 0.0))) @ directions.T


def reported(
    name: str, equation: equations.Equation, found: Estimate, steps: int, seconds: float, count: int, warm: bool
) -> PhysicsReport:
    """The report of an estimate; standard errors carried over to the parameters by their slope."""
    std = np.sqrt(np.diag(found.covariance))
    columns = equation.parameters, equation.natural(found.z), equation.slope(found.z) * std
    rows = tuple(
        ParameterEstimate(p.name, float(value), float(error), p.unit, p.low, p.start, p.high)
        for p, value, error in zip(*columns, strict=True)
    )
    correlation = found.covariance / np.outer(std, std)
    groups = undetermined(equation, found)
    return PhysicsReport(found.loss, steps, seconds, count, warm, name, rows, correlation, groups, found.scale)


def undetermined(equation: equations.Equation, found: Estimate) -> tuple[tuple[str, ...], ...]:
    """Parameters, or combinations, of which the data say little: directions whose deviation is still the prior's.

    Deviations are compared where the bounds are a straight line (a friction that is surely near zero lies far out in
    unbounded coordinates, where its deviation is large).
    """
    share, guess = expit(found.z), expit(equation.unbounded(equation.start))
    straight = np.minimum(share * (1.0 - share) / (guess * (1.0 - guess)), 1.0)
    variance, directions = np.linalg.eigh(found.covariance * np.outer(straight, straight))
    wide = np.flatnonzero(variance > (KNOWN * PRIOR_STD) ** 2)
    named = (zip(equation.names, directions[:, i], strict=True) for i in wide)
    return tuple(tuple(name for name, share in pairs if abs(share) > LOADING) for pairs in named)
