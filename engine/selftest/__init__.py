"""Tries on a loaded model whether slots give the promised results, and how fast they are."""
