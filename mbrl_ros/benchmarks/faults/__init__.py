"""``mbrl_ros bench faults``: the live graph is broken on purpose; what reaches the actuators is judged, row by row."""
