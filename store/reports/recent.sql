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
    m.decode_seconds,
    m.tokens_per_second,
    m.kv_len,
    m.max_kv_size,
    m.active_memory_bytes,
    m.peak_memory_bytes,
    m.process_memory_bytes
FROM latest AS l
JOIN timings AS m ON m.attempt_id = l.id
JOIN jobs AS j ON j.id = l.job_id
WHERE l.run_id = :run_id
ORDER BY l.id DESC
