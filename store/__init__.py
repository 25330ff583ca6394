"""The SQLite file: its schema, the queue in it, what was recorded, and reports.

Connections come from `connection`; every function takes one and opens its own transaction.
"""
