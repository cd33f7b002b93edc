"""Replay: estimator, learner and planner run again on what a run has recorded, without ROS."""
