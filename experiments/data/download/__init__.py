"""Public data sets and weights that `python -m experiments download` fetches; nothing is fetched unasked."""
