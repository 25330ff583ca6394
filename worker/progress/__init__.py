"""What a drain shows while it runs, and its summary at the end."""
