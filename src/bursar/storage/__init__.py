"""The only place with SQL: engines that implement the ports of the floors below."""
