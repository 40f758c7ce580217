"""Charts, each a `Drawing`: the same numbers give the same bytes, in every theme and on paper."""
