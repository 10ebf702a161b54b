"""Hand-crafted descriptors: pure functions of a picture (H, W, C) in [0, 1] to (D,) float32.

One file each (textures share one). A new descriptor is a callable class here, a line in `_MAKERS`
of `src.features.fusion` and its settings in `src.config.features`. Calls NumPy, SciPy and
scikit-image alone.
"""
