"""Plain records of runs, sweeps, comparisons and champions, and the files that hold them."""
