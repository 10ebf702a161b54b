"""What one run is: typed, range-checked settings composed from conf/ and the command line."""
