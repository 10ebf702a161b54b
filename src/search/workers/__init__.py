"""Workers: processes that run one job after another, here or on a cluster.

An engine (`local`, `ray`) starts them and carries the messages of `src.search.jobs`; `process` runs
in one. Between processes they are JSON.
"""
