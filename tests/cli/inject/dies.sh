# A program that dies of a fault: that is told, and the campaign goes on. No loss, so status 0.
"$TELLTALE" inject -q -- "$FIXTURES/fixture_error_paths" unchecked
