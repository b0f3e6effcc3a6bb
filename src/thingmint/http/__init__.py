"""The code that the HTTP APIs share: listening, limits, bodies, answers, and the choice of the API for a request."""
