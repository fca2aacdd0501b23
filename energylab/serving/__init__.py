"""Models behind a server on this host: its processes, single requests, and a steady load of concurrent requests."""
