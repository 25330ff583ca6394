"""What people change of batches that are there: archive, delete, other settings for a retry."""
