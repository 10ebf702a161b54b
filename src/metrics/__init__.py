"""Metrics of classifiers: pure functions on probabilities (N, K) and targets (N,).

In: arrays of predictions. Out: plain floats and small arrays: scores and their intervals, curves,
thresholds, Pareto fronts. Calls no other room.
"""
