-- What a page about one batch shows, each a bounded number of rows.

-- name: settings
SELECT settings FROM batches WHERE id = :batch

-- name: models
SELECT model, fingerprint, defaults FROM batch_models WHERE batch_id = :batch ORDER BY model LIMIT :most

-- name: slots
SELECT j.model, m.parallel
FROM jobs AS j
JOIN attempts AS a ON a.job_id = j.id
JOIN timings AS m ON m.attempt_id = a.id
WHERE j.batch_id = :batch
GROUP BY j.model, m.parallel
ORDER BY j.model, min(a.id)
LIMIT :most

-- name: runs
SELECT
    r.id, r.model, r.device, r.started_at, r.finished_at, r.end_reason, r.versions, r.parallel,
    r.allow_variance, r.most_rows,
    max(m.parallel) AS slots,
    {busy_rows} AS rows
FROM jobs AS j
JOIN attempts AS a ON a.job_id = j.id
JOIN runs AS r ON r.id = a.run_id
LEFT JOIN timings AS m ON m.attempt_id = a.id
WHERE j.batch_id = :batch
GROUP BY r.id
ORDER BY r.id DESC
LIMIT :most

-- name: slowest
SELECT
    j.id AS job_id,
    j.custom_id,
    j.status,
    count(*) AS attempts,
    sum(m.completion_tokens) AS tokens,
    sum(m.prefill_seconds + m.machine_seconds) AS model_seconds,
    {decode_speed} AS tokens_per_second,
    max(m.kv_len) AS longest_context
FROM jobs AS j
JOIN attempts AS a ON a.job_id = j.id
JOIN timings AS m ON m.attempt_id = a.id
WHERE j.batch_id = :batch
GROUP BY j.id
ORDER BY model_seconds DESC, j.id
LIMIT :most

-- name: samples
-- The first and the last job of each kind, and of the good ones the one in the middle.
WITH kinds AS (
    SELECT
        j.id,
        j.position,
        CASE
            WHEN j.status = 'incomplete' THEN 'incomplete'
            WHEN EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued)
                THEN 'rescued'
            WHEN EXISTS (
                SELECT 1
                FROM turns AS t
                JOIN attempts AS a ON a.job_id = t.job_id AND a.choice = t.choice
                    AND a.turn = t.turn AND a.step = t.step
                WHERE t.job_id = j.id AND t.attempts > 1 AND a.attempt > 1 AND NOT a.continues
            ) THEN 'retried'
            ELSE 'good'
        END AS kind
    FROM jobs AS j
    WHERE j.batch_id = :batch AND j.status IN ('done', 'incomplete')
), placed AS (
    SELECT
        id,
        kind,
        row_number() OVER (PARTITION BY kind ORDER BY position) - 1 AS place,
        count(*) OVER (PARTITION BY kind) AS size
    FROM kinds
)
SELECT id AS job_id, kind, size AS jobs_like_it
FROM placed
WHERE place IN (0, size - 1) OR (kind = 'good' AND place = size / 2)
ORDER BY kind = 'incomplete', kind = 'retried', kind = 'rescued', place
