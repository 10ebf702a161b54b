"""Where trials run: engines start worker processes and hand over a connection to each."""
