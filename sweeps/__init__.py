"""Hyper-parameter search with Optuna: a trial trains once and is evaluated in every inference setting of a grid."""
