-- Questions that people ask about a database, each a statement that stands alone.
-- Seconds, tokens and MiB; times are UTC. Speeds are of decoding: the first token of an answer
-- belongs to the prefill.

-- name: outcomes
-- How did the jobs of each batch end, and how many have a rescued answer?
SELECT
    b.id AS batch_id,
    b.name AS batch,
    j.status,
    count(*) AS jobs,
    round(100.0 * count(*) / sum(count(*)) OVER (PARTITION BY b.id), 1) AS percent,
    sum(EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1)) AS rescued
FROM batches AS b
JOIN jobs AS j ON j.batch_id = b.id
WHERE b.state = 'ready'
GROUP BY b.id, j.status
ORDER BY b.id, jobs DESC;

-- name: categories
-- How did the jobs of each category end, where the lines have a `category`?
SELECT
    b.id AS batch_id,
    b.name AS batch,
    json_extract(j.metadata, '$.category') AS category,
    j.status,
    count(*) AS jobs,
    sum(r.tokens) AS tokens,
    coalesce(sum(r.rescued), 0) AS rescued
FROM batches AS b
JOIN jobs AS j ON j.batch_id = b.id
LEFT JOIN results AS r ON r.job_id = j.id
WHERE b.state = 'ready' AND json_extract(j.metadata, '$.category') IS NOT NULL
GROUP BY b.id, category, j.status
ORDER BY b.id, category, jobs DESC;

-- name: pairs
-- Question and final answer of every turn of the jobs that are done, as JSON.
SELECT
    json_object(
        'batch', b.name, 'custom_id', j.custom_id, 'choice', t.choice, 'turn', t.turn,
        'user', coalesce(t.user, asked.user), 'final', t.final,
        'rescued', json(iif(t.rescued, 'true', 'false'))
    ) AS pair
FROM turns AS t
JOIN jobs AS j ON j.id = t.job_id
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN turns AS asked ON asked.job_id = t.job_id AND asked.choice = t.choice
    AND asked.turn = t.turn AND asked.step = 0
WHERE j.status = 'done' AND t.final IS NOT NULL
ORDER BY j.batch_id, j.position, t.choice, t.turn, t.step;

-- name: slowest
-- Which jobs took the most time of the model?
SELECT
    j.id AS job_id,
    j.batch_id,
    j.custom_id,
    j.status,
    count(*) AS attempts,
    sum(m.completion_tokens) AS tokens,
    round(sum(m.prefill_seconds), 2) AS prefill_seconds,
    round(sum(m.decode_seconds), 2) AS decode_seconds,
    round(sum(m.prefill_seconds + m.machine_seconds), 2) AS model_seconds,
    max(m.kv_len) AS longest_context
FROM jobs AS j
JOIN attempts AS a ON a.job_id = j.id
JOIN timings AS m ON m.attempt_id = a.id
GROUP BY j.id
ORDER BY sum(m.prefill_seconds + m.machine_seconds) DESC, j.id
LIMIT 20;

-- name: unsuccessful
-- Which jobs failed, stayed incomplete or were cancelled, and why?
SELECT
    j.id AS job_id,
    j.batch_id,
    j.custom_id,
    j.status,
    coalesce(j.error_code, last.retry_reason) AS reason,
    coalesce(j.error, 'stopped by ' || last.stop_reason) AS detail,
    last.turn,
    last.attempt AS attempts_of_that_turn
FROM jobs AS j
LEFT JOIN attempts AS last ON last.id = (
    SELECT a.id FROM attempts AS a
    WHERE a.job_id = j.id AND a.verdict != 'accept'
    ORDER BY a.verdict = 'give_up' DESC, a.id
    LIMIT 1
)
WHERE j.status IN ('failed', 'incomplete', 'cancelled')
ORDER BY j.batch_id, j.position;

-- name: retries
-- Why were attempts refused, and how often was the next one taken?
SELECT
    reason, attempt, rescued, continues, retries, accepted, round(yield, 2) AS yield,
    completion_tokens
FROM retry_yield
ORDER BY retries DESC, reason, attempt;

-- name: tokens_per_hour
-- How much was generated in each hour, and how fast?
SELECT
    hour,
    jobs,
    attempts,
    prompt_tokens,
    completion_tokens,
    round(tokens_per_second, 1) AS tokens_per_second,
    round(prefill_tokens_per_second, 1) AS prefill_tokens_per_second
FROM throughput
ORDER BY hour;

-- name: speed_by_context
-- Does it get slower as the context grows?
SELECT
    kv_from,
    kv_to,
    attempts,
    completion_tokens,
    round(tokens_per_second, 1) AS tokens_per_second,
    round(prefill_tokens_per_second, 1) AS prefill_tokens_per_second
FROM speed_by_context
ORDER BY kv_from;

-- name: parses
-- How well could the answers be read: which rung of the ladder, and what was wrong with them?
SELECT
    p.rung,
    p.well_formed,
    coalesce(problem.value, '') AS problem,
    count(*) AS attempts,
    sum(a.verdict = 'accept') AS accepted
FROM parses AS p
JOIN attempts AS a ON a.id = p.attempt_id
LEFT JOIN json_each(p.problems) AS problem
WHERE p.current = 1
GROUP BY p.rung, p.well_formed, problem.value
ORDER BY attempts DESC, p.rung, problem;

-- name: tool_calls
-- Which functions were called in the answers that were kept, with which arguments?
SELECT
    j.id AS job_id,
    j.custom_id,
    t.choice,
    t.turn,
    t.step,
    c.recipient AS function,
    c.text AS arguments
FROM turns AS t
JOIN jobs AS j ON j.id = t.job_id
JOIN parses AS p ON p.attempt_id = t.accepted_attempt_id AND p.current = 1
JOIN channels AS c ON c.parse_id = p.id
WHERE c.recipient IS NOT NULL
ORDER BY j.batch_id, j.position, t.choice, t.turn, t.step, c.position;

-- name: longest_analyses
-- Where did the model think longest?
SELECT
    j.id AS job_id,
    j.custom_id,
    t.turn,
    length(t.analysis) AS characters,
    length(a.opening) / 4 + a.completion_tokens AS tokens,
    substr(t.analysis, 1, 80) AS begins
FROM turns AS t
JOIN jobs AS j ON j.id = t.job_id
JOIN attempts AS a ON a.id = t.accepted_attempt_id
WHERE t.analysis IS NOT NULL
ORDER BY length(t.analysis) DESC, j.id, t.turn
LIMIT 20;

-- name: dropped_turns
-- Which jobs outgrew the context, and how many of their oldest turns did they go on without?
SELECT
    j.id AS job_id,
    j.batch_id,
    j.custom_id,
    j.status,
    max(a.dropped_turns) AS dropped_turns,
    min(a.turn) AS first_at_turn,
    max(a.prompt_tokens) AS longest_prompt
FROM attempts AS a
JOIN jobs AS j ON j.id = a.job_id
WHERE a.dropped_turns > 0
GROUP BY j.id
ORDER BY max(a.dropped_turns) DESC, j.id;

-- name: crashes
-- When did the model process die, doing what, and what were its last words?
SELECT
    c.at,
    c.run_id,
    j.id AS job_id,
    j.batch_id,
    j.custom_id,
    c.turn,
    c.attempt,
    c.phase,
    c.signal,
    c.exit_code,
    c.alone,
    j.status AS job_now,
    c.stderr_tail
FROM crashes AS c
JOIN jobs AS j ON j.id = c.job_id
ORDER BY c.id;

-- name: memory
-- How much memory was in use, hour by hour, at its highest?
SELECT
    strftime('%Y-%m-%dT%H:00Z', a.finished_at) AS hour,
    round(max(m.process_memory_bytes) / 1048576.0, 1) AS process_mib,
    round(max(m.peak_memory_bytes) / 1048576.0, 1) AS model_peak_mib,
    round(max(m.active_memory_bytes) / 1048576.0, 1) AS model_active_mib,
    round(max(m.cache_memory_bytes) / 1048576.0, 1) AS model_cache_mib,
    max(m.kv_len) AS longest_context
FROM timings AS m
JOIN attempts AS a ON a.id = m.attempt_id
GROUP BY 1
ORDER BY 1;

-- name: waiting
-- How long did the model wait between attempts, in each run of the worker?
SELECT
    r.id AS run_id,
    r.started_at,
    r.end_reason,
    count(*) AS attempts,
    round(avg(m.queue_seconds), 4) AS mean_seconds,
    round(max(m.queue_seconds), 4) AS longest_seconds,
    round(sum(m.queue_seconds), 2) AS waited_seconds,
    round(sum(m.prefill_seconds + m.machine_seconds), 2) AS model_seconds
FROM runs AS r
JOIN attempts AS a ON a.run_id = r.id
JOIN timings AS m ON m.attempt_id = a.id
GROUP BY r.id
ORDER BY r.id;

-- name: slots
-- How many conversations decoded at once, and how fast was the machine with them?
SELECT
    b.id AS batch_id,
    b.name AS batch,
    m.parallel,
    count(*) AS attempts,
    round({busy_rows}, 2) AS busy,
    round({decode_speed}, 1) AS tokens_per_second,
    round(sum(m.machine_seconds), 2) AS machine_seconds,
    round(sum(m.stall_seconds), 2) AS stall_seconds
FROM batches AS b
JOIN jobs AS j ON j.batch_id = b.id
JOIN attempts AS a ON a.job_id = j.id
JOIN timings AS m ON m.attempt_id = a.id
GROUP BY b.id, m.parallel
ORDER BY b.id, m.parallel;

-- name: fields
-- Which fields do the answers in JSON have, how often, of which types, and with how many values?
SELECT
    b.id AS batch_id,
    b.name AS batch,
    f.key AS field,
    count(*) AS answers,
    group_concat(DISTINCT f.type) AS types,
    count(DISTINCT f.value) AS distinct_values
FROM turns AS t
JOIN jobs AS j ON j.id = t.job_id
JOIN batches AS b ON b.id = j.batch_id
JOIN json_each(t.parsed) AS f
WHERE json_type(t.parsed) = 'object'
GROUP BY b.id, f.key
ORDER BY b.id, answers DESC, f.key;
