"""What a job is: structs, status table, JSON lines in and out, settings and errors.

Nothing here knows a model, a database or a clock; everything else imports from here.
"""
