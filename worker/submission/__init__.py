"""From files of conversations to batches in the queue."""
