"""Metrics of classifiers: pure functions on probabilities (N, K) and targets (N,).

In: arrays of predictions. Out: plain floats and small arrays: scores and their intervals, curves,
thresholds, Pareto fronts. `registry` has what each metric is called and which way it is better.
Calls no other room.
"""
