"""Workers: processes that run one job after another, here or on a cluster.

An engine (`local`, `ray`) starts them and opens a connection to each; `process` runs in one.
Messages of `src.search.jobs` travel both ways as JSON; nothing is pickled.
"""
