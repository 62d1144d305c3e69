"""`holdfast demo`: real training on a real data set, logged, found again, and read back verified."""
