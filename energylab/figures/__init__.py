"""Seaborn figures, one function a figure: each takes a table or a record and returns a matplotlib Figure."""
