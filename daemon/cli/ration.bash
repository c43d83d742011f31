# SPDX-License-Identifier: Apache-2.0
# Completion for bash; install as share/bash-completion/completions/ration.
_ration() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]} words i
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "run quota ps pool gs stats profile help --help --version" -- "$cur")
    return
  fi
  case $prev in
    --threads | -t) mapfile -t COMPREPLY < <(compgen -W "auto off locked free" -- "$cur") && return ;;
    --socket | -s | --profile) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
    --root | -r) mapfile -t COMPREPLY < <(compgen -d -- "$cur") && return ;;
    --pid | -p) mapfile -t COMPREPLY < <(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur") && return ;;
    --cpus | -c | --period | --name | -n) return ;;
  esac
  case $cmd in
    run) words="--cpus --period --threads --profile --name --standalone --socket --quiet --help --" ;;
    quota) words="--pid --root --json --help" ;;
    ps) words="--json --socket --help $(cd /proc && echo [0-9]*)" ;;
    pool | stats) words="--json --socket --help" ;;
    gs) words="--socket --help $(cd /proc && echo [0-9]*)" ;;
    profile) words="--check --profile --json --help --" ;;
    help) words="run quota ps pool gs stats profile" ;;
    *) return ;;
  esac
  # ration profile --check takes files; without it comes a command, as with run.
  if [ "$cmd" = profile ] && [[ " ${COMP_WORDS[*]} " == *" --check "* && $cur != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return
  fi
  if [ "$cmd" = run ] || [ "$cmd" = profile ]; then
    # The command begins at the first word that is no option: it completes in its own way.
    for ((i = 2; i < COMP_CWORD; i++)); do
      case ${COMP_WORDS[i]} in
        --) i=$((i + 1)) && break ;;
        --cpus | --period | --threads | --profile | --name | --socket | -[ctns]) i=$((i + 1)) ;;
        -*) ;;
        *) break ;;
      esac
    done
    if [[ $i -lt $COMP_CWORD || ${COMP_WORDS[i - 1]} == -- || ($cur != -* && $i -eq $COMP_CWORD) ]] && declare -F _command_offset >/dev/null; then
      _command_offset "$i"
      return
    fi
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _ration ration
