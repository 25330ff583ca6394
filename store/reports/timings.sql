-- The numbers of `timings.py`, summed in SQLite so that memory stays flat. Every statement reads
-- `measured`, which one of the first two defines: all rows, or those of a batch.

-- name: of_all
WITH measured AS (
    SELECT
        m.*, a.job_id, a.choice, a.turn, a.step, a.attempt, a.continues, a.verdict, a.retry_reason,
        a.run_id, a.started_at, a.finished_at, CAST(strftime('%s', a.finished_at) AS INTEGER) AS at
    FROM timings AS m
    JOIN attempts AS a ON a.id = m.attempt_id
)

-- name: of_batch
WITH measured AS (
    SELECT
        m.*, a.job_id, a.choice, a.turn, a.step, a.attempt, a.continues, a.verdict, a.retry_reason,
        a.run_id, a.started_at, a.finished_at, CAST(strftime('%s', a.finished_at) AS INTEGER) AS at
    FROM jobs AS j
    JOIN attempts AS a ON a.job_id = j.id
    JOIN timings AS m ON m.attempt_id = a.id
    WHERE j.batch_id = :batch
)

-- name: totals
SELECT
    count(DISTINCT job_id) AS jobs,
    count(*) AS attempts,
    min(started_at) AS started_at,
    max(finished_at) AS finished_at,
    coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
    coalesce(sum(reused_tokens), 0) AS reused_tokens,
    coalesce(sum(completion_tokens), 0) AS completion_tokens,
    {decode_speed} AS tokens_per_second,
    sum(prefill_tokens) / nullif(sum(prefill_seconds), 0) AS prefill_tokens_per_second,
    coalesce(sum(queue_seconds), 0.0) AS queue_seconds,
    coalesce(sum(render_seconds), 0.0) AS render_seconds,
    coalesce(sum(prefill_seconds), 0.0) AS prefill_seconds,
    coalesce(sum(decode_seconds), 0.0) AS decode_seconds,
    coalesce(sum(stall_seconds), 0.0) AS stall_seconds,
    coalesce(sum(machine_seconds), 0.0) AS machine_seconds,
    max(parallel) AS parallel,
    {busy_rows} AS rows,
    coalesce(sum(parse_seconds), 0.0) AS parse_seconds,
    max(queue_seconds) AS longest_gap_seconds,
    max(kv_len) AS longest_context,
    max(process_memory_bytes) AS process_memory_bytes,
    max(peak_memory_bytes) AS peak_memory_bytes
FROM measured AS m

-- name: off
-- The time between two runs of the worker, the longest first. A run that was killed has no end:
-- its last attempt is.
, ends AS (
    SELECT run_id, max(finished_at) AS finished_at FROM measured GROUP BY run_id
), bounds AS (
    SELECT min(started_at) AS began, max(finished_at) AS ended FROM measured
), runs_on AS (
    SELECT
        r.started_at AS began,
        max(max(r.started_at, coalesce(r.finished_at, e.finished_at, r.started_at)))
            OVER (ORDER BY r.id ROWS UNBOUNDED PRECEDING) AS ended,
        lead(r.started_at) OVER (ORDER BY r.id) AS next_began
    FROM runs AS r
    LEFT JOIN ends AS e ON e.run_id = r.id
)
SELECT
    (julianday(o.ended) - 2440587.5) * 86400.0 AS began,
    (julianday(o.next_began) - 2440587.5) * 86400.0 AS ended
FROM runs_on AS o, bounds AS b
WHERE o.next_began > o.ended AND o.ended >= b.began AND o.next_began <= b.ended
ORDER BY julianday(o.next_began) - julianday(o.ended) DESC, 1
LIMIT :most

-- name: gap
SELECT queue_seconds FROM measured ORDER BY queue_seconds LIMIT 1 OFFSET :place

-- name: by_context
, timed AS (
    SELECT
        kv_len / :width * :width AS kv_from,
        completion_tokens, machine_seconds, prefill_tokens, prefill_seconds,
        {attempt_speed} AS speed
    FROM measured AS m
), ranked AS (
    SELECT
        timed.*,
        row_number() OVER (PARTITION BY kv_from ORDER BY speed NULLS LAST) AS place,
        count(speed) OVER (PARTITION BY kv_from) AS size
    FROM timed
)
SELECT
    kv_from,
    kv_from + :width - 1 AS kv_to,
    count(*) AS attempts,
    {decode_speed} AS tokens_per_second,
    min(speed) FILTER (WHERE 10 * place >= size) AS slow_tenth,
    min(speed) FILTER (WHERE 10 * place >= 9 * size) AS fast_tenth,
    sum(prefill_tokens) / nullif(sum(prefill_seconds), 0) AS prefill_tokens_per_second
FROM ranked AS m
GROUP BY kv_from
ORDER BY kv_from

-- name: by_time
SELECT
    at / :width * :width AS at,
    min((julianday(started_at) - 2440587.5) * 86400.0) AS began,
    count(DISTINCT job_id) AS jobs,
    count(*) AS attempts,
    sum(completion_tokens) AS completion_tokens,
    {decode_speed} AS tokens_per_second,
    sum(prefill_tokens) / nullif(sum(prefill_seconds), 0) AS prefill_tokens_per_second,
    sum(queue_seconds) AS queue_seconds,
    max(process_memory_bytes) AS process_memory_bytes,
    max(peak_memory_bytes) AS peak_memory_bytes,
    max(active_memory_bytes) AS active_memory_bytes,
    max(cache_memory_bytes) AS cache_memory_bytes
FROM measured AS m
GROUP BY 1
ORDER BY 1

-- name: refusals
-- An attempt that was continued is refused only together with its continuation.
SELECT
    r.retry_reason AS reason,
    count(*) AS attempts,
    sum(r.verdict = 'give_up') AS gave_up,
    count(next.id) AS next_accepted,
    coalesce(sum(next.rescued), 0) AS next_rescued,
    sum(r.completion_tokens + coalesce(begun.completion_tokens, 0)) AS completion_tokens,
    sum(
        r.prefill_seconds + r.machine_seconds
        + coalesce(begun.prefill_seconds + begun.machine_seconds, 0.0)
    ) AS model_seconds
FROM measured AS r
LEFT JOIN attempts AS next
    ON next.job_id = r.job_id AND next.choice = r.choice AND next.turn = r.turn
    AND next.step = r.step AND next.verdict = 'accept'
    AND next.attempt BETWEEN r.attempt + 1 AND r.attempt + 1 + next.continues
LEFT JOIN attempts AS cut
    ON r.continues AND cut.job_id = r.job_id AND cut.choice = r.choice AND cut.turn = r.turn
    AND cut.step = r.step AND cut.attempt = r.attempt - 1
LEFT JOIN timings AS begun ON begun.attempt_id = cut.id
WHERE r.retry_reason IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM attempts AS rest
    WHERE rest.job_id = r.job_id AND rest.choice = r.choice AND rest.turn = r.turn
        AND rest.step = r.step AND rest.attempt = r.attempt + 1 AND rest.continues
)
GROUP BY 1
ORDER BY attempts DESC, reason
LIMIT 20
