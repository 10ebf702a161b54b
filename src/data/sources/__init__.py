"""Where pictures come from: one file a data set, each with a `load` that returns a `Source`."""
