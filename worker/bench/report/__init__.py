"""The report of a bench run as values, tables, PNG and a Markdown note."""
