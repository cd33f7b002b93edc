"""The swing-up benchmark without ROS: closed-form cart-pole, the nodes' own classes, one process.

For quick studies of models, planners and costs; the benchmark that counts runs the nodes. Run it with
``python -m mbrl_ros.benchmarks.offline_swingup SEEDS MODEL``.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from mbrl_ros.control.controller import Controller
from mbrl_ros.models import DEFAULT_MODEL, model_class
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.planners.base import Problem
from mbrl_ros.planners.cem import CEM, CEMConfig
from mbrl_ros.policies.smooth_random import SmoothRandom, SmoothRandomConfig
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot
from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup, CartpoleSwingupConfig
from mbrl_ros.types import Transitions


@dataclass(frozen=True)
class Settings:
    """What a study varies."""

    model: str = DEFAULT_MODEL
    model_config: Any = None  # None: the model's defaults
    cem: CEMConfig = field(default_factory=CEMConfig)
    cost: CartpoleSwingupConfig = field(default_factory=CartpoleSwingupConfig)
    base_policy: SmoothRandomConfig = field(default_factory=SmoothRandomConfig)
    horizon: int = 16
    particles: int = 5
    sample_noise: bool = False
    propagation: str = "mean"
    refit_interval: int = 5  # ticks; 0 refits between trials only
    refit_warm: bool = True  # refits during motion start from the last model
    refit_ticks: int = 0  # ticks until a refit's model is in use
    delay_ticks: int = 0  # 1: each action is planned one tick ahead
    trials: int = 8


@dataclass
class Trial:
    """Result of one trial.

    Attributes:
        experience_before: motion recorded before it in s.
        solved: on target throughout the last second of a full trial.
        on_target: seconds on target.
        cost: sum of the running cost.
        planning_ms: median time of a decision in ms.
        fit_seconds: time of the fit after it in s.
    """

    experience_before: float
    solved: bool
    on_target: float
    cost: float
    planning_ms: float
    fit_seconds: float = 0.0


def run(seed: int, settings: Settings) -> list[Trial]:
    """Trials until two in a row are solved or all are used up; the first is the base policy's."""
    study = Study(seed, settings)
    trials: list[Trial] = []
    while len(trials) < settings.trials and not (len(trials) > 1 and trials[-1].solved and trials[-2].solved):
        trials.append(study.trial())
        begin = time.perf_counter()
        study.model = study.fit(warm=False)
        trials[-1].fit_seconds = time.perf_counter() - begin
    return trials


def experience(trials: list[Trial]) -> float | None:
    """Motion in s before the first of two solved trials in a row; None where there are none."""
    pairs = (a.experience_before for a, b in pairwise(trials) if a.solved and b.solved)
    return next(pairs, None)


class Study:
    """One seed's plant, data and model."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.settings, self.seed = settings, seed
        self.config = settings.model_config or model_class(settings.model).config_class()
        self.robot = load_robot("cartpole")
        self.rng = np.random.default_rng(seed)
        self.task = CartpoleSwingup(settings.cost)
        self.model: Any = None
        limit = self.robot.u_max
        problem = Problem(
            None,  # type: ignore[arg-type]  # the first model comes with the first trial that is planned
            self.task,
            -limit,
            limit,
            settings.horizon,
            settings.particles,
            settings.sample_noise,
        )
        self.controller = Controller(CEM(settings.cem), problem, settings.delay_ticks, budget=float("inf"))
        self.rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
        self.trajectory = -1

    def trial(self) -> Trial:
        """Move once, learning on the way."""
        before, self.trajectory = len(self.rows), self.trajectory + 1
        x = np.array([*self.robot.start_position, 0.0, 0.0])
        z, act = self.observe(x), self.base_policy() if self.model is None else self.mpc(self.model)
        states, planning = [x], []
        for tick in range(self.robot.trial_steps):
            begin = time.perf_counter()
            u = act(tick, z)
            planning.append(1e3 * (time.perf_counter() - begin))
            x = step(x, u, self.robot.dt)
            states.append(x)
            self.rows.append((z, u, z := self.observe(x), self.trajectory))
            if abs(x[0]) > self.robot.position_limit[0]:
                break
        path, actions = np.array(states), np.array([row[1] for row in self.rows[before:]])
        good = self.task.on_target(path)
        return Trial(
            experience_before=before * self.robot.dt,
            solved=len(path) == self.robot.trial_steps + 1 and bool(good[-round(1.0 / self.robot.dt) - 1 :].all()),
            on_target=float(good.sum() * self.robot.dt),
            cost=float(self.task.running_cost(path[:-1], actions).sum()),
            planning_ms=float(np.median(planning)),
        )

    def observe(self, x: np.ndarray) -> np.ndarray:
        """The state (4,) with the sensors' noise."""
        std = np.repeat([self.robot.position_noise, self.robot.velocity_noise], len(x) // 2)
        return x + std * self.rng.standard_normal(len(x))

    def base_policy(self) -> Callable[[int, np.ndarray], np.ndarray]:
        """Actions of the first trial."""
        limit, steps = self.robot.u_max, self.robot.trial_steps
        policy = SmoothRandom(self.settings.base_policy, -limit, limit, steps, self.rng)
        return lambda tick, z: policy.action(tick)

    def mpc(self, model: Any) -> Callable[[int, np.ndarray], np.ndarray]:
        """Actions planned with the newest model, refitted on the way."""
        settings, controller = self.settings, self.controller
        controller.use(model.with_propagation(settings.propagation))
        controller.reset()
        sent = [np.zeros_like(self.robot.u_max)] * settings.delay_ticks
        arrivals: dict[int, Any] = {}

        def act(tick: int, z: np.ndarray) -> np.ndarray:
            if settings.refit_interval and tick and tick % settings.refit_interval == 0:
                arrivals[tick + settings.refit_ticks] = self.fit(settings.refit_warm)
            if tick in arrivals:
                self.model = arrivals[tick]
                controller.use(self.model.with_propagation(settings.propagation))
            sent.append(controller.tick(z, self.rng).action)
            return sent.pop(0)

        return act

    def fit(self, warm: bool) -> Any:
        """Fit to everything recorded so far."""
        data = Transitions(*(np.array(column) for column in zip(*self.rows, strict=True)))
        previous = self.model if warm else None
        return TRAINERS[self.settings.model](data, self.robot.layout, self.config, self.seed, previous)[0]


def step(x: np.ndarray, u: np.ndarray, dt: float, substeps: int = 10) -> np.ndarray:
    """One control period of the closed-form plant, force held, classical Runge-Kutta."""
    h = dt / substeps
    for _ in range(substeps):
        k1 = np.array(derivative(x, u))
        k2 = np.array(derivative(x + 0.5 * h * k1, u))
        k3 = np.array(derivative(x + 0.5 * h * k2, u))
        k4 = np.array(derivative(x + h * k3, u))
        x = x + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return x


def main() -> None:
    """Print every trial of every seed, failures included."""
    seeds, model = [*sys.argv[1:], *("3", DEFAULT_MODEL)[len(sys.argv) - 1 :]]
    for seed in range(int(seeds)):
        trials = run(seed, Settings(model=model))
        print(f"seed {seed}: experience {experience(trials)} s")
        for trial in trials:
            print(f"  {trial}", flush=True)


if __name__ == "__main__":
    main()
