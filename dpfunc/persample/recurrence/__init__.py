"""Recurrences over time: the equations of the cells, and whole passes with a backward by hand."""
