"""Policies by name: what moves the robot before there is a model."""

from mbrl_ros.policies.smooth_random import SmoothRandom

POLICIES = {"smooth_random": SmoothRandom}
