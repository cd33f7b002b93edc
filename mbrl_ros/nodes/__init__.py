"""The ROS nodes: they convert, call and publish; the logic lies elsewhere."""
