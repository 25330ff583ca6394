-- Two batches side by side, `:a` and `:b`. Every statement reads `pairs`, which the first defines:
-- the jobs with the same custom_id, but a made one (`line-7`) says nothing where the prompts differ;
-- of the others those with the same prompt, the first with the first.

-- name: pairs
WITH asked AS NOT MATERIALIZED (
    SELECT
        id, batch_id, position, custom_id,
        -- SQLite refuses nesting that is deep but valid
        iif(json_valid(request), json_remove(request, '$.settings'), request) AS prompt
    FROM jobs
    WHERE batch_id IN (:a, :b)
), by_id AS (
    SELECT a.id AS a, b.id AS b, a.position, a.prompt = b.prompt AS same_prompt
    FROM asked AS a
    JOIN asked AS b ON b.batch_id = :b AND b.custom_id = a.custom_id
    WHERE a.batch_id = :a AND (a.prompt = b.prompt OR a.custom_id NOT GLOB 'line-[0-9]*')
), rest AS (
    SELECT
        id, batch_id, position, prompt,
        row_number() OVER (PARTITION BY batch_id, prompt ORDER BY position) AS nth
    FROM asked
    WHERE id NOT IN (SELECT a FROM by_id UNION ALL SELECT b FROM by_id)
), pairs AS (
    SELECT a, b, position, same_prompt FROM by_id
    UNION ALL
    -- a join would compare each with each
    SELECT
        max(id) FILTER (WHERE batch_id = :a),
        max(id) FILTER (WHERE batch_id = :b),
        max(position) FILTER (WHERE batch_id = :a),
        1
    FROM rest
    GROUP BY prompt, nth
    HAVING count(*) = 2
), said AS (
    SELECT
        p.a, p.b, p.position, p.same_prompt,
        ja.status AS a_status, jb.status AS b_status,
        NOT EXISTS (
            SELECT choice, turn, step, final FROM turns WHERE job_id = p.a
            EXCEPT SELECT choice, turn, step, final FROM turns WHERE job_id = p.b
        ) AND NOT EXISTS (
            SELECT choice, turn, step, final FROM turns WHERE job_id = p.b
            EXCEPT SELECT choice, turn, step, final FROM turns WHERE job_id = p.a
        ) AS same_answer
    FROM pairs AS p
    JOIN jobs AS ja ON ja.id = p.a
    JOIN jobs AS jb ON jb.id = p.b
)

-- name: outcomes
SELECT
    a_status,
    b_status,
    count(*) AS pairs,
    sum(same_answer AND a_status IN ('done', 'incomplete')) AS same_answers,
    sum(NOT same_prompt) AS other_prompts
FROM said
GROUP BY a_status, b_status
ORDER BY a_status != 'done', b_status != 'done', pairs DESC, a_status, b_status

-- name: speeds
-- Over the pairs alone, all attempts of their jobs.
SELECT
    j.batch_id,
    count(*) AS attempts,
    coalesce(sum(m.completion_tokens), 0) AS tokens,
    coalesce(sum(m.prefill_seconds + m.machine_seconds), 0.0) AS model_seconds,
    {decode_speed} AS tokens_per_second
FROM (SELECT a AS id FROM pairs UNION ALL SELECT b FROM pairs) AS p
JOIN jobs AS j ON j.id = p.id
JOIN attempts AS t ON t.job_id = j.id
JOIN timings AS m ON m.attempt_id = t.id
GROUP BY j.batch_id

-- name: shown
-- Other outcomes first, then other answers, then the same ones; spread over the batch.
, ranked AS (
    SELECT
        *,
        CASE WHEN a_status != b_status THEN 0 WHEN NOT same_answer THEN 1 ELSE 2 END AS kind
    FROM said
    WHERE a_status NOT IN ('queued', 'running') AND b_status NOT IN ('queued', 'running')
), placed AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY kind ORDER BY position) - 1 AS place,
        count(*) OVER (PARTITION BY kind) AS size
    FROM ranked
)
SELECT a, b, kind, same_answer, same_prompt
FROM placed
WHERE place * :most / max(size, :most) != (place - 1) * :most / max(size, :most) OR place = 0
ORDER BY kind, place

-- name: cost
SELECT
    count(*) AS attempts,
    coalesce(sum(m.completion_tokens), 0) AS tokens,
    coalesce(sum(m.prefill_seconds + m.machine_seconds), 0.0) AS model_seconds,
    {decode_speed} AS tokens_per_second
FROM attempts AS t
JOIN timings AS m ON m.attempt_id = t.id
WHERE t.job_id = :job
