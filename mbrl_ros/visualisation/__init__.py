"""What there is to see of a robot that learns: the plan, how sure the model is of it, what else was tried."""
