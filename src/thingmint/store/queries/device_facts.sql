-- Everything that decides whether a device can connect, in one statement: it is consistent, and costs one round trip.
-- Only the identity of policies is read, because the document of a policy version never changes.

-- name: device_facts
-- $1 is the certificate's fingerprint. $2 and $3 are the account and region of the host name that the device sent,
-- empty if the name belongs to no account; then $4 is the default account, empty if there is none. $5 is the client
-- id, $6 the time.
-- Returns a row for each account and region ("place") that has the certificate, for each setting of such an account,
-- and for each policy of the certificate, of its thing's groups and of their ancestors. A group without policies has a
-- row too, because the gateway must notice when a policy is attached to it later.
WITH RECURSIVE places (account, region, position, certificate) AS (
    SELECT r.account, r.region, 0, r.certificate
    FROM registrations AS r
    WHERE $2 <> '' AND r.account = $2 AND r.region = $3
        AND r.certificate = (SELECT id FROM certificates WHERE fingerprint = $1)
    UNION
    SELECT c.account, c.region, 0, (SELECT id FROM certificates WHERE fingerprint = $1)
    FROM provisioning_claims AS c
    WHERE $2 <> '' AND c.account = $2 AND c.region = $3 AND c.fingerprint = $1
    UNION
    -- Registrations without proof of possession (SNI_ONLY) count only in the default account.
    SELECT r.account, r.region, a.position, r.certificate
    FROM registrations AS r CROSS JOIN account_regions AS a
    WHERE $2 = '' AND r.certificate = (SELECT id FROM certificates WHERE fingerprint = $1)
        AND (r.mode = 'DEFAULT' OR r.account = $4)
        AND a.account = r.account AND a.region = r.region
    UNION
    SELECT c.account, c.region, a.position, (SELECT id FROM certificates WHERE fingerprint = $1)
    FROM provisioning_claims AS c CROSS JOIN account_regions AS a
    WHERE $2 = '' AND c.fingerprint = $1 AND c.expires_at > $6 AND a.account = c.account AND a.region = c.region
),
-- A certificate that is exclusive to one thing is attached to no other thing.
found (account, region, position, certificate, thing) AS (
    SELECT account, region, position, certificate, coalesce(
        (
            SELECT p.thing
            FROM (
                SELECT o.thing, o.exclusive
                FROM thing_principals AS o
                WHERE o.account = places.account AND o.region = places.region AND o.certificate = places.certificate
                LIMIT 1
            ) AS p
            WHERE p.exclusive = 1
        ),
        (
            SELECT p.thing
            FROM thing_principals AS p
            WHERE p.account = places.account AND p.region = places.region AND p.certificate = places.certificate
                AND p.thing = $5
        )
    )
    FROM places
),
-- UNION and not UNION ALL: groups can have the same ancestors, and the recursion ends even if groups form a circle.
lineage (account, region, name, parent) AS (
    SELECT g.account, g.region, g.name, g.parent
    FROM found AS d CROSS JOIN thing_group_members AS m CROSS JOIN thing_groups AS g
    WHERE m.account = d.account AND m.region = d.region AND m.thing = d.thing
        AND g.account = m.account AND g.region = m.region AND g.id = m.thing_group
    UNION
    SELECT g.account, g.region, g.name, g.parent
    FROM lineage AS l CROSS JOIN thing_groups AS g
    WHERE g.account = l.account AND g.region = l.region AND g.name = l.parent
)
SELECT
    'place' AS row_kind, d.account, d.region, r.status, r.mode, b.kind, d.position, r.created_at, b.owner,
    (SELECT fingerprint FROM certificates WHERE id = r.ca), s.status, i.not_before, i.not_after, c.der, c.not_before, c.not_after, t.name, p.expires_at, p.created_at, h.name, h.type,
    h.attributes, y.id, y.disabled, v.topic_aliases, (
        -- 1 if a CA certificate of another account, in DEFAULT mode, has automatic registration.
        SELECT count(*)
        FROM (
            SELECT 1
            FROM ca_certificates AS o
            WHERE $2 = '' AND o.mode = 'DEFAULT' AND o.auto_registration = 1 AND o.account < d.account
            UNION ALL
            SELECT 1
            FROM ca_certificates AS o
            WHERE $2 = '' AND o.mode = 'DEFAULT' AND o.auto_registration = 1 AND o.account > d.account
            LIMIT 1
        ) AS others
    ), (
        SELECT e.propagating_attributes
        FROM thing_types AS e
        WHERE e.account = h.account AND e.region = h.region AND e.name = h.type
    ), (
        SELECT max(p.exclusive)
        FROM thing_principals AS p
        WHERE p.account = d.account AND p.region = d.region AND p.thing = d.thing AND p.certificate = d.certificate
    )
FROM found AS d
LEFT JOIN registrations AS r ON r.account = d.account AND r.region = d.region AND r.certificate = d.certificate
LEFT JOIN certificates AS c ON c.id = r.certificate
LEFT JOIN bindings AS b ON b.account = d.account AND b.region = d.region AND b.certificate = d.certificate
-- The registry that a binding is about: the device's, or the bound registry itself.
LEFT JOIN devices AS v ON b.kind = 'device' AND v.id = b.owner
LEFT JOIN registries AS y ON y.id = CASE b.kind WHEN 'device' THEN v.registry WHEN 'registry' THEN b.owner END
LEFT JOIN ca_certificates AS s ON s.account = d.account AND s.region = d.region AND s.certificate = r.ca
LEFT JOIN certificates AS i ON i.id = s.certificate
LEFT JOIN provisioning_claims AS p ON p.account = d.account AND p.region = d.region AND p.fingerprint = $1
-- A claim certificate is valid as long as its template exists. A later template with the same name does not count.
LEFT JOIN provisioning_templates AS t
    ON t.account = d.account AND t.region = d.region AND t.name = p.template AND t.generation = p.template_generation
LEFT JOIN things AS h ON h.account = d.account AND h.region = d.region AND h.name = d.thing
UNION ALL
SELECT
    'setting', s.account, '', s.name, s.value, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM account_settings AS s
WHERE s.account IN (SELECT account FROM found)
UNION ALL
SELECT
    'policy', d.account, d.region, NULL, p.name, p.generation, p.default_version, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM found AS d CROSS JOIN device_policy_attachments AS a CROSS JOIN device_policies AS p
WHERE a.account = d.account AND a.region = d.region AND a.certificate = d.certificate AND a.thing_group = ''
    AND p.account = a.account AND p.region = a.region AND p.name = a.policy
UNION ALL
SELECT
    'policy', l.account, l.region, l.name, p.name, p.generation, p.default_version, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM lineage AS l
LEFT JOIN device_policy_attachments AS a
    ON a.account = l.account AND a.region = l.region AND a.certificate = 0 AND a.thing_group = l.name
LEFT JOIN device_policies AS p ON p.account = l.account AND p.region = l.region AND p.name = a.policy

-- name: elsewhere
-- The accounts and regions that have the certificate, in any mode or as a claim certificate. Parameters: fingerprint,
-- limit.
SELECT account, region FROM registrations WHERE certificate = (SELECT id FROM certificates WHERE fingerprint = $1)
UNION
SELECT c.account, c.region
FROM provisioning_claims AS c
JOIN provisioning_templates AS t
    ON t.account = c.account AND t.region = c.region AND t.name = c.template AND t.generation = c.template_generation
WHERE c.fingerprint = $1
ORDER BY 1, 2
LIMIT $2
