# One stream for all followed attempts of a host, over one ssh session. POSIX sh, and dd, stat and cat.
#
# It does nothing unless it is asked: no polling here, nothing left behind when the connection goes.
# On standard input, first a token that frames are known by (login files print too), then lines:
#   + ID OFFSET PATH     follow the attempt in PATH (as printf %b reads it) from that byte of its log
#   - ID                 no more
#   ? N LIFE BLOCKS      look at all of them; LIFE 1: also whether their jobs still run; BLOCKS of 64 KiB at most
# On standard output, each line with the token before it:
#   hello                             ready
#   log ID OFFSET, plan ID, exit ID   bytes, up to "\n" TOKEN " end\n"
#   pid ID IDENTITY   step ID NTH NUMBER OFFSET   hole ID FROM UPTO
#   now ID                            what was said of ID belongs together
#   lost ID WHY   missing ID   elsewhere ID MACHINE
#   done N MORE                       the answer to "? N"; MORE 1: there is more to read at once
# The files are job.sh's, which says what they mean.
set -u

say() { printf '%s %s\n' "$token" "$*"; }

send() { # FILE: its bytes, however hostile, as a frame's
    dd if="$1" bs=65536 count=16 2>/dev/null
    printf '\n%s end\n' "$token"
}

alive() { # PID START: that very process, and not just its zombie
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086  # the split is meant; the process's name may hold spaces and brackets
    set -- "$2" ${stat##*') '}
    [ "${21}" = "$1" ] && [ "$2" != Z ] && [ "$2" != X ]
}

gone() { # PID START BOOT -> $why, when that process certainly runs no more
    why="the job's process $1 is gone and left no exit"
    if [ "$3" != "$boot" ]; then why='the machine was restarted' && return 0; fi
    ! alive "$1" "$2"
}

ended() { # whether control/exit is there and whole: the power may have gone before its bytes were on disk
    [ -e "$d/exit" ] || return 1
    reason=''
    # In every word, as the reader wants it: to a damaged one nobody would answer, and the job is not lost either.
    while read -r word one two three four five rest; do
        case $word in
        reason) reason=$one digits=0$two ;;
        peak) digits=$one ;;
        step) digits=${five:+$one$two$four$five$rest} ;;
        end) digits=0$one ;;
        *) return 1 ;;
        esac
        case $digits in '' | *[!0-9]*) return 1 ;; esac
        case $word$three in step*[!0-9.]* | step | step.* | step*.*.*) return 1 ;; esac
        case $word$reason in end*[!a-z]* | reason*[!a-z]*) return 1 ;; end?*) return 0 ;; esac
    done <"$d/exit"
    return 1
} 2>/dev/null

learn() { # what only the plan says: the steps' names, and how the log is capped
    [ -n "$known" ] || [ ! -e "$d/plan.json" ] && return
    known=1
    say plan "$id" && send "$d/plan.json"
    while IFS='=' read -r key value; do
        case $key in log_cap) cap=$value ;; log_tail) tail=$value ;; esac
    done <"$d/plan.sh"
    head=$(((cap - tail + 4095) / 4096 * 4096))
    [ "$head" -ge 65536 ] || head=65536
} 2>/dev/null

read_log() { # BLOCKS: from $position on
    at=$position
    # What a flood's cap will cut out anyway need not be read.
    if [ "$size" -gt "$cap" ] && [ "$at" -ge "$head" ] && [ "$((size - tail - at))" -gt 2097152 ]; then
        at=$((size - tail))
    fi
    { read -r from upto <"$d/hole"; } 2>/dev/null && [ "$at" -ge "$from" ] && [ "$at" -lt "$upto" ] && at=$upto
    # Whole blocks, for dd can seek by nothing else: the reader drops what comes before its place.
    block=512 blocks=128
    if [ "$((size - at))" -gt 65024 ]; then block=65536 blocks=$1; fi
    at=$((at / block * block))
    say log "$id" "$at"
    dd if="$d/log" bs=$block skip=$((at / block)) count="$blocks" 2>/dev/null
    printf '\n%s end\n' "$token"
    position=$((at + block * blocks))
    if [ "$position" -lt "$size" ]; then more=1; else position=$size; fi
    # After the bytes: those that were cut out while we read them were never printed.
    { read -r from upto <"$d/hole"; } 2>/dev/null && say hole "$id" "$from" "$upto"
}

read_steps() { # after the log: every byte sent then belongs to a step that was told
    [ -e "$d/steps" ] || return
    nth=0
    while read -r number offset; do
        nth=$((nth + 1))
        if [ "$nth" -gt "$steps" ]; then steps=$nth && say step "$id" "$nth" "$number" "$offset" && news=1; fi
    done <"$d/steps"
} 2>/dev/null

elsewhere() { # its processes are another machine's: nothing here says whether they run
    { read -r machine <"$d/machine"; } 2>/dev/null && [ "$machine" != "$here" ] || return 1
    say elsewhere "$id" "$machine"
}

check_life() {
    if elsewhere; then return; fi
    if { read -r pid start born <"$d/pid"; } 2>/dev/null; then
        gone "$pid" "$start" "$born" || return
    elif [ -e "$d/claim" ]; then
        # Claimed, and no pid: slow, or dead in between. Its contender file was written before.
        for file in "$d"/contender.*; do
            { read -r pid start born <"$file"; } 2>/dev/null && ! gone "$pid" "$start" "$born" && return
        done
        [ ! -e "$d/pid" ] || return # it may have become a pid between our two looks
        why='whoever claimed the attempt died before starting it'
    else
        return # staged and never claimed: the conductor launches again
    fi
    if ended; then return; fi # between our two looks
    say lost "$id" "$why"
    forget "$id"
}

look() { # ID SIZE ENDED LIFE BLOCKS
    id=$1 size=$2
    eval "d=\$d_$id position=\$position_$id steps=\$steps_$id told=\$told_$id known=\$known_$id"
    eval "cap=\$cap_$id tail=\$tail_$id head=\$head_$id"
    if [ ! -d "$d" ]; then
        say missing "$id"
        return
    fi
    if [ -z "$told" ] && elsewhere; then return; fi
    news=''
    learn
    if [ -z "$told" ]; then news=1 told=1; fi # so that the reader knows that we found it
    if [ "$told" = 1 ] && { read -r identity <"$d/pid"; } 2>/dev/null; then
        told=2 news=1
        say pid "$id" "$identity"
    fi
    if [ "$size" -gt "$position" ]; then news=1 && read_log "$5"; fi
    read_steps
    [ -z "$news" ] || say now "$id"
    if [ "$3" = 0 ]; then
        [ "$4" = 0 ] || check_life
    elif [ "$position" -ge "$size" ]; then
        say exit "$id" && send "$d/exit"
        forget "$id"
    else
        more=1
    fi
    eval "position_$id=$position steps_$id=$steps told_$id=$told known_$id=$known"
    eval "cap_$id=$cap tail_$id=$tail head_$id=$head"
}

look_at_all() { # N LIFE BLOCKS
    more=0 logs='' seen=''
    set -- "$1" "$2" "$3"
    for id in $ids; do
        eval "d=\$d_$id end_$id=0 size_$id=0"
        # An end before the log's size: what was seen to have ended writes no more.
        if ended; then eval "end_$id=1"; fi
        if [ -f "$d/log" ]; then
            logs="$logs $id"
            set -- "$@" "$d/log"
        fi
    done
    n=$1 life=$2 most=$3
    shift 3
    # One process for all of them. Where one has just vanished, the next look tells.
    if [ -z "$logs" ] || sizes=$(stat -c %s "$@" 2>/dev/null); then
        # shellcheck disable=SC2086
        set -- ${logs:+$sizes}
        for id in $logs; do
            eval "size_$id=$1"
            shift
        done
        for each in $ids; do
            eval "look $each \$size_$each \$end_$each $life $most"
        done
    fi
    say 'done' "$n" "$more"
}

forget() { # ID
    left=''
    for other in $ids; do
        [ "$other" = "$1" ] || left="$left $other"
    done
    ids=$left
}

ids='' sizes='' boot='' here=''
read -r token || exit 0
read -r boot </proc/sys/kernel/random/boot_id
read -r here </proc/sys/kernel/hostname
# A line of its own, whatever a login file has printed.
printf '\n'
say hello
while read -r request one two three; do
    case $request in
    +)
        forget "$one"
        path=$(printf %b. "$three") # the dot: a shell drops the newlines at the end
        eval "d_$one=\${path%.}/control position_$one=$two steps_$one=0 told_$one= known_$one="
        eval "cap_$one=4611686018427387904 tail_$one=0 head_$one=0" # no cap is known
        ids="$ids $one"
        ;;
    -) forget "$one" ;;
    \?) look_at_all "$one" "$two" "$three" ;;
    esac
done
