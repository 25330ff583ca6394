"""What a drain tells a person, while it runs and at its end."""
