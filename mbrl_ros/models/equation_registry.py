"""Which equations of motion this process knows, by name; imported when they are used, so that every node may read it.

The robot's YAML adds its own (`robots/description.py`). Nothing that comes over the network does.
"""

EQUATIONS = {
    "damped_masses": "mbrl_ros.models.equations:damped_masses",
    "cartpole": "mbrl_ros.robots.cartpole_equations:EQUATION",
    "pendulum": "mbrl_ros.robots.pendulum_equations:EQUATION",
}
