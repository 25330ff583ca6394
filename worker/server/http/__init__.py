"""What every request goes through: who may ask, how much and how slowly, and how errors look."""
