"""Direct collocation of continuous-time optimal control problems (Kelly 2017, SIAM Review 59(4)).

States and controls at the points of a grid are the unknowns; the dynamics become equality constraints. Both
transcriptions, trapezoidal (section 3) and separated Hermite-Simpson (section 4), have one form: with the points'
states X (M, nx), their derivatives F and the duration T, the defects are ``D X - T W F = 0`` and the integral of the
running cost is ``T w . l``. So all derivatives are those of f and l point by point: first ones by the complex step,
exact; second ones as differences of these. The nonlinear program is solved by `interior_point`, sparse throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.interpolate import CubicHermiteSpline

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError, lookup
from mbrl_ros.planners.cost_expansion import STEP, expand, slopes
from mbrl_ros.planners.interior_point import minimise

Guess = tuple[np.ndarray, np.ndarray, float]


def no_running_cost(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Nothing: x (..., nx) -> (...)."""
    return 0.0 * x[..., 0]


def no_terminal_cost(x: np.ndarray) -> np.ndarray:
    """Nothing: x (..., nx) -> (...)."""
    return 0.0 * x[..., 0]


@dataclass(frozen=True)
class OptimalControlProblem:
    """Minimise ``integral l(x, u) dt + phi(x(T)) + time_weight T`` subject to ``x' = f(x, u)``, limits and ends.

    All functions must be complex-differentiable numpy that accepts any leading dimensions.

    Attributes:
        derivative: f, ``(x, u) -> tuple`` over components as in `robots/cartpole_equations.py`.
        x_start: (nx,), NaN where free.
        x_end: (nx,), NaN where free.
        u_min: lower control limits (nu,).
        u_max: upper control limits (nu,).
        duration: T in s, or its lowest and highest value where it is free.
        running_cost: l, x (..., nx), u (..., nu) -> (...), per second.
        terminal_cost: phi, x (..., nx) -> (...).
        time_weight: cost of one second; 1 with no other cost is the minimum-time problem.
        x_min: lower state limits (nx,); None for none.
        x_max: upper state limits (nx,); None for none.
    """

    derivative: Callable
    x_start: np.ndarray
    x_end: np.ndarray
    u_min: np.ndarray
    u_max: np.ndarray
    duration: float | tuple[float, float]
    running_cost: Callable[[np.ndarray, np.ndarray], np.ndarray] = no_running_cost
    terminal_cost: Callable[[np.ndarray], np.ndarray] = no_terminal_cost
    time_weight: float = 0.0
    x_min: np.ndarray | None = None
    x_max: np.ndarray | None = None

    def __post_init__(self) -> None:
        low, high = self.duration_limits
        if not 0.0 < low <= high:
            raise ConfigError(f"duration: {self.duration} s must be positive, the lowest value first")
        if len(self.x_start) != len(self.x_end) or len(self.u_min) != len(self.u_max):
            raise ConfigError("x_start and x_end, and u_min and u_max, must have the same length")

    @property
    def nx(self) -> int:
        """State entries."""
        return len(self.x_start)

    @property
    def nu(self) -> int:
        """Control entries."""
        return len(self.u_min)

    @property
    def duration_limits(self) -> tuple[float, float]:
        """Lowest and highest duration in s; equal where it is fixed."""
        return self.duration if isinstance(self.duration, tuple) else (self.duration, self.duration)


@dataclass(frozen=True)
class CollocationSettings:
    """How a problem is transcribed and solved."""

    segments: int = option(25, "segments of the grid", low=1, high=1000)
    scheme: str = option(
        "hermite_simpson", "transcription, of order 2 and 4", choices=("trapezoidal", "hermite_simpson")
    )
    iterations: int = option(300, "most iterations of the solver", low=1, high=100_000)
    tolerance: float = option(
        1e-8, "violation of the optimality conditions at which the solver stops", low=1e-15, high=1.0
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Grid:
    """A transcription: rows of D and W are defects, columns the M points; w integrates over unit time."""

    D: np.ndarray
    W: np.ndarray
    w: np.ndarray


def trapezoidal(segments: int) -> Grid:
    """``x_{k+1} - x_k = h/2 (f_k + f_{k+1})``, Kelly equation 3.3; M = segments + 1."""
    k, h = np.arange(segments), 1.0 / segments
    D, W = np.zeros((2, segments, segments + 1))
    D[k, k], D[k, k + 1] = -1.0, 1.0
    W[k, k] = W[k, k + 1] = 0.5 * h
    return Grid(D, W, W.sum(axis=0))


def hermite_simpson(segments: int) -> Grid:
    """Kelly equations 4.3 and 4.4, the midpoints being unknowns of their own; M = 2 segments + 1."""
    k, h = np.arange(segments), 1.0 / segments
    left, middle, right = 2 * k, 2 * k + 1, 2 * k + 2
    D, W = np.zeros((2, 2 * segments, 2 * segments + 1))
    D[k, left], D[k, right] = -1.0, 1.0  # x_{k+1} - x_k = h/6 (f_k + 4 f_m + f_{k+1})
    W[k, left], W[k, middle], W[k, right] = h / 6.0, 4.0 * h / 6.0, h / 6.0
    m = segments + k
    D[m, left], D[m, middle], D[m, right] = -0.5, 1.0, -0.5  # x_m = (x_k + x_{k+1}) / 2 + h/8 (f_k - f_{k+1})
    W[m, left], W[m, right] = h / 8.0, -h / 8.0
    return Grid(D, W, W[:segments].sum(axis=0))


SCHEMES = {"trapezoidal": trapezoidal, "hermite_simpson": hermite_simpson}


@dataclass(frozen=True)
class CollocationResult:
    """A solution on the grid and between its points.

    Attributes:
        times: (M,) in s.
        x: states (M, nx).
        u: controls (M, nu).
        x_dot: derivatives of the states (M, nx).
        duration: T in s.
        cost: of the transcribed problem.
        defect: largest violation of the transcribed dynamics.
        status: ``converged``, or why the solver ended before, see `interior_point.minimise`.
        iterations: of the solver.
        knots: every how many points a segment begins: 1 trapezoidal, 2 Hermite-Simpson.
    """

    times: np.ndarray
    x: np.ndarray
    u: np.ndarray
    x_dot: np.ndarray
    duration: float
    cost: float
    defect: float
    status: str
    iterations: int
    knots: int

    def state(self, t: np.ndarray) -> np.ndarray:
        """Between the points as the transcription has it, quadratic or cubic (Kelly 3.8, 4.11): (...) -> (..., nx)."""
        every = slice(None, None, self.knots)
        return CubicHermiteSpline(self.times[every], self.x[every], self.x_dot[every])(t)

    def action(self, t: np.ndarray) -> np.ndarray:
        """Between the points as the transcription has it, linear or quadratic (Kelly 3.7, 4.10): (...) -> (..., nu)."""
        segments = (len(self.times) - 1) // self.knots
        position = np.clip(np.asarray(t) / self.duration, 0.0, 1.0) * segments
        k = np.minimum(position.astype(int), segments - 1)
        s = (position - k)[..., None]
        first, last = self.u[self.knots * k], self.u[self.knots * (k + 1)]
        if self.knots == 1:
            return (1.0 - s) * first + s * last
        middle = self.u[2 * k + 1]
        return (2.0 * s - 1.0) * ((s - 1.0) * first + s * last) + 4.0 * s * (1.0 - s) * middle


class Transcription:
    """The `NonlinearProgram` of a problem on a grid: unknowns v = (states and controls point by point, duration)."""

    def __init__(self, problem: OptimalControlProblem, grid: Grid) -> None:
        self.problem, self.w = problem, grid.w
        self.points, self.nx, self.nz = len(grid.w), problem.nx, problem.nx + problem.nu
        self.D = sp.kron(grid.D, np.eye(self.nx, self.nz), format="csr")  # picks the states out of z
        self.W = sp.kron(grid.W, np.eye(self.nx), format="csr")
        self.low, self.high = self._limits()

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest unknowns; given ends are limits that meet."""
        p = self.problem
        free = np.full(p.nx, np.inf)
        low = np.tile(np.append(-free if p.x_min is None else p.x_min, p.u_min), (self.points, 1)).astype(float)
        high = np.tile(np.append(free if p.x_max is None else p.x_max, p.u_max), (self.points, 1)).astype(float)
        for point, end in ((0, p.x_start), (-1, p.x_end)):
            given = np.flatnonzero(np.isfinite(end))
            low[point, given] = high[point, given] = np.asarray(end)[given]
        shortest, longest = p.duration_limits
        return np.append(low.ravel(), shortest), np.append(high.ravel(), longest)

    def split(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Unknowns -> states and controls z (M, nx + nu), duration."""
        return v[:-1].reshape(self.points, self.nz), float(v[-1])

    def f(self, z: np.ndarray) -> np.ndarray:
        """State derivatives: (..., nx + nu) -> (..., nx)."""
        components = np.moveaxis(z, -1, 0)
        rates = self.problem.derivative(components[: self.nx], components[self.nx :])
        return np.stack(np.broadcast_arrays(*rates, components[0])[:-1], axis=-1)

    def running(self, z: np.ndarray) -> np.ndarray:
        """Running cost: (..., nx + nu) -> (...)."""
        return self.problem.running_cost(z[..., : self.nx], z[..., self.nx :])

    def cost(self, v: np.ndarray) -> float:
        """Transcribed cost."""
        z, T = self.split(v)
        per_second = self.w @ self.running(z) + self.problem.time_weight
        return float(T * per_second + self.problem.terminal_cost(z[-1, : self.nx]))

    def gradient(self, v: np.ndarray) -> np.ndarray:
        """Gradient of the cost."""
        z, T = self.split(v)
        by_z = T * self.w[:, None] * gradient(self.running, z)
        by_z[-1, : self.nx] += gradient(self.problem.terminal_cost, z[-1:, : self.nx])[0]
        return np.append(by_z.ravel(), self.w @ self.running(z) + self.problem.time_weight)

    def constraints(self, v: np.ndarray) -> np.ndarray:
        """Defects of the transcribed dynamics."""
        z, T = self.split(v)
        return self.D @ z.ravel() - T * (self.W @ self.f(z).ravel())

    def jacobian(self, v: np.ndarray) -> sp.csr_array:
        """Jacobian of the defects."""
        z, T = self.split(v)
        by_z = self.f(z + 1j * STEP * np.eye(self.nz)[:, None]).imag / STEP  # (nx + nu, M, nx)
        by_duration = -(self.W @ self.f(z).ravel())[:, None]
        return sp.hstack([self.D - T * (self.W @ block_diagonal(by_z.transpose(1, 2, 0))), by_duration], format="csr")

    def hessian(self, v: np.ndarray, multipliers: np.ndarray) -> sp.csr_array:
        """Hessian of cost plus ``multipliers . defects``, which is a sum over the points."""
        z, T = self.split(v)
        price = (self.W.T @ multipliers).reshape(self.points, self.nx)  # of each point's derivative

        def of_point(z: np.ndarray) -> np.ndarray:
            return self.w * self.running(z) - (price * self.f(z)).sum(axis=-1)

        mixed, blocks = expand(of_point, z)
        blocks *= T
        blocks[-1, : self.nx, : self.nx] += expand(self.problem.terminal_cost, z[-1:, : self.nx])[1][0]
        mixed = mixed.reshape(-1, 1)
        return sp.block_array([[block_diagonal(blocks), mixed], [mixed.T, None]], format="csr")

    def start(self, guess: Guess | None) -> np.ndarray:
        """First unknowns: `guess` interpolated to the grid, or a straight line from start to end without control."""
        x, u, T = guess or straight_line(self.problem)
        tau = np.linspace(0.0, 1.0, self.points)
        columns = [np.interp(tau, np.linspace(0.0, 1.0, len(rows)), c) for rows in (x, u) for c in np.transpose(rows)]
        return np.append(np.stack(columns, axis=1).ravel(), T)


def gradient(cost: Callable[[np.ndarray], np.ndarray], z: np.ndarray) -> np.ndarray:
    """Gradient of ``cost(z)`` by the complex step: z (M, n) -> (M, n)."""
    return slopes(cost, z + 1j * STEP * np.eye(z.shape[1])[:, None]).T


def block_diagonal(blocks: np.ndarray) -> sp.csr_array:
    """Blocks (M, rows, columns) along the diagonal."""
    count = len(blocks)
    shape = (count * blocks.shape[1], count * blocks.shape[2])
    return sp.bsr_array((blocks, np.arange(count), np.arange(count + 1)), shape=shape).tocsr()


def straight_line(problem: OptimalControlProblem) -> Guess:
    """From start to end, an end that is free being taken from the other one, or 0; control 0, middling duration."""
    start, end = np.asarray(problem.x_start, float), np.asarray(problem.x_end, float)
    start, end = np.where(np.isnan(start), end, start), np.where(np.isnan(end), start, end)
    return np.nan_to_num(np.stack([start, end])), np.zeros((2, problem.nu)), float(np.mean(problem.duration_limits))


def solve(
    problem: OptimalControlProblem, settings: CollocationSettings | None = None, guess: Guess | None = None
) -> CollocationResult:
    """Transcribe and solve.

    Args:
        problem: the optimal control problem.
        settings: grid and solver; None for the defaults.
        guess: states (K, nx) and controls (K, nu) at even times, and duration, to start from; ``result.x, result.u,
            result.duration`` of a coarser grid refine it.

    Raises:
        ConfigError: a cost that does not accept complex numbers.
    """
    settings = settings or CollocationSettings()
    grid = lookup(SCHEMES, "scheme", settings.scheme)(settings.segments)
    nlp = Transcription(problem, grid)
    found = minimise(nlp, nlp.start(guess), iterations=settings.iterations, tolerance=settings.tolerance)
    z, T = nlp.split(found.v)
    return CollocationResult(
        times=np.linspace(0.0, T, len(z)),
        x=z[:, : problem.nx],
        u=z[:, problem.nx :],
        x_dot=nlp.f(z),
        duration=T,
        cost=nlp.cost(found.v),
        defect=float(np.abs(nlp.constraints(found.v)).max()),
        status=found.status,
        iterations=found.iterations,
        knots=(len(z) - 1) // settings.segments,
    )
