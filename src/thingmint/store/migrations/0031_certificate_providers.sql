-- Certificate providers: the function that signs for CreateCertificateFromCsr over MQTT, one for an account and region.

CREATE TABLE certificate_providers (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    function_arn TEXT NOT NULL,
    client_token TEXT,                      -- of the call that created it: a repeated call gets the same answer
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, region)
);
