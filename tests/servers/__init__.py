"""Real storage servers for tests: each is installed, started on free ports and stopped by its pid."""
