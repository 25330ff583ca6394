"""What an answer must be: its form, and the rules that accept it."""
