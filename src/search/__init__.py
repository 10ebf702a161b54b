"""Search: studies propose trials and prune them, and a loop runs their jobs in slots with workers.

In come a `StudySpec` with families of search spaces, and `Rules` with a job for each trial; out
come trials as records. It knows no network and no picture: what a job does is a task of the
worker's runner. Calls records, storage, config and machine.
"""
