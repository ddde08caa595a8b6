"""Compiling, and keeping what was compiled: no word about networks."""
