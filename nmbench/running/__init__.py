"""Runs cells in worker processes and turns every ending into a record."""
