"""What a conversation does next: the core, without I/O."""
