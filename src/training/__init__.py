"""Training of a network: the Lightning task, optimizers, schedules, losses, checkpoints, cost.

In: a plain `nn.Module`, batches, and settings of the training. Out: a trained
`ClassificationTask`, its checkpoints, predictions and cost. Lightning runs `task` and `epochs`;
`training_plan` and `inference_plan` measure which arithmetic is fastest on this machine. Calls
`data`, `models`, `targets` and the rooms below them; knows no run and no MLflow.
"""
