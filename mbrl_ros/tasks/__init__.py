"""Tasks by name."""

from mbrl_ros.tasks.cartpole_swingup import CartpoleSwingup

TASKS = {"cartpole_swingup": CartpoleSwingup}
