"""The process that holds the model, and the side that talks to it."""
