"""Combinations of trained models, from their predictions or their weights: pure functions.

`member_weights` chooses members greedily or stacks them, `mixing` applies what was chosen, and
`combine` does both, or chooses networks whose weights are averaged, with an unbiased measure on
pictures that chose nothing. Arrays come in, a `Combination` goes out. Calls
statistics, targets, metrics and records.
"""
