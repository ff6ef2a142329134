"""What leaves the server for people: mail today; alerts and webhooks move in beside it."""
