"""The web console: pages for people, rendered by the server, at /console on the API port."""
