# SPDX-License-Identifier: Apache-2.0
# bash completion for telltale
_telltale() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            COMPREPLY=($(compgen -c -f -- "$cur"))
            return
        fi
    done
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "run report check list --help --version" -- "$cur"))
        return
    fi
    case $prev in
    --mode) COMPREPLY=($(compgen -W "exact adaptive sampled" -- "$cur")); return ;;
    --format) COMPREPLY=($(compgen -W "text markdown json" -- "$cur")); return ;;
    --color) COMPREPLY=($(compgen -W "auto always never" -- "$cur")); return ;;
    esac
    if [[ $cur == -* ]]; then
        local words
        words=$(telltale "${COMP_WORDS[1]}" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*')
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -F _telltale telltale
