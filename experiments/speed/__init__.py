"""How long inference takes."""
