"""Workers: processes that run one job after another, here (`local`) or on a cluster (`ray`).

Each engine carries the messages of `src.search.jobs`, between processes as JSON.
"""
