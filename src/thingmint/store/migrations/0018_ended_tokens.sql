-- Revoked tokens are forgotten once they have ended.
CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at);
