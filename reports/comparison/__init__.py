"""Several runs side by side: the same samples, paired tests, and what may be ranked."""
