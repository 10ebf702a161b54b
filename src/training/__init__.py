"""How a network is trained: the Lightning task, optimizers, schedules, losses, averaging, cost."""
