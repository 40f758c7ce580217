"""What a report says of runs: the verdict, findings, and a section for each question."""
