"""Formulas as the documents print them, right or wrong; the claims say which."""
