"""`mh-batch doctor`: checks of everything that a drain needs."""
