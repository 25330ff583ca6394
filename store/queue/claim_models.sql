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
)
