#!/bin/sh
# One attempt at a trial, on whatever machine it runs. POSIX sh, util-linux where it is there.
#
#   sh job.sh ATTEMPT_DIRECTORY           run the attempt: claim it, run its steps, write control/exit last
#   sh job.sh ATTEMPT_DIRECTORY watch     (its own child) deadlines, memory, log cap, device locks
#   sh job.sh ATTEMPT_DIRECTORY cancel    end the attempt; prints "won" if it now never starts, else "asked"
#   sh job.sh ATTEMPT_DIRECTORY clear     kill all that a dead job left behind; prints how many would not die
#   sh job.sh / locks LOCKS               make the directory of our device locks, LOCKS.UID; fails if it is not ours
#
# Files under control/ (engine/runners/launcher.py writes the plan, engine/runners/following.py reads the rest):
#   plan.sh step-N.sh     what to do                         contender.PID   "pid start boot", before claiming
#   claim/                whoever made it runs               pid             "pid start boot" of the job
#   watcher               "pid start" of the watcher         step            "N pid start deadline" of the running step
#   steps                 "N log_offset" as each begins      log             both streams of all steps
#   cancel                somebody wants it ended            reason          why the watcher ended a step
#   hole                  "from upto", cut out of the log    machine         the name of the machine that runs it
#   exit                  the end, complete and last
#
# A process is known by pid and start time (field 22 of /proc/PID/stat) within one boot: pids are reused.
# All durations are hundredths of a second of /proc/uptime: the wall clock may be set at any moment.
set -u

uptime() { # -> $now
    read -r now rest </proc/uptime
    now=${now%.*}${now#*.}
    while :; do # a leading zero would make it octal
        case $now in 0?*) now=${now#0} ;; *) break ;; esac
    done
}

seconds() { # HUNDREDTHS -> $seconds, as "12.05"
    seconds=$((100 + $1 % 100))
    seconds=$(($1 / 100)).${seconds#1}
}

look() { # PID -> $state $parent $start; fails when there is no such process
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086  # the split is meant; the process's name may hold spaces and brackets
    set -- ${line##*') '}
    state=$1 parent=$2 start=${20}
}

alive() { # PID START: that very process, and not just its zombie
    look "$1" && [ "$start" = "$2" ] && [ "$state" != Z ] && [ "$state" != X ]
}

tree() { # PID -> $tree: its descendants, parents first
    tree='' generation=$1
    while [ -n "$generation" ]; do
        next=''
        for p in $generation; do
            for f in /proc/"$p"/task/*/children; do
                children=''
                { read -r children <"$f"; } 2>/dev/null
                next=${next:+$next }${children% }
            done
        done
        case $next in *[0-9]*) ;; *) next='' ;; esac
        tree="$tree $next" generation=$next
    done
}

fled() { # -> $fled: processes that carry our token or write to our log, wherever they fled to
    # The whole entry of the environment, to its NUL: token 7-1 is also the beginning of 7-10.
    # -s: processes come and go, and some are not ours to read.
    fled=$(grep -slzxF -e "RATCHET_ATTEMPT_TOKEN=$token" /proc/[0-9]*/environ | sed 's|/proc/\([0-9]*\)/.*|\1|')
    # One that wiped its environment still writes to the log (a reader has it on another descriptor).
    for f in /proc/[0-9]*/fd/1 /proc/[0-9]*/fd/2; do
        if [ "$f" -ef control/log ]; then
            f=${f#/proc/}
            fled="$fled ${f%%/*}"
        fi
    done
    case $fled in *[0-9]*) ;; *) fled='' ;; esac
}

sweep() { # kill whoever fled; bounded, for a process in uninterruptible sleep dies only later
    rounds=0
    while fled && [ -n "$fled" ] && [ "$rounds" -lt 20 ]; do
        # shellcheck disable=SC2086
        kill -KILL $fled 2>/dev/null
        rounds=$((rounds + 1))
        sleep 0.05
    done
}

slay() { # STEP START: kill the step and all below it, at once
    tree "$1"
    # The recorded step may be long gone and its number reused: then only the sweep may kill.
    if look "$1" && [ "$start" = "$2" ]; then
        # shellcheck disable=SC2086
        kill -KILL "$1" $tree 2>/dev/null
        kill -KILL -- "-$1" 2>/dev/null
    fi
    sweep
}

# --- the watcher ---------------------------------------------------------------------------------
# A process of its own, so that the job can sit in `wait` and notice an end at once, and so that the
# device locks are open in no step: a step's child that lives on must not keep a device locked.

nap() { # HUNDREDTHS; USR1 and TERM cut it short
    seconds "$1"
    sleep "$seconds" &
    nap=$!
    # A signal that came before this line has set its flag: waiting now would sleep through it.
    [ -n "$ended$woken" ] || wait "$nap"
    woken=''
    kill "$nap" 2>/dev/null
    wait "$nap" # else the sleeper would hold our locks for a while after us
}

weigh() { # -> $weight: bytes resident in the step's tree
    tree "$step"
    weight=0
    for p in "$step" $tree; do
        { read -r size resident rest <"/proc/$p/statm"; } 2>/dev/null && weight=$((weight + resident * page))
    done
    [ "$memory" -gt 0 ] && [ "$weight" -gt "$memory" ] || return 0
    # That counted pages shared by workers once for each of them. Before anybody is killed for it, ask
    # for proportional shares (slow, hence only now).
    share=0
    for p in "$step" $tree; do
        [ -r "/proc/$p/smaps_rollup" ] || continue
        { while read -r key kilobytes rest; do
            case $key in Pss:) share=$((share + kilobytes * 1024)) && break ;; esac
        done <"/proc/$p/smaps_rollup"; } 2>/dev/null
    done
    if [ "$share" -gt 0 ]; then weight=$share; fi
}

trim() { # keep the log's head and tail; a hole in its middle leaves every offset valid
    size=$(($(wc -c <control/log)))
    grown=$((size - seen)) seen=$size
    [ "$size" -gt "$log_cap" ] || return 0
    upto=$(((size - log_tail) / 4096 * 4096))
    [ "$upto" -gt "$hole" ] || return 0
    # Before it is cut: who reads the log without seeing its holes looks here afterwards.
    say_hole
    said=$?
    if ! fallocate -p -o "$hole" -l "$((upto - hole))" control/log 2>/dev/null; then
        rm -f control/hole
        return 1
    fi
    hole=$upto
    [ "$said" = 0 ] || say_hole || : # the disk was full; now it has room
}

say_hole() {
    { printf '%s %s\n' "$head" "$upto" >control/hole.new && mv control/hole.new control/hole; } 2>/dev/null
}

stop() { # REASON: end the running step: TERM to all of it, a grace, KILL
    [ -e control/reason ] || printf '%s\n' "$1" >control/reason
    # Memory has no time to lose: the next half second may take the machine.
    if [ "$1" = memory ]; then
        slay "$step" "$step_start"
        return 0
    fi
    tree "$step"
    # Not to the step's first process: that is the containment, whose end is everybody's immediate end.
    # shellcheck disable=SC2086
    [ -z "${tree# }" ] || kill -TERM $tree 2>/dev/null
    uptime
    limit=$((now + grace))
    while alive "$step" "$step_start"; do
        uptime
        [ "$now" -lt "$limit" ] || break
        trim # a flood goes on through its grace
        sleep 0.1
    done
    slay "$step" "$step_start"
}

inspect() { # one look at the running step -> $pause until the next
    pause=50
    { read -r number step step_start deadline <control/step; } 2>/dev/null || return 0
    [ "${deadline:-0}" -gt 0 ] || return 0
    if [ -e control/cancel ]; then stop cancelled && return 0; fi
    uptime
    left=$((deadline - now))
    if [ "$left" -le 0 ]; then stop timeout && return 0; fi
    weigh
    [ "$weight" -le "$peak" ] || peak=$weight
    if [ "$memory" -gt 0 ] && [ "$weight" -gt "$memory" ]; then stop memory && return 0; fi
    trim || { stop output && return 0; }
    [ "$left" -ge "$pause" ] || pause=$((left + 1))
    # A flood may write gigabytes in half a second.
    [ "$grown" -lt 4194304 ] || pause=5
}

watch() { # DEVICE LOCKS...
    peak=0 seen=0 grown=0 ended='' woken='' hole=$(((log_cap - log_tail + 4095) / 4096 * 4096))
    page=$(getconf PAGESIZE 2>/dev/null) || page=4096
    [ "$hole" -ge 65536 ] || hole=65536
    head=$hole
    look $$
    printf '%s\n' "$$ $start" >control/watcher
    trap 'ended=1' TERM
    trap 'woken=1' USR1
    alone "$@" || exit 1
    printf 'ready\n'
    exec >/dev/null # the job's fifo: nobody reads it any more
    pause=5
    while [ -z "$ended" ]; do
        nap "$pause"
        look $$
        if [ "$parent" != "$job" ]; then # the job was killed: nobody else is left to stop its step
            { read -r number step step_start deadline <control/step; } 2>/dev/null && slay "$step" "$step_start"
            sweep
            drop_alias
            exit 0
        fi
        [ -n "$ended" ] || inspect
    done
    trim
    printf '%s\n' "$peak" >control/peak
}

# --- the job -------------------------------------------------------------------------------------

say_exit() { # atomically; "end" shows that all of it is there
    # 1<> writes over bytes that were allocated at the start: a full disk cannot take the result away.
    printf 'reason %s\npeak %s\n%send\n' "$reason" "$peak" "$results" 1<>control/exit.new &&
        mv control/exit.new control/exit
}

begin_watch() { # DEVICE LOCKS...; fails when one of the devices is somebody else's now
    mkfifo control/fifo || return 1
    [ $# = 0 ] || own_locks || return 1
    waiting=$#
    while [ "$waiting" -gt 0 ]; do
        mkdir -m 755 "$mine/$1" 2>/dev/null
        # Each --no-fork flock becomes the next: any number of locks, held by one process, the watcher.
        set -- "$@" flock --nonblock --no-fork "$mine/$1/."
        shift
        waiting=$((waiting - 1))
    done
    # Open for both ways, so that neither of us waits for the other to open it: one may be killed first.
    # Its end is the watcher's end, for only the watcher still holds it open for writing then.
    exec 3<>control/fifo
    "$@" sh control/job.sh "$attempt" watch $$ >&3 2>/dev/null 3>&- &
    watcher=$!
    exec 4<control/fifo 3>&-
    ready=''
    read -r ready <&4
    exec 4<&-
    [ "$ready" = ready ]
}

# --- device locks: see engine/runners/device_locks.py --------------------------------------------
# Directories, opened as NAME/. : so nobody's link, pipe or file is ever opened or created in their place.

own_locks() { # -> $mine: where our locks are; fails unless it is ours and where it says it is
    mine=$locks.$(id -u)
    mkdir -m 755 "$mine" 2>/dev/null
    # What is looked at is held as the working directory: nobody can exchange it in between.
    (cd "$mine" && [ -O . ] && [ "$(pwd -P)" = "$(cd "${locks%/*}/" && pwd -P)/${mine##*/}" ]) 2>/dev/null
}

held() { # LOCK: by anybody
    [ -d "$1" ] && [ ! -L "$1" ] || return 1
    { flock --nonblock --shared 9; } 2>/dev/null 9<"$1/." && return 1
    [ -d "$1" ] # else it is gone
}

alone() { # DEVICE LOCKS...: fails when one of the devices is locked by others than our own neighbours
    LC_ALL=C # everybody sees the locks in one order
    [ $# = 0 ] || own_locks || return 1
    for own; do
        ours=$mine/$own after='' rounds=0
        for lock in "$locks".*/"${own%%@*}"@*; do
            case $lock in
            "$ours") after=1 && continue ;;
            "${ours%@*}"@*of"${own##*of}") continue ;;
            esac
            while held "$lock"; do
                # Of two who came at once the first in this order stays: the other one leaves in a moment.
                [ -n "$after" ] && [ "$rounds" -lt 10 ] || return 1
                rounds=$((rounds + 1))
                sleep 0.1
            done
        done
    done
}

end_watch() { # before control/exit: whoever reads that may launch on the same device at once
    kill -TERM "$watcher" 2>/dev/null
    while wait "$watcher"; alive "$watcher" "$watcher_start"; do :; done
    read -r peak <control/peak || peak=0
} 2>/dev/null

short_tmp() { # -> $tmp
    tmp=$attempt/tmp
    mkdir -p home tmp
    # A unix socket's path may have 107 bytes, and Python's multiprocessing makes them in TMPDIR.
    [ "${#tmp}" -gt 60 ] || return 0
    look $$
    alias=/tmp/ratchet.$$.$start
    printf '%s\n' "$alias" >control/alias # before it is made: whoever clears up after us must know it
    if mkdir -m 700 "$alias" 2>/dev/null; then
        ln -s "$tmp" "$alias/t" && tmp=$alias/t
    else
        rm -f control/alias # somebody else's
    fi
}

drop_alias() {
    { read -r alias <control/alias; } 2>/dev/null || return 0
    case $alias in
    /tmp/ratchet.*/*) ;;
    /tmp/ratchet.*) { rm -f "$alias/t" && rmdir "$alias"; } 2>/dev/null ;;
    esac
}

run_step() { # N -> $code $results
    eval "timeout=\$timeout_$1"
    from=$(($(wc -c <control/log)))
    # Before the step can write: whoever has read a byte of it then finds this line.
    printf '%s %s\n' "$1" "$from" >>control/steps
    uptime
    begun=$now
    sh "control/step-$1.sh" "$tmp" </dev/null >>control/log 2>&1 &
    step=$!
    look "$step"
    step_start=$start
    printf '%s %s %s %s\n' "$1" "$step" "$step_start" "$((begun + timeout))" >control/step
    # A trapped signal also ends `wait`: it is over only when the process is.
    while wait "$step"; code=$?; look "$step" && [ "$start" = "$step_start" ]; do :; done
    uptime
    printf '0 0 0 0\n' >control/step
    sweep
    seconds "$((now - begun))"
    results="${results}step $1 $code $seconds $from $(($(wc -c <control/log)))
"
}

job() {
    read -r boot </proc/sys/kernel/random/boot_id
    look $$
    # Before claiming, so that whoever dies between claim and pid can be told from one who is slow.
    printf '%s\n' "$$ $start $boot" >control/contender.$$ || exit 1
    if ! mkdir control/claim 2>/dev/null; then
        rm -f control/contender.$$
        exit 0
    fi
    watcher=''
    # A command, not '': an ignored signal would stay ignored in every child.
    trap ': >control/cancel; [ -z "$watcher" ] || kill -USR1 "$watcher"' TERM
    # A name in ssh's configuration may stand for several machines, and a pid means nothing on another.
    { read -r machine </proc/sys/kernel/hostname && printf '%s\n' "$machine" >control/machine; } 2>/dev/null
    mv control/contender.$$ control/pid || exit 1
    . control/plan.sh # also sets $@ to the device locks
    [ -n "$token" ] || exit 1
    printf '%4096s\n' '' >control/exit.new || exit 1
    : >>control/log || exit 1
    reason=finished results='' peak=0
    short_tmp
    if begin_watch "$@"; then
        look "$watcher" && watcher_start=$start
        number=1
        while [ "$number" -le "$steps" ]; do
            if [ -e control/cancel ]; then reason=cancelled && break; fi
            run_step "$number"
            if [ -e control/reason ]; then read -r reason <control/reason && break; fi
            if [ "$code" -ne 0 ]; then reason=failed && break; fi
            number=$((number + 1))
        done
        end_watch
    else
        reason=busy
        [ ! -e control/cancel ] || reason=cancelled # the signal cut our reading short
        kill -KILL "$watcher" 2>/dev/null
    fi
    drop_alias
    until say_exit; do sleep 1; done # until there is room again: being alive, we are not lost
}

# --- asked by the engine -------------------------------------------------------------------------

cancel() {
    mkdir -p control
    if [ -e control/exit ]; then
        printf 'asked\n'
    elif mkdir control/claim 2>/dev/null; then
        reason=cancelled peak=0 results=''
        say_exit && printf 'won\n'
    else
        # In this order: a job that has no pid yet looks for the file after it has written one.
        : >control/cancel
        { read -r pid pid_start boot <control/pid; } 2>/dev/null || pid=0
        read -r here </proc/sys/kernel/random/boot_id
        if [ "$pid" -gt 0 ] && [ "$boot" = "$here" ] && alive "$pid" "$pid_start"; then
            kill -TERM "$pid"
        fi
        printf 'asked\n'
    fi
}

clear() {
    [ ! -e control/plan.sh ] || . control/plan.sh
    { read -r pid pid_start boot <control/pid; } 2>/dev/null || boot=''
    read -r here </proc/sys/kernel/random/boot_id
    watcher=0 watcher_start=0
    if [ "$boot" = "$here" ]; then
        if { read -r number step step_start deadline <control/step; } 2>/dev/null; then
            slay "$step" "$step_start"
        fi
        { read -r watcher watcher_start <control/watcher; } 2>/dev/null
    fi
    [ -z "$token" ] || sweep
    # Last, for it holds the device locks; and gently, for its sleeping child holds them too.
    ! alive "$watcher" "$watcher_start" || kill -TERM "$watcher"
    rounds=0
    while alive "$watcher" "$watcher_start"; do
        rounds=$((rounds + 1))
        [ "$rounds" -lt 100 ] || kill -KILL "$watcher"
        sleep 0.02
    done
    drop_alias
    fled=''
    [ -z "$token" ] || fled
    # shellcheck disable=SC2086
    set -- $fled
    printf '%s\n' "$#"
}

if [ "${2-}" = cancel ]; then mkdir -p "$1"; fi
cd "$1" || exit 1
attempt=$(pwd -P)
token=''
case ${2-job} in
watch)
    job=$3 # before the plan sets $@ to the device locks
    . control/plan.sh
    watch "$@"
    ;;
cancel) cancel ;;
clear) clear ;;
locks)
    locks=$3
    own_locks || { printf '%s\n' "$mine" && exit 1; }
    ;;
*) job ;;
esac
exit
