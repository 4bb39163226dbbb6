# What the devices of this machine do: some lines each second, until standard input ends. POSIX sh.
#
# Its end comes with the connection's or the engine's: then standard input is closed, and one signal ends all that
# was started here, also an nvidia-smi that hangs. (Where a network falls silent without closing, sshd's TCP gives
# up after a quarter of an hour of lines that nobody took.)
#   $1  what nvidia-smi is asked; '' or no nvidia-smi: /proc is read instead
#   $2  its format
#   $3  "once": one look, and no more
# On standard output nvidia-smi's own lines, and
#   = ended CODE               of nvidia-smi
#   = foreign UUID:PID ... .   processes on devices that are no trial's, every ten seconds
#   = model NAME               of the processor, once
#   = proc TOTAL AVAILABLE cpu ...   memory in kB, and the first line of /proc/stat
set -u

say() { printf '= %s\n' "$*"; } # one write: lines of two writers do not mix

ours() { # PID: an attempt's token is in its environment, or in that of whoever started it
    p=$1
    while [ "$p" -gt 1 ] 2>/dev/null; do
        tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -q '^RATCHET_ATTEMPT_TOKEN=' && return 0
        p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status" 2>/dev/null)
    done
    return 1
}

foreign() { # FORMAT
    # shellcheck disable=SC2046  # a word a process is meant
    say foreign $(
        nvidia-smi --query-compute-apps=gpu_uuid,pid "$1" 2>/dev/null | while IFS=', ' read -r uuid pid _; do
            case $uuid:$pid in *[!A-Za-z0-9:/-]* | *:*[!0-9]* | *:) continue ;; esac
            ours "$pid" || echo "$uuid:$pid"
        done
    ) .
}

model() {
    while IFS=: read -r key value; do
        case $key in 'model name'* | Model*) say model "${value# }" && return ;; esac
    done </proc/cpuinfo
    say model "$(uname -m)"
} 2>/dev/null

processor() {
    read -r stat </proc/stat
    while read -r key value _; do
        case $key in
        MemTotal:) total=$value ;;
        MemAvailable:)
            say proc "$total" "$value" "$stat"
            return
            ;;
        esac
    done </proc/meminfo
}

look() { # QUERY FORMAT ONCE
    if [ -n "$1" ] && command -v nvidia-smi >/dev/null; then
        if [ -n "$3" ]; then
            foreign "$2"
            nvidia-smi --query-gpu="$1" "$2" 2>&1
            say ended $?
            return
        fi
        while :; do
            foreign "$2"
            sleep 10
        done &
        counter=$!
        nvidia-smi --query-gpu="$1" "$2" -l 1 2>&1
        say ended $?
        wait "$counter"
    else
        model
        processor
        while [ -z "$3" ]; do
            sleep 1
            processor
        done
    fi
}

if [ -n "$3" ]; then
    look "$@"
    exit
fi
look "$@" &
looking=$!
while read -r _; do :; done
read -r stat </proc/$$/stat
# shellcheck disable=SC2086  # the split is meant; the process's name may hold spaces and brackets
set -- ${stat##*') '}
# The group is ours alone where we lead it, as sshd has it (ssh_link sees to the rest, if setsid is there).
[ "$3" != $$ ] || kill -KILL 0
kill -KILL "$looking"
