"""What is asked of forms and schemas before any model sees them."""
