"""Models behind a server on this host: its processes, one request, and a load that keeps every slot full."""
