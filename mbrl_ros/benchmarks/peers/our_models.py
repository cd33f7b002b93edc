"""Fits one of our models and answers questions with it, behind the same protocol as the peers."""

import time
from typing import Any

import numpy as np
from serve import Run, serve

from mbrl_ros.models import model_class
from mbrl_ros.models.calibration import deviations, horizon_scale
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions

WARM_UP = 40  # transitions of a first fit that is not timed: compilers and libraries load with it
Result = tuple[Run, dict[str, Any]]


class Fitter:
    """The model that was fitted last, by name, with its seed."""

    def __init__(self) -> None:
        self.layout = load_robot("cartpole").layout
        self.model: Any = None
        self.warm: set[str] = set()

    def train(self, name: str, data: Transitions, seed: int, previous: Any) -> Any:
        """Fit with the model's default settings."""
        return TRAINERS[name](data, self.layout, model_class(name).config_class(), seed, previous)[0]

    def fit(self, r: dict[str, Any]) -> Result:
        """From scratch, or, with ``previous``, from the last model."""
        name, data = r["model"], load(r["data"])
        if name not in self.warm:
            self.train(name, data[:WARM_UP], 0, None)
            self.warm.add(name)
        info: dict[str, Any] = {}

        def run() -> None:
            self.model = self.train(name, data, r["seed"], self.model if r["previous"] else None)

        return measured(run, info), info

    def predict(self, r: dict[str, Any]) -> Result:
        """Write the answers to the questions: members go on from their own means, particles draw the noise."""
        rng, model = np.random.default_rng(r["seed"]), self.model
        if r["calibrate"]:
            scale = horizon_scale(deviations(model, load(r["calibration"]), max(r["horizons"])))
            model = model.with_arrays(horizon_scale=scale.astype(model.array_type))
        asked, answers = np.load(r["questions"]), dict[str, np.ndarray]()
        for h in r["horizons"]:
            pairs = list(zip(asked[f"x_{h}"], asked[f"u_{h}"], strict=True))
            means = [model.rollout(x, u[None], None, model.members)[:, 0, -1].mean(axis=0) for x, u in pairs]
            rollouts = [model.rollout(x, u[None], rng, r["particles"]) for x, u in pairs]
            samples = [model.observed(states, rng)[:, 0, -1] for states in rollouts]
            answers |= {f"mean_{h}": np.array(means), f"samples_{h}": np.stack(samples, axis=1)}
        np.savez(r["answers"], allow_pickle=False, **answers)
        return (lambda: None), {}


def load(path: str) -> Transitions:
    """Transitions as `benchmarks/models.py` writes them."""
    with np.load(path) as arrays:
        return Transitions(**arrays)


def measured(run: Run, info: dict[str, Any]) -> Run:
    """`run`, noting the processor time it takes: on a busy machine it says more than the clock on the wall."""

    def timed() -> None:
        start = time.process_time()
        run()
        info["cpu_s"] = time.process_time() - start

    return timed


FITTER = Fitter()


def build(r: dict[str, Any]) -> Result:
    """The contestant of a request."""
    return {"fit": FITTER.fit, "predict": FITTER.predict}[r["contestant"]](r)


if __name__ == "__main__":
    serve(build)
