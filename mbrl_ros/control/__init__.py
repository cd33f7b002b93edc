"""The logic of the controller and the learner, without ROS."""
