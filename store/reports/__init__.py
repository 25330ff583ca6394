"""What the database says: results, progress, timings and queries."""
