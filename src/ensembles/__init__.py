"""Combinations of trained models, from their predictions or their weights: pure functions.

`weights` chooses members greedily or stacks them, `soup` chooses networks whose weights are
averaged, `mixing` applies what was chosen, and `combine` does all of it with an honest measure on
pictures that chose nothing. Arrays come in, a `Combination` goes out. Calls statistics and metrics.
"""
