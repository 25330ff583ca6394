"""Draining the queue: the command line, the drain loop, the model process, the controller."""
