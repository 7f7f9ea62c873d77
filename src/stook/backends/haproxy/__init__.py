"""HAProxy behind the Balancer port: its file, and its runtime socket."""
