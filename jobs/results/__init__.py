"""Finished jobs, selected and written as rows of other tools."""
