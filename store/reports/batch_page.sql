-- What a page about one batch shows, each a bounded number of rows.

-- name: settings
SELECT settings FROM batches WHERE id = :batch

-- name: models
SELECT model, fingerprint FROM batch_models WHERE batch_id = :batch ORDER BY model LIMIT :most

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

-- name: nth_done
SELECT id FROM jobs
WHERE batch_id = :batch AND status = 'done'
ORDER BY position
LIMIT 1 OFFSET :place
