"""The playground: every operation of the three APIs, what it takes and answers, and calls of it from the browser."""
