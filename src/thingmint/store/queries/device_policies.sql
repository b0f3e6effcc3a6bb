-- The policies that apply to a certificate or a thing group. Ancestors of groups are found with UNION, not UNION ALL:
-- groups can have the same ancestors, and the recursion ends even if groups form a circle. CROSS JOIN makes SQLite
-- start with the table on the left, which has the fewest matching rows.

-- name: attached
-- Policies attached directly to a certificate or thing group. Parameters: account, region, fingerprint, name of the
-- group; one of the last two is empty.
SELECT p.created_at, p.name
FROM device_policy_attachments AS a CROSS JOIN device_policies AS p
WHERE a.account = $1 AND a.region = $2
    AND a.certificate = coalesce((SELECT id FROM certificates WHERE fingerprint = $3), 0) AND a.thing_group = $4
    AND p.account = $1 AND p.region = $2 AND p.name = a.policy

-- name: inherited
-- The same, and policies attached to ancestors: those of a certificate are the groups of its things. A certificate can
-- have a million things, so 1,000 are looked at.
WITH RECURSIVE lineage (name, parent) AS (
    SELECT g.name, g.parent
    FROM (
        SELECT thing
        FROM thing_principals
        WHERE account = $1 AND region = $2 AND certificate = (SELECT id FROM certificates WHERE fingerprint = $3)
        ORDER BY thing
        LIMIT 1000
    ) AS p CROSS JOIN thing_group_members AS m CROSS JOIN thing_groups AS g
    WHERE m.account = $1 AND m.region = $2 AND m.thing = p.thing
        AND g.account = $1 AND g.region = $2 AND g.id = m.thing_group
    UNION
    SELECT g.name, g.parent
    FROM thing_groups AS g
    WHERE g.account = $1 AND g.region = $2 AND g.name = $4
    UNION
    SELECT g.name, g.parent
    FROM lineage JOIN thing_groups AS g ON g.account = $1 AND g.region = $2 AND g.name = lineage.parent
)
SELECT p.created_at, p.name
FROM (
    SELECT policy
    FROM device_policy_attachments
    WHERE account = $1 AND region = $2
        AND certificate = coalesce((SELECT id FROM certificates WHERE fingerprint = $3), 0) AND thing_group = $4
    UNION
    SELECT a.policy
    FROM lineage CROSS JOIN device_policy_attachments AS a
    WHERE a.account = $1 AND a.region = $2 AND a.certificate = 0 AND a.thing_group = lineage.name
) AS attached CROSS JOIN device_policies AS p
WHERE p.account = $1 AND p.region = $2 AND p.name = attached.policy

-- name: of_groups
-- The policies of a group or of the groups of a thing, and of their ancestors, each with its document and the group that
-- it is attached to. Parameters: account, region, thing, group; one of the last two is empty.
WITH RECURSIVE lineage (name, parent) AS (
    SELECT g.name, g.parent
    FROM thing_group_members AS m CROSS JOIN thing_groups AS g
    WHERE m.account = $1 AND m.region = $2 AND m.thing = $3 AND g.account = $1 AND g.region = $2 AND g.id = m.thing_group
    UNION
    SELECT g.name, g.parent
    FROM thing_groups AS g
    WHERE g.account = $1 AND g.region = $2 AND g.name = $4
    UNION
    SELECT g.name, g.parent
    FROM lineage JOIN thing_groups AS g ON g.account = $1 AND g.region = $2 AND g.name = lineage.parent
)
SELECT p.name, v.document, l.name
FROM lineage AS l CROSS JOIN device_policy_attachments AS a CROSS JOIN device_policies AS p
    CROSS JOIN device_policy_versions AS v
WHERE a.account = $1 AND a.region = $2 AND a.certificate = 0 AND a.thing_group = l.name
    AND p.account = $1 AND p.region = $2 AND p.name = a.policy
    AND v.account = $1 AND v.region = $2 AND v.policy = p.name AND v.version = p.default_version
ORDER BY p.name, l.name

-- name: document
-- The document of a policy version. Parameters: account, region, policy, version, the policy's generation.
SELECT v.document
FROM device_policies AS p
JOIN device_policy_versions AS v ON v.account = p.account AND v.region = p.region AND v.policy = p.name
WHERE p.account = $1 AND p.region = $2 AND p.name = $3 AND p.generation = $5 AND v.version = $4
