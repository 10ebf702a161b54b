"""The record of a run: a spool of events in the run's folder, mirrored in MLflow.

In: what a run reports (`Tracker`): parameters, metrics, tags, artifacts, its model, its end. Out:
`tracking/spool.jsonl`, which is complete without MLflow, and the same run in MLflow. `mirror` is a
process of its own that reads spools (`follower`) and calls MLflow (`mlflow_store`); `replay` does
the same on demand, `ui` serves MLflow's pages. Calls `records`, `storage`, `config` and `machine`.
"""
