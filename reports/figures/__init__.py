"""Figures, one module each: `frame` computes its data, `draw` draws them, `make` adds title, caption and alt text.

`catalogue` has them all by key.
"""
