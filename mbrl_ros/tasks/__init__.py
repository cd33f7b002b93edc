"""Tasks by name."""

from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup
from mbrl_ros.tasks.pendulum_swingup import PendulumSwingup

TASKS = {"cartpole_swingup": CartpoleSwingup, "pendulum_swingup": PendulumSwingup}
