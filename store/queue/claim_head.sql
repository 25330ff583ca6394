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
WHERE b.state = 'ready'
