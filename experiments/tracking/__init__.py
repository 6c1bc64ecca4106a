"""Weights & Biases: runs written from finished stages, a live view, uploads, dashboards."""
