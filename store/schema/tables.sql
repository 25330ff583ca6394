-- Large columns come last in a table: SQLite reads a row from the left and stops where it may.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    model TEXT,
    model_fingerprint TEXT,
    device TEXT,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    jobs_done INTEGER NOT NULL DEFAULT 0 CHECK (jobs_done >= 0),
    end_reason TEXT,
    versions TEXT NOT NULL CHECK (json_valid(versions)),
    settings TEXT NOT NULL CHECK (json_valid(settings))
) STRICT;

-- The totals are kept by the transaction that records an attempt, so that a status line over a
-- million jobs need not walk their attempts.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    source_sha256 TEXT,
    state TEXT NOT NULL CHECK (state IN ('loading', 'ready')),
    submitted_at TEXT NOT NULL,
    model TEXT,
    priority INTEGER NOT NULL DEFAULT 0,
    seed INTEGER NOT NULL CHECK (seed >= 0),
    job_count INTEGER NOT NULL DEFAULT 0 CHECK (job_count >= 0),
    attempts INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    decode_seconds REAL NOT NULL DEFAULT 0.0,
    settings TEXT NOT NULL CHECK (json_valid(settings))
) STRICT;

CREATE INDEX batches_by_name ON batches (name);
CREATE INDEX batches_by_source ON batches (source_sha256);
CREATE INDEX batches_loading ON batches (id) WHERE state = 'loading';

-- What each model was when the batch first met it: a batch never goes on with other weights.
CREATE TABLE batch_models (
    batch_id INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (batch_id, model)
) STRICT, WITHOUT ROWID;

-- No json_valid on request and metadata: the program wrote the one and checked the other, and
-- SQLite refuses nesting that is deep but valid.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    batch_id INTEGER NOT NULL REFERENCES batches (id),
    position INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'running', 'done', 'incomplete', 'failed', 'cancelled')
    ),
    priority INTEGER NOT NULL DEFAULT 0,
    claim_key INTEGER NOT NULL DEFAULT 0,
    model TEXT,
    model_fingerprint TEXT,
    run_id INTEGER REFERENCES runs (id),
    started_at TEXT,
    finished_at TEXT,
    error_code TEXT,
    error TEXT,
    metadata TEXT,
    request TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX jobs_custom_id ON jobs (batch_id, custom_id);
-- Counts read it alone; results walk it a status at a time, already in order.
CREATE INDEX jobs_by_status ON jobs (batch_id, status, position);
-- Claims walk it from the front. `model` before `position`, so that the first job of a given
-- model is one step away however the models of a batch are mixed. `claim_key` is 0 in a batch in
-- submission order, and the same number for jobs that begin alike in one ordered by prefix.
CREATE INDEX jobs_queued ON jobs (priority DESC, batch_id, model, claim_key, position)
    WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (id) WHERE status = 'running';

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    choice INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'retry', 'give_up')),
    retry_reason TEXT,
    rescued INTEGER NOT NULL DEFAULT 0 CHECK (rescued IN (0, 1)),
    seed INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    prompt_sha256 TEXT NOT NULL,
    dropped_turns INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    finish_reason TEXT NOT NULL,
    stop_reason TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    sampling TEXT NOT NULL CHECK (json_valid(sampling)),
    tokens BLOB NOT NULL CHECK (length(tokens) = 4 * completion_tokens),
    raw TEXT NOT NULL,
    UNIQUE (job_id, choice, turn, step, attempt)
) STRICT;

CREATE TABLE turns (
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    choice INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    step INTEGER NOT NULL,
    accepted_attempt_id INTEGER NOT NULL UNIQUE REFERENCES attempts (id),
    attempts INTEGER NOT NULL,
    rescued INTEGER NOT NULL CHECK (rescued IN (0, 1)),
    complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
    finish_reason TEXT NOT NULL,
    user TEXT,
    final TEXT,
    analysis TEXT,
    PRIMARY KEY (job_id, choice, turn, step)
) STRICT;

CREATE TABLE parses (
    id INTEGER PRIMARY KEY,
    attempt_id INTEGER NOT NULL REFERENCES attempts (id),
    parser_version INTEGER NOT NULL,
    rung TEXT NOT NULL CHECK (rung IN ('strict', 'lenient', 'tolerant', 'raw')),
    well_formed INTEGER NOT NULL CHECK (well_formed IN (0, 1)),
    current INTEGER NOT NULL CHECK (current IN (0, 1)),
    problems TEXT NOT NULL CHECK (json_valid(problems))
) STRICT;

CREATE INDEX parses_by_attempt ON parses (attempt_id);
CREATE UNIQUE INDEX parses_current ON parses (attempt_id) WHERE current = 1;

CREATE TABLE channels (
    parse_id INTEGER NOT NULL REFERENCES parses (id),
    attempt_id INTEGER NOT NULL REFERENCES attempts (id),
    position INTEGER NOT NULL,
    channel TEXT NOT NULL,
    recipient TEXT,
    content_type TEXT,
    text TEXT NOT NULL,
    PRIMARY KEY (parse_id, position)
) STRICT;

CREATE INDEX channels_by_attempt ON channels (attempt_id);

CREATE TABLE timings (
    attempt_id INTEGER PRIMARY KEY REFERENCES attempts (id),
    queue_seconds REAL NOT NULL,
    render_seconds REAL NOT NULL,
    prefill_seconds REAL NOT NULL,
    first_token_seconds REAL NOT NULL,
    decode_seconds REAL NOT NULL,
    parse_seconds REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    reused_tokens INTEGER NOT NULL,
    prefill_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    prefill_tokens_per_second REAL,
    tokens_per_second REAL,
    kv_len INTEGER NOT NULL,
    max_kv_size INTEGER,
    kv_layout TEXT NOT NULL,
    repetition_window INTEGER,
    loop_detection_mode TEXT NOT NULL,
    active_memory_bytes INTEGER NOT NULL,
    peak_memory_bytes INTEGER NOT NULL,
    cache_memory_bytes INTEGER NOT NULL,
    process_memory_bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE crashes (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    choice INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    step INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    at TEXT NOT NULL,
    phase TEXT NOT NULL,
    signal INTEGER,
    exit_code INTEGER,
    stderr_tail TEXT NOT NULL
) STRICT;

CREATE INDEX crashes_by_place ON crashes (job_id, choice, turn, step, attempt);
