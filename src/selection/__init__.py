"""The choice of a candidate: compare finished runs, combine them, and make one the champion.

`comparison` reads runs and judges them by `src.statistics`; `choice` takes one from the verdict,
after `turns` has timed those that may be the cheapest side by side; `refit` trains it once more
on all pictures but the test part, `combined_run` makes one of several, and `select` measures,
registers and describes the champion. Calls runs and all below; knows no sweep.
"""
