"""Sweeps: a race of families in a search, with trials as tracked runs, finals, and a display.

In come the settings of a sweep; out come a study, runs, and a `SweepRecord`. It calls the search,
and in the workers the runs.
"""
