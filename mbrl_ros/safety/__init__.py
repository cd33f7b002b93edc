"""The last word before the actuators, without ROS."""
