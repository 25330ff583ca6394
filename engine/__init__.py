"""One completion from one model: load, render, decode, sample, parse.

Importing this package loads nothing heavy; the modules that need MLX, mlx-lm or openai-harmony
import them.
"""
