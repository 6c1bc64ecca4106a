"""What the Snakefile needs: the jobs of a suite, the plan of a run, GPUs of a machine."""
