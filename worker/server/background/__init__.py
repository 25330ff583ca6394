"""What runs beside the requests: submitting, cancelling and ending batches, and the worker."""
