"""`mh-batch serve`: OpenAI's interface for files and batches over the queue."""
