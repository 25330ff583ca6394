"""The model process itself: its server, its loop over the slots, and what it answers."""
