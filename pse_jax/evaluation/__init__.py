"""Numbers from arrays: COCO's metrics, matching, correlations, oracles, calibration, errors.

Imports NumPy, SciPy and pycocotools, and nothing that imports JAX.
"""
