"""A run's folder and the detectors in it: load, predict over a data set, evaluate."""
