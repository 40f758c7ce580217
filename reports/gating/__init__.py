"""In a build: does a run keep what it must, and in which files a build is told."""
