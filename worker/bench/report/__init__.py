"""What a bench run found, as values, tables, pictures and a note."""
