"""What run folders say, before any table: samples, attacks, courses and proofs."""
