# SPDX-License-Identifier: Apache-2.0
# bash completion for telltale: the options are read from its own --help.
_telltale() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            if ((i == COMP_CWORD - 1)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$cur" | sort -u)
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            fi
            return
        fi
    done
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "run attach report check list snapshot core switch detach inject --help --version" -- "$cur")
        return
    fi
    case $prev in
    --mode) mapfile -t COMPREPLY < <(compgen -W "exact adaptive sampled" -- "$cur"); return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "text markdown json" -- "$cur"); return ;;
    --calls) mapfile -t COMPREPLY < <(compgen -W "memory files network streams threads processes" -- "$cur"); return ;;
    --nth) mapfile -t COMPREPLY < <(compgen -W "1 2 last every" -- "$cur"); return ;;
    --load | --before) mapfile -t COMPREPLY < <(compgen -c -- "$cur" | sort -u); return ;;
    --snapshots) mapfile -t COMPREPLY < <(compgen -W "auto off" -- "$cur"); return ;;
    -p | --pid) mapfile -t COMPREPLY < <(cd /proc && compgen -G "[1-9]*" | grep "^$cur"); return ;;
    --color) mapfile -t COMPREPLY < <(compgen -W "auto always never" -- "$cur"); return ;;
    esac
    if [[ $cur == -* ]]; then
        local words
        words=$("${COMP_WORDS[0]}" "${COMP_WORDS[1]}" --help 2>/dev/null |
            sed -n 's/^  \(-., \|    \)\(--[a-z-]*\).*/\2/p')
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _telltale telltale
