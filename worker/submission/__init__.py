"""Files of conversations become batches in the queue."""
