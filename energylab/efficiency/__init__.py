"""What saves energy for one model on one device: a sweep, the device's own limits, the Pareto front, and advice."""
