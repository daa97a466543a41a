"""`ssl-eval features`: the features of every image in a file."""
