-- What a display asks while a worker writes.

-- name: recent
-- The latest attempts, latest first, up to where another run begins. The window is taken before
-- anything is joined, so that this costs the same in a database of a million attempts.
WITH latest AS (
    SELECT id, job_id, run_id, started_at, finished_at
    FROM attempts
    ORDER BY id DESC
    LIMIT :window
)
SELECT
    l.job_id,
    l.started_at,
    l.finished_at,
    j.status,
    m.completion_tokens,
    m.machine_seconds,
    {attempt_speed} AS tokens_per_second,
    m.kv_len,
    m.max_kv_size,
    m.active_memory_bytes,
    m.peak_memory_bytes,
    m.process_memory_bytes
FROM latest AS l
JOIN timings AS m ON m.attempt_id = l.id
JOIN jobs AS j ON j.id = l.job_id
WHERE l.run_id = :run_id
ORDER BY l.id DESC;

-- name: reasons
-- Why jobs of a run are not done. CROSS JOIN keeps SQLite to the index by status: it reads only the
-- jobs that did not end well. `custom_id` is that of the row with the smallest id.
SELECT j.status, j.error_code, count(*) AS jobs, min(j.id) AS job_id, j.custom_id
FROM batches AS b
CROSS JOIN jobs AS j
    ON j.batch_id = b.id AND j.status IN ('failed', 'incomplete', 'cancelled')
WHERE j.run_id = :run_id
GROUP BY j.status, j.error_code
ORDER BY jobs DESC, job_id;
