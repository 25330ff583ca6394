-- What `mh-batch serve` keeps: files, the batches that its clients created, and how batches ended.

-- An upload (purpose batch; its content is beside the database under the id), or the results of an
-- ended batch (batch_output; made from its jobs whenever they are read). A row stays when its file
-- is deleted, so that no id is given twice.
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
    batch_id INTEGER REFERENCES batches (id) ON DELETE SET NULL,
    part TEXT CHECK (part IN ('output', 'errors')),
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    created_at TEXT NOT NULL,
    deleted_at TEXT,
    filename TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX files_of_batches ON files (batch_id, part) WHERE batch_id IS NOT NULL;

-- `validated_at`: its jobs were queued as a batch. `cancelled_at`: before that was so.
CREATE TABLE api_batches (
    id INTEGER PRIMARY KEY,
    file_id INTEGER NOT NULL REFERENCES files (id),
    endpoint TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    validated_at TEXT,
    failed_at TEXT,
    cancelled_at TEXT,
    metadata TEXT CHECK (metadata IS NULL OR json_valid(metadata)),
    errors TEXT CHECK (errors IS NULL OR json_valid(errors))
) STRICT;

CREATE INDEX api_batches_pending ON api_batches (id)
    WHERE validated_at IS NULL AND failed_at IS NULL AND cancelled_at IS NULL;

-- Written with the row of the batch, so that a batch is never queued twice for one of these.
ALTER TABLE batches ADD COLUMN api_batch_id INTEGER REFERENCES api_batches (id);

CREATE INDEX batches_by_api_batch ON batches (api_batch_id) WHERE api_batch_id IS NOT NULL;

-- `ended_at`: when all its jobs had ended, with `attempts` so far; a retry begins it anew.
CREATE TABLE batch_ends (
    batch_id INTEGER PRIMARY KEY REFERENCES batches (id) ON DELETE CASCADE,
    cancelling_at TEXT,
    expired_at TEXT,
    ended_at TEXT,
    attempts INTEGER
) STRICT;
