"""Times the planners that people use with learned models: pytorch-icem, pytorch-mppi, mbrl-lib; and mpc.pytorch.

pytorch-icem and pytorch-mppi get a plain torch ensemble (a batched product a layer, TS-infinity); mbrl-lib plans with
its own model and environment, TS1 as in its PETS configuration. All draw the model's noise in every particle.
"""

import itertools
import warnings
from typing import Any

import numpy as np
import torch
from serve import Build, Run, serve

warnings.filterwarnings("ignore")


class Ensemble:
    """Probabilistic ensemble with random weights: rows of (x, u) are split evenly over the members."""

    def __init__(self, r: dict[str, Any]) -> None:
        self.members, self.nx = r["members"], r["nx"]
        sizes = [r["nx"] + r["nu"]] + [r["width"]] * r["layers"] + [2 * r["nx"]]
        pairs = list(itertools.pairwise(sizes))
        self.weights = [torch.randn(self.members, a, b) / (2.0 * a**0.5) for a, b in pairs]
        self.biases = [torch.zeros(self.members, 1, b) for _, b in pairs]
        self.mean, self.std = torch.zeros(sizes[0]), torch.ones(sizes[0])

    def step(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Sampled next states: x (rows, nx), u (rows, nu) -> (rows, nx)."""
        h = ((torch.cat([x, u], -1) - self.mean) / self.std).view(self.members, -1, x.shape[1] + u.shape[1])
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = torch.nn.functional.silu(torch.baddbmm(b, h, w), inplace=True)
        mean, raw = torch.baddbmm(self.biases[-1], h, self.weights[-1]).view(-1, 2 * self.nx).split(self.nx, dim=1)
        log_var = 0.5 - torch.nn.functional.softplus(0.5 - raw)
        log_var = -10.0 + torch.nn.functional.softplus(log_var + 10.0)
        return x + mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)


def quadratic(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Cost ``|x|^2 + 0.01 |u|^2``: (..., nx), (..., nu) -> (...)."""
    return (x**2).sum(-1) + 0.01 * (u**2).sum(-1)


def icem(r: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """pytorch-icem; it knows no particles, so a candidate's particles are packed into one state."""
    from pytorch_icem.icem import iCEM

    ensemble, nx, nu, particles = Ensemble(r), r["nx"], r["nu"], r["particles"]

    def dynamics(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:  # rows regrouped: a particle keeps its member
        n = len(x)
        states = x.view(n, particles, nx).transpose(0, 1).reshape(-1, nx)
        actions = u.expand(particles, n, nu).reshape(-1, nu)
        return ensemble.step(states, actions).view(particles, n, nx).transpose(0, 1).reshape(n, -1)

    def cost(x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return quadratic(x.view(*x.shape[:2], particles, nx), u.unsqueeze(2)).mean(-1).sum(-1)

    planner = iCEM(
        dynamics, cost, particles * nx, nu, sigma=0.3 * torch.ones(nu), num_samples=r["samples"],
        num_elites=r["elites"], horizon=r["horizon"], noise_beta=2, warmup_iters=r["rounds"],
        online_iters=r["rounds"], alpha=0.1,
    )  # fmt: skip
    x0 = torch.tensor(np.tile(r["x0"], particles), dtype=torch.float32)
    return torch.no_grad()(lambda: planner.command(x0)), {}


def mppi(r: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """pytorch-mppi; a command is one round, so a decision is `rounds` of them."""
    from pytorch_mppi import MPPI

    ensemble = Ensemble(r)
    planner = MPPI(
        ensemble.step, quadratic, r["nx"], 0.1 * torch.eye(r["nu"]), num_samples=r["samples"], horizon=r["horizon"],
        rollout_samples=r["particles"], u_min=-torch.ones(r["nu"]), u_max=torch.ones(r["nu"]),
    )  # fmt: skip
    x0 = torch.tensor(r["x0"], dtype=torch.float32)

    @torch.no_grad()
    def run() -> None:
        for i in range(r["rounds"]):
            planner.command(x0, shift_nominal_trajectory=i == 0)

    return run, {}


def mbrl_lib(r: dict[str, Any], optimizer: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """mbrl-lib's agent with one of its optimizers."""
    import gymnasium
    import mbrl.models
    import mbrl.planning
    from mbrl.env.termination_fns import no_termination
    from omegaconf import OmegaConf

    class Spaces(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-10.0, 10.0, (r["nx"],), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (r["nu"],), np.float32)

    network = mbrl.models.GaussianMLP(
        r["nx"] + r["nu"], r["nx"], "cpu", num_layers=r["layers"], ensemble_size=r["members"], hid_size=r["width"],
        propagation_method="random_model", activation_fn_cfg={"_target_": "torch.nn.SiLU"},
    )  # fmt: skip
    model = mbrl.models.OneDTransitionRewardModel(
        network, target_is_delta=True, normalize=True, normalize_double_precision=True, learned_rewards=False
    )
    environment = mbrl.models.ModelEnv(
        Spaces(), model, no_termination, lambda u, x: -quadratic(x, u)[:, None], generator=torch.Generator()
    )
    common = {
        "num_iterations": r["rounds"], "elite_ratio": r["elites"] / r["samples"], "population_size": r["samples"],
        "alpha": 0.1, "device": "cpu", "lower_bound": "???", "upper_bound": "???", "return_mean_elites": True,
    }  # fmt: skip
    settings = {
        "_target_": "mbrl.planning.TrajectoryOptimizerAgent", "_recursive_": False, "action_lb": "???",
        "action_ub": "???", "planning_horizon": r["horizon"], "replan_freq": 1, "verbose": False,
        "optimizer_cfg": common | optimizer,
    }  # fmt: skip
    agent = mbrl.planning.create_trajectory_optim_agent_for_model(
        environment, OmegaConf.create(settings), num_particles=r["particles"]
    )
    agent.reset()
    x0 = np.array(r["x0"])
    return lambda: agent.act(x0), {}


def mbrl_cem(r: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """mbrl-lib CEM."""
    return mbrl_lib(r, {"_target_": "mbrl.planning.CEMOptimizer", "clipped_normal": False})


def mbrl_icem(r: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """mbrl-lib iCEM, with a population that does not shrink."""
    coloured = {"population_decay_factor": 1.0, "colored_noise_exponent": 2.0, "keep_elite_frac": 0.3}
    target = {"_target_": "mbrl.planning.ICEMOptimizer", "population_size_module": r["members"]}
    return mbrl_lib(r, coloured | target)


class TorchCartpole(torch.nn.Module):
    """The equations of `cartpole_model.py` on batches, by explicit Euler; autograd differentiates them."""

    def __init__(self, constants: dict[str, float], dt: float) -> None:
        super().__init__()
        self.constants, self.dt = constants, dt

    def forward(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Next states (B, 4)."""
        c = self.constants
        _, theta, v, omega = x.unbind(-1)
        half = 0.5 * c["pole_length"]
        k, total = c["pole_mass"] * half, c["cart_mass"] + c["pole_mass"]
        inertia = c["pole_mass"] * c["pole_length"] ** 2 / 12.0 + k * half
        coupling = k * theta.cos()
        push = u[..., 0] - c["friction"] * v + k * omega**2 * theta.sin()
        torque = k * c["gravity"] * theta.sin()
        inverse = 1.0 / (total * inertia - coupling**2)
        accelerations = (inertia * push - coupling * torque) * inverse, (total * torque - coupling * push) * inverse
        return x + self.dt * torch.stack([v, omega, *accelerations], -1)


def mpc_pytorch(r: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """mpc.pytorch (Amos et al. 2018); its last point, whose control does nothing, carries the terminal cost."""
    from mpc import mpc

    model = TorchCartpole(r["constants"], r["dt"])
    points = r["horizon"] + 1
    stage = torch.diag(torch.tensor([*r["running_weights"], r["control_weight"]], dtype=torch.float64))
    C = stage.repeat(points, 1, 1, 1)
    C[-1, 0] = torch.diag(torch.tensor([*r["terminal_weights"], 1.0], dtype=torch.float64))
    cost = mpc.QuadCost(C, torch.zeros(points, 1, 5, dtype=torch.float64))
    x0 = torch.tensor([r["x0"]], dtype=torch.float64)
    info: dict[str, Any] = {}

    def run() -> None:
        solver = mpc.MPC(
            4, 1, points, lqr_iter=50, grad_method=mpc.GradMethods.AUTO_DIFF, verbose=-1, n_batch=1, eps=1e-3,
            exit_unconverged=False, backprop=False, best_cost_eps=r["tolerance"] * r["reference_cost"],
        )  # fmt: skip
        info["cost"] = float(solver(x0, cost, model)[2])

    return run, info


CONTESTANTS: dict[str, Build] = {
    "pytorch-icem": icem,
    "pytorch-mppi": mppi,
    "mbrl-lib CEM": mbrl_cem,
    "mbrl-lib iCEM": mbrl_icem,
    "mpc.pytorch": mpc_pytorch,
}


def build(request: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The contestant of a request."""
    torch.manual_seed(0)
    return CONTESTANTS[request["contestant"]](request)


if __name__ == "__main__":
    serve(build, torch.set_num_threads)
