"""Verification: whether files are still what was written, and their repair.

In: a run, a study, or an output folder with the stores of the cache. Out: faults, each with its
remedy; with `repair` damaged lines are put aside and damaged entries of stores deleted. May call
every room below the entries except `sweeps` and `selection`.
"""
