"""A run's record: written to its own folder first, mirrored in MLflow by a process of its own."""
