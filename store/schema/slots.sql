-- How many conversations decode together is part of what a result depends on: it is fixed for a
-- batch and a model at the first claim, and stands with every attempt. Device and versions are those
-- of that claim. begun: an attempt was recorded; until then another worker's number is taken. The
-- transaction that records an attempt keeps it, so that a claim need not walk the jobs of a batch.
ALTER TABLE batch_models ADD COLUMN parallel INTEGER NOT NULL DEFAULT 1 CHECK (parallel >= 1);
ALTER TABLE batch_models ADD COLUMN device TEXT;
ALTER TABLE batch_models ADD COLUMN versions TEXT
    CHECK (versions IS NULL OR json_valid(versions));
ALTER TABLE batch_models ADD COLUMN begun INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1));
UPDATE batch_models SET begun = EXISTS (
    SELECT 1 FROM jobs AS j JOIN attempts AS a ON a.job_id = j.id
    WHERE j.batch_id = batch_models.batch_id AND j.model = batch_models.model
);

-- allow_variance: slots were used although a self-test failed. most_rows: how many conversations at
-- once the run still allowed after crashes that no single one was to blame for; NULL is as many as
-- there are slots.
ALTER TABLE runs ADD COLUMN parallel INTEGER NOT NULL DEFAULT 1 CHECK (parallel >= 1);
ALTER TABLE runs ADD COLUMN allow_variance INTEGER NOT NULL DEFAULT 0
    CHECK (allow_variance IN (0, 1));
ALTER TABLE runs ADD COLUMN most_rows INTEGER CHECK (most_rows IS NULL OR most_rows >= 1);

-- rows: the mean number of busy slots while the attempt decoded. stall_seconds: the time in which
-- the prompts of others were read meanwhile. machine_seconds: its decode steps, each divided by the
-- number of slots that were busy in it; before this there was one slot.
ALTER TABLE timings ADD COLUMN parallel INTEGER NOT NULL DEFAULT 1 CHECK (parallel >= 1);
ALTER TABLE timings ADD COLUMN rows REAL NOT NULL DEFAULT 1.0;
ALTER TABLE timings ADD COLUMN stall_seconds REAL NOT NULL DEFAULT 0.0;
ALTER TABLE timings ADD COLUMN machine_seconds REAL NOT NULL DEFAULT 0.0;
UPDATE timings SET machine_seconds = decode_seconds;
ALTER TABLE batches ADD COLUMN machine_seconds REAL NOT NULL DEFAULT 0.0;
UPDATE batches SET machine_seconds = decode_seconds;

-- A death of the process counts against an attempt only if it ran alone.
ALTER TABLE crashes ADD COLUMN alone INTEGER NOT NULL DEFAULT 1 CHECK (alone IN (0, 1));

-- Whether a model gives the promised results in slots, on this device with these versions.
-- engine: the version of the code that decodes in slots. layer: the first one that differed.
-- speeds: tokens a second by number of slots.
CREATE TABLE selftests (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    device TEXT NOT NULL,
    versions TEXT NOT NULL CHECK (json_valid(versions)),
    model TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL,
    engine TEXT NOT NULL,
    parallel INTEGER NOT NULL CHECK (parallel >= 1),
    passed INTEGER NOT NULL CHECK (passed IN (0, 1)),
    failed TEXT CHECK (passed = (failed IS NULL)),
    layer INTEGER,
    speeds TEXT NOT NULL CHECK (json_valid(speeds)),
    recommended INTEGER CHECK (recommended >= 1)
) STRICT;

CREATE INDEX selftests_by_model ON selftests (model_fingerprint);

-- A speed is tokens by machine time: attempts that decode side by side share the clock.
-- One row a finished job; the texts are those of the last turn of the first choice, tokens and
-- speed are over the attempts that were kept, and `rescued` is 1 if any of these was.
DROP VIEW results;
CREATE VIEW results AS
SELECT
    b.name AS batch,
    j.batch_id,
    j.id AS job_id,
    j.position,
    j.custom_id,
    j.status,
    j.model,
    last.final,
    last.analysis,
    last.finish_reason,
    (SELECT count(*) FROM turns AS t WHERE t.job_id = j.id) AS turns,
    (
        SELECT sum(length(a.opening) / 4 + a.completion_tokens)
        FROM turns AS t JOIN attempts AS a ON a.id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens,
    (
        SELECT sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.machine_seconds), 0)
        FROM turns AS t JOIN timings AS m ON m.attempt_id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens_per_second,
    j.error_code,
    j.error,
    j.finished_at,
    j.metadata,
    EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1) AS rescued
FROM jobs AS j
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN turns AS last ON last.rowid = (
    SELECT t.rowid FROM turns AS t
    WHERE t.job_id = j.id AND t.choice = 0
    ORDER BY t.turn DESC, t.step DESC
    LIMIT 1
)
WHERE j.status IN ('done', 'incomplete', 'failed', 'cancelled');

-- One row an hour (UTC): what was generated, and how fast while it was decoding.
DROP VIEW throughput;
CREATE VIEW throughput AS
SELECT
    strftime('%Y-%m-%dT%H:00Z', a.finished_at) AS hour,
    count(*) AS attempts,
    sum(a.verdict = 'accept') AS accepted,
    count(DISTINCT a.job_id) AS jobs,
    sum(m.prompt_tokens) AS prompt_tokens,
    sum(m.completion_tokens) AS completion_tokens,
    sum(m.decode_seconds) AS decode_seconds,
    sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.machine_seconds), 0) AS tokens_per_second,
    sum(m.prefill_tokens) / nullif(sum(m.prefill_seconds), 0) AS prefill_tokens_per_second,
    sum(m.machine_seconds) AS machine_seconds
FROM timings AS m
JOIN attempts AS a ON a.id = m.attempt_id
GROUP BY 1;

-- Decoding speed by how full the cache was at the end, in steps of 1,024 positions.
DROP VIEW speed_by_context;
CREATE VIEW speed_by_context AS
SELECT
    kv_len / 1024 * 1024 AS kv_from,
    kv_len / 1024 * 1024 + 1023 AS kv_to,
    count(*) AS attempts,
    sum(completion_tokens) AS completion_tokens,
    sum(max(completion_tokens - 1, 0)) / nullif(sum(machine_seconds), 0) AS tokens_per_second,
    sum(prefill_tokens) / nullif(sum(prefill_seconds), 0) AS prefill_tokens_per_second
FROM timings
GROUP BY 1, 2;
