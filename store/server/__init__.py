"""What the server keeps: files, the batches of its clients, and how batches ended."""
