"""The reference distribution of a suite's figures, and what `make verify` makes of a run beside it."""
