"$TELLTALE" inject -q -- ./nothing; echo $?
printf '#!/bin/sh\nexit 3\n' >fails && chmod +x fails
"$TELLTALE" inject -q --before ./fails -- true; echo $?
