"""Workers: engines that start processes, here or on a cluster, with a connection to each."""
