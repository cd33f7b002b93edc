"""Studies behind ``mbrl_ros bench``."""
