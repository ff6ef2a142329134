"""Every HTTP route: `v1` is Bursar's own API, `dialects` translate other products' routes."""
