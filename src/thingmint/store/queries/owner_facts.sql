-- What decides about a device, registry or broker of Yandex IoT Core that connects, in one statement.

-- name: owner_facts
-- $1 is the owner's id, $2 the account. At most one row: ids are unique among all kinds.
SELECT 'device', d.id, a.region, d.registry, r.disabled, d.topic_aliases
FROM devices AS d
JOIN registries AS r ON r.id = d.registry
JOIN account_regions AS a ON a.account = d.account AND a.position = 0
WHERE d.id = $1 AND d.account = $2
UNION ALL
SELECT 'registry', r.id, a.region, r.id, r.disabled, '{}'
FROM registries AS r
JOIN account_regions AS a ON a.account = r.account AND a.position = 0
WHERE r.id = $1 AND r.account = $2
UNION ALL
SELECT 'broker', b.id, a.region, '', 0, '{}'
FROM brokers AS b
JOIN account_regions AS a ON a.account = b.account AND a.position = 0
WHERE b.id = $1 AND b.account = $2
