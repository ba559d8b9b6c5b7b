# What is lost when realloc fails into its own argument, for people.
"$TELLTALE" inject -q --calls realloc --nth 1 -- "$FIXTURES/fixture_error_paths"
