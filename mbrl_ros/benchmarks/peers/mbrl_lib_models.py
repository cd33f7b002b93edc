"""Fits the ensemble of mbrl-lib (Pineda et al. 2021) and answers questions with it.

Network, inputs and optimiser are those of its example configurations ``gaussian_mlp_ensemble`` and ``pets_cartpole``:
7 members of 4 layers of 200 units, SiLU, the 5 best in use, normalised inputs with the angle's sine and cosine, changes
as targets, Adam with 7.5e-4 and weight decay 3e-5, TS1. Only the length of training differs between the variants,
since the defaults make one step an epoch of a small data set:

- ``mbrl-lib defaults``: 25 epochs, batches of 256, no validation split.
- ``mbrl-lib long``: as many epochs as make up STEPS steps, in batches of 64, half as many for a refit.
"""

import time
from typing import Any

import mbrl.models
import mbrl.util.common
import numpy as np
import torch
from mbrl.util import ReplayBuffer
from omegaconf import OmegaConf
from serve import Run, serve

NETWORK = {
    "_target_": "mbrl.models.GaussianMLP",
    "_recursive_": False,  # the class makes its activation itself
    "device": "cpu",
    "num_layers": 4,
    "in_size": 6,
    "out_size": 4,
    "ensemble_size": 7,
    "hid_size": 200,
    "deterministic": False,
    "propagation_method": "random_model",
    "learn_logvar_bounds": False,
    "activation_fn_cfg": {"_target_": "torch.nn.SiLU"},
}
ALGORITHM = {"learned_rewards": False, "target_is_delta": True, "normalize": True, "normalize_double_precision": True}
OVERRIDES = {
    "obs_process_fn": "mbrl_lib_models.sine_and_cosine",
    "num_elites": 5,
    "model_batch_size": 256,
    "validation_ratio": 0.0,
    "patience": 25,
    "num_epochs_train_model": 25,
}
LEARNING_RATE, WEIGHT_DECAY = 7.5e-4, 3e-5
STEPS, BATCH = 1000, 64  # of the long variant
WARM_UP = 40
Result = tuple[Run, dict[str, Any]]


def sine_and_cosine(x: Any) -> Any:
    """States (..., 4) with the angle, the second entry, as sine and cosine: (..., 5)."""
    library = torch if isinstance(x, torch.Tensor) else np
    parts = [x[..., :1], library.sin(x[..., 1:2]), library.cos(x[..., 1:2]), x[..., 2:]]
    return torch.cat(parts, -1) if isinstance(x, torch.Tensor) else np.concatenate(parts, -1)


class Fitter:
    """The model that was fitted last and its trainer, whose optimiser goes on where it was."""

    def __init__(self) -> None:
        self.model: Any = None
        self.trainer: Any = None
        self.warm = False

    def create(self, seed: int) -> None:
        """A new model and trainer."""
        torch.manual_seed(seed)
        config = OmegaConf.create({"dynamics_model": NETWORK, "algorithm": ALGORITHM, "overrides": OVERRIDES})
        self.model = mbrl.util.common.create_one_dim_tr_model(config, (4,), (1,))
        self.trainer = mbrl.models.ModelTrainer(self.model, LEARNING_RATE, WEIGHT_DECAY)

    def train(self, data: dict[str, np.ndarray], overrides: dict[str, Any], seed: int) -> None:
        """One call of the library's own training of a model on a buffer."""
        buffer = ReplayBuffer(
            len(data["x"]), (4,), (1,), obs_type=np.double, action_type=np.double, rng=np.random.default_rng(seed)
        )
        no = np.zeros(len(data["x"]))
        buffer.add_batch(data["x"], data["u"], data["x_next"], no, no.astype(bool), no.astype(bool))
        settings = OmegaConf.create(overrides)
        mbrl.util.common.train_model_and_save_model_and_data(self.model, self.trainer, settings, buffer)

    def fit(self, r: dict[str, Any]) -> Result:
        """From scratch, or, with ``previous``, on from the last model."""
        data = dict(np.load(r["data"]))
        if not self.warm:
            self.create(0)
            self.train({name: a[:WARM_UP] for name, a in data.items()}, OVERRIDES, 0)
            self.warm = True
        overrides = schedule(r["model"], len(data["x"]), r["previous"])
        info: dict[str, Any] = {}

        def run() -> None:
            start = time.process_time()
            if not r["previous"]:
                self.create(r["seed"])
            self.train(data, overrides, r["seed"])
            info["cpu_s"] = time.process_time() - start

        return run, info

    @torch.no_grad()
    def predict(self, r: dict[str, Any]) -> Result:
        """Write the answers to the questions: members go on from their own means, samples are drawn as it plans."""
        torch.manual_seed(r["seed"])
        asked, answers = np.load(r["questions"]), {}
        for h in r["horizons"]:
            x, u = torch.as_tensor(asked[f"x_{h}"]), torch.as_tensor(asked[f"u_{h}"])
            answers[f"mean_{h}"] = self.propagate(x, u, self.model.num_elites, "fixed_model", False).mean(axis=0)
            answers[f"samples_{h}"] = self.propagate(x, u, r["particles"], "random_model", True)
        np.savez(r["answers"], **answers)
        return (lambda: None), {}

    def propagate(self, x: torch.Tensor, u: torch.Tensor, copies: int, method: str, noise: bool) -> np.ndarray:
        """State after the actions u (k, h, nu) from x (k, nx), once a copy: (copies, k, nx)."""
        self.model.set_propagation_method(method)
        generator = torch.Generator().manual_seed(torch.initial_seed())
        rows = x.repeat(copies, 1)
        # with fixed models each gets an equal block of rows, so that a copy keeps its member
        state = {"obs": rows, "propagation_indices": torch.arange(len(rows))}
        for t in range(u.shape[1]):
            state["obs"] = self.model.sample(u[:, t].repeat(copies, 1), state, not noise, generator)[0]
        return state["obs"].view(copies, *x.shape).numpy()


def schedule(variant: str, n: int, refit: bool) -> dict[str, Any]:
    """The library's training settings for a data set of n transitions."""
    if variant == "mbrl-lib defaults":
        return OVERRIDES
    steps = STEPS // 2 if refit else STEPS
    return OVERRIDES | {"model_batch_size": BATCH, "num_epochs_train_model": max(1, steps // -(-n // BATCH))}


FITTER = Fitter()


def build(r: dict[str, Any]) -> Result:
    """The contestant of a request."""
    return {"fit": FITTER.fit, "predict": FITTER.predict}[r["contestant"]](r)


if __name__ == "__main__":
    serve(build, torch.set_num_threads)
