# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of bhtrace for bash. Commands, options and rules are those that the
# bhtrace at hand names itself.

_bhtrace_options() { # COMMAND
	"$bhtrace" "$1" --help 2>/dev/null | grep -oE -e '(^|[ ,])--?[a-z]+(-[a-z]+)*' | tr -d ' ,' | sort -u
}

_bhtrace_pids() {
	local dir
	for dir in /proc/[0-9]*; do
		echo "${dir#/proc/}"
	done
}

# The values of option $1; false when it takes none, or nobody knows.
_bhtrace_values() {
	case $1 in
	-p | --pid) _bhtrace_pids ;;
	--via) printf '%s\n' flight lttng bpf ;;
	--color) printf '%s\n' auto always never ;;
	*) return 1 ;;
	esac
}

_bhtrace() {
	local bhtrace=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
	local command=${COMP_WORDS[1]}

	COMPREPLY=()
	# bash splits --option=value in three.
	if [[ $word == "=" ]]; then
		word=
	elif [[ $previous == "=" ]]; then
		previous=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	if [[ $COMP_CWORD -eq 1 || ($command == help && $COMP_CWORD -eq 2) ]]; then
		words="$("$bhtrace" --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p') help --help --version"
	elif words=$(_bhtrace_values "$previous"); then
		:
	elif [[ $word == -* ]]; then
		words=$(_bhtrace_options "$command")
	elif [[ $command == explain ]]; then
		words=$("$bhtrace" explain --json 2>/dev/null | sed -n 's/.*"rule": "\([a-z-]*\)".*/\1/p')
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o filenames -F _bhtrace bhtrace
