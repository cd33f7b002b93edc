"""Tasks by name."""

from typing import Any

from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup
from mbrl_ros.tasks.reach import Reach

TASKS: dict[str, Any] = {
    "cartpole_swingup": CartpoleSwingup,
    "pendulum_swingup": PendulumSwingup,
    "reach": Reach,
}
