"""What the HTTP APIs share: listening, limits, bodies, answers, and which API a request is for."""
