"""Detectors of other libraries behind mmdet's interface."""
