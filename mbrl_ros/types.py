"""The symbol legend of the package and its smallest shared types.

=====  =========================================================
N      candidates (action sequences tried in one planning round)
H      planning horizon in control periods
E      ensemble members
B      batch
P      particles (sampled futures of one candidate)
nx     state entries            nu   action entries
ny     learned entries (those whose change a model predicts)
=====  =========================================================

Candidates are (N, H, nu); predicted states (P, N, H + 1, nx). Costs are minimised everywhere.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Transitions:
    """Recorded transitions, the training data of every model.

    Attributes:
        x: states (n, nx).
        u: actions that were really applied (n, nu).
        x_next: states one control period later (n, nx).
        trajectory: (n,) int, which unbroken stretch of motion each row belongs to.
    """

    x: np.ndarray
    u: np.ndarray
    x_next: np.ndarray
    trajectory: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> "Transitions":
        return Transitions(self.x[index], self.u[index], self.x_next[index], self.trajectory[index])
