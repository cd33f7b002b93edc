"""Planners by name."""

from mbrl_ros.planners.cem import CEM
from mbrl_ros.planners.mppi import MPPI
from mbrl_ros.planners.random_shooting import RandomShooting

PLANNERS = {"cem": CEM, "mppi": MPPI, "random_shooting": RandomShooting}
