"""The command line: one file a command. Settings are read here; commands speak HTTP (`connection`)."""
