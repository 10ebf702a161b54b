"""Settings of runs and sweeps, typed and range-checked, from conf/ and the command line.

One module for each group of settings; `checks` has what makes a field of them, `compose` lets Hydra
join files and overrides. Overrides come in, frozen dataclasses go out. Calls machine, and
metrics for what there are.
"""
