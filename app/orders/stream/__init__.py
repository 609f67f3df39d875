"""The live stream of events: from the database, through one hub for each process, to clients."""
