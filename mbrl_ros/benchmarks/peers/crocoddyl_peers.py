"""Times crocoddyl (Mastalli et al. 2020): DDP and FDDP with a model in Python, and its native Riccati sweep."""

from typing import Any

import crocoddyl
import numpy as np
from cartpole_model import INTEGRATORS, Cartpole
from serve import Build, Run, serve


class QuadraticCartpole(crocoddyl.ActionModelAbstract):
    """Cost ``0.5 (weights . x^2 + control_weight u^2)``; dynamics and derivatives in Python."""

    def __init__(self, model: Cartpole, weights: list[float], control_weight: float) -> None:
        crocoddyl.ActionModelAbstract.__init__(self, crocoddyl.StateVector(4), 1, 5)
        self.model, self.weights, self.control_weight = model, np.array(weights), control_weight

    def calc(self, data: Any, x: np.ndarray, u: np.ndarray | None = None) -> None:
        """Next state and cost; without u the cost of x alone."""
        data.cost = 0.5 * float(self.weights @ (x * x))
        if u is None:
            data.xnext = x
            return
        data.xnext = np.array(self.model.step(x, u[0]))
        data.cost += 0.5 * self.control_weight * u[0] ** 2

    def calcDiff(self, data: Any, x: np.ndarray, u: np.ndarray | None = None) -> None:  # noqa: N802
        """Derivatives of both; the constant Hessians are written once, in `createData`."""
        data.Lx = self.weights * x
        if u is None:
            return
        data.Lu = np.array([self.control_weight * u[0]])
        F = self.model.jacobian(x, u[0])
        data.Fx, data.Fu = F[:, :4], F[:, 4]

    def createData(self) -> Any:  # noqa: N802
        """Data with the Hessians filled in."""
        data = crocoddyl.ActionModelAbstract.createData(self)
        data.Lxx, data.Luu = np.diag(self.weights), np.array([[self.control_weight]])
        return data


def cartpole(request: dict[str, Any], solver_class: Any) -> tuple[Run, dict[str, Any]]:
    """A cold solve, from no action at all, stopped by the same expected decrease as ours."""
    model = INTEGRATORS[request["integrator"]](**request["constants"], dt=request["dt"])
    running = QuadraticCartpole(model, request["running_weights"], request["control_weight"])
    terminal = QuadraticCartpole(model, request["terminal_weights"], request["control_weight"])
    x0, horizon = np.array(request["x0"]), request["horizon"]
    problem = crocoddyl.ShootingProblem(x0, [running] * horizon, terminal)
    problem.nthreads = 1
    guess = [np.zeros(1)] * horizon
    info: dict[str, Any] = {}

    def run() -> None:
        solver = solver_class(problem)
        solver.th_stop = request["tolerance"] * request["reference_cost"]
        converged = solver.solve(problem.rollout(guess), guess, 500, True)
        info.update(cost=solver.cost, iterations=solver.iter + 1, status="converged" if converged else "stopped")

    return run, info


def backward_pass(request: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The native Riccati sweep alone, derivatives already there."""
    A, B, Q, R, S = (np.array(request[name]) for name in ("A", "B", "Q", "R", "S"))
    nx, nu = B.shape
    zero = (np.zeros(nx), np.zeros(nx), np.zeros(nu))
    running = crocoddyl.ActionModelLQR(A, B, Q, R, S, *zero)
    terminal = crocoddyl.ActionModelLQR(A, B, np.array(request["terminal"]), R, S, *zero)
    horizon, x0 = request["horizon"], np.ones(nx)
    problem = crocoddyl.ShootingProblem(x0, [running] * horizon, terminal)
    solver = crocoddyl.SolverDDP(problem)
    guess = [np.zeros(nu)] * horizon
    solver.setCandidate(problem.rollout(guess), guess, True)
    solver.computeDirection(True)
    return solver.backwardPass, {"gain": float(np.linalg.norm(np.array(solver.K[0])))}


def build(request: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The contestant of a request."""
    contestants: dict[str, Build] = {
        "crocoddyl DDP": lambda r: cartpole(r, crocoddyl.SolverDDP),
        "crocoddyl FDDP": lambda r: cartpole(r, crocoddyl.SolverFDDP),
        "crocoddyl": backward_pass,
    }
    return contestants[request["contestant"]](request)


if __name__ == "__main__":
    serve(build)
