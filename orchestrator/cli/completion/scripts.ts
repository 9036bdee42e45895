/**
 * Completion scripts. They only pass the words to `ftctl __complete`, which answers with one candidate a
 * line, `word<TAB>description`; the last line is `:files` when files may follow.
 */
export const SHELLS = ["bash", "zsh", "fish"] as const;

const BASH = `# bash completion for ftctl: source <(ftctl completion bash)
_ftctl() {
  local line candidate current="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=()
  while IFS= read -r line; do
    if [ "$line" = ":files" ]; then
      compopt -o default 2>/dev/null
      continue
    fi
    candidate="\${line%%$'\\t'*}"
    [[ "$candidate" == "$current"* ]] && COMPREPLY+=("$candidate")
  done < <(ftctl __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _ftctl ftctl
`;

const ZSH = `#compdef ftctl
# zsh completion for ftctl: put it as _ftctl on the fpath, or source it
_ftctl() {
  local line files=0
  local -a candidates
  while IFS= read -r line; do
    if [[ "$line" == ":files" ]]; then
      files=1
      continue
    fi
    candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done < <(ftctl __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  _describe 'ftctl' candidates
  (( files )) && _files
}
if [ "$funcstack[1]" = "_ftctl" ]; then
  _ftctl "$@"
else
  compdef _ftctl ftctl
fi
`;

const FISH = `# fish completion for ftctl
function __ftctl_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (ftctl __complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c ftctl -f -a '(__ftctl_complete)'
`;

export function scriptFor(shell: (typeof SHELLS)[number]): string {
  return { bash: BASH, zsh: ZSH, fish: FISH }[shell];
}
