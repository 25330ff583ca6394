"""Names that other tools have for what a line says, and what becomes of each."""
