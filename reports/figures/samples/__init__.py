"""The sample sheet: which images it shows (`choose`), and how (`sheet`)."""
