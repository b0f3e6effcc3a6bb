"""What the HTTP faces share: listening, limits, bodies, answers, and which face a request is for."""
