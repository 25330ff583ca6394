-- When a batch was archived: lists leave it out. NULL is a batch that is not.
ALTER TABLE batches ADD COLUMN archived_at TEXT;

-- The settings that a retry gave to a job, by name, and what they were before. They hold from `round`
-- on (attempts.round); the job's own settings have them too.
CREATE TABLE retry_settings (
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    round INTEGER NOT NULL,
    at TEXT NOT NULL,
    settings TEXT NOT NULL CHECK (json_valid(settings)),
    before TEXT NOT NULL CHECK (json_valid(before)),
    PRIMARY KEY (job_id, round)
) STRICT, WITHOUT ROWID;

-- Batches that were deleted. Their numbers, and those of their jobs up to last_job_id, are not given
-- again: a worker or a note may still have them.
CREATE TABLE deletions (
    batch_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    last_job_id INTEGER NOT NULL,
    at TEXT NOT NULL
) STRICT;

-- Each row of a submit asks for the largest.
CREATE INDEX deletions_last_job ON deletions (last_job_id);
