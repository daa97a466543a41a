"""The checks, a file for each kind of part. Every file in this folder is imported by `all_checks`."""
