"""Attention maps and PCA of patch features, as pictures."""
