"""Metrics of classifiers: pure functions on probabilities (N, K) and targets (N,).

In: arrays of predictions. Out: plain floats and small arrays: decisions, probabilities, intervals,
suspicious labels, Pareto fronts. NumPy only; calls no other room.
"""
