-- How the next job is found, a step at a time over the index of queued jobs.

-- name: heads
-- The (priority, batch) groups with queued jobs whose batch is ready, in claim order. From above the
-- highest priority it steps from group to group over the index, so that a million rows of a batch
-- that is still loading cost one step, and a reader that needs only the first group costs no more.
WITH RECURSIVE heads (priority, batch_id) AS (
    SELECT 9223372036854775807, 0
    UNION ALL
    SELECT j.priority, j.batch_id
    FROM heads AS h
    CROSS JOIN jobs AS j ON j.id = coalesce(
        (
            SELECT n.id FROM jobs AS n
            WHERE n.status = 'queued' AND n.priority = h.priority AND n.batch_id > h.batch_id
            ORDER BY n.batch_id
            LIMIT 1
        ),
        (
            SELECT n.id FROM jobs AS n
            WHERE n.status = 'queued' AND n.priority < h.priority
            ORDER BY n.priority DESC, n.batch_id
            LIMIT 1
        )
    )
)
SELECT h.priority, h.batch_id, b.name AS batch, b.model
FROM heads AS h
CROSS JOIN batches AS b ON b.id = h.batch_id
WHERE b.state = 'ready';

-- name: models
-- The first queued job of each model in one group, a step a model; NULL is "none of its own".
WITH RECURSIVE models (model) AS (
    SELECT NULL
    UNION ALL
    SELECT j.model
    FROM models AS m
    CROSS JOIN jobs AS j ON j.id = (
        SELECT n.id FROM jobs AS n
        WHERE n.status = 'queued' AND n.priority = :priority AND n.batch_id = :batch_id
            AND n.model > coalesce(m.model, '')
        ORDER BY n.model
        LIMIT 1
    )
)
SELECT j.id, j.model, j.claim_key, j.position
FROM models AS m
CROSS JOIN jobs AS j ON j.id = (
    SELECT n.id FROM jobs AS n
    WHERE n.status = 'queued' AND n.priority = :priority AND n.batch_id = :batch_id
        AND n.model IS m.model
    ORDER BY n.claim_key, n.position
    LIMIT 1
);
