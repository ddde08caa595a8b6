"""Vectors, products, mathematics and random numbers: nothing here knows networks."""
