#!/bin/sh
# What an attempt needs beside job.sh where Slurm starts it. POSIX sh. A copy lies in its control/.
#
# On a compute node:
#   slurm.sh run ATTEMPT GPUS WRAP...     the batch script, or the step's command: becomes job.sh
#   slurm.sh life ATTEMPT                 prints alive, gone or unclaimed; meant for the attempt's own node
#   slurm.sh pilot DIRECTORY IDLE         holds an allocation until nobody has needed it for IDLE seconds
# Where Slurm's commands are:
#   slurm.sh facts ATTEMPT                what is known of the attempt, each "key value"
#   slurm.sh shown ATTEMPT                make control/shown, and print "shown"
#   slurm.sh submit DIRECTORY NAME SQUEUE SBATCH...   submit once; prints what sbatch has said
#   slurm.sh step ATTEMPT JOB SRUN...     start a step of JOB that outlives us
#
# Files, beside job.sh's own:
#   jobname limit      the job's name; its time limit in seconds
#   submitted jobid    before sbatch is called; what it answered (a step's: its allocation)
#   asked              we want it ended: an end without this was somebody else's doing
#   given-up           why its claim was taken: it never starts
#   node.env nodename  what Slurm gave to it on its node, and that node    slurm.log srun.log   what they said
#   shown/control/     all that may be read from another machine: all but what names processes
set -u

number() { # TEXT -> $number: the last line that is a job's number, as "17" or "17;cluster"
    number=''
    while read -r line; do
        case ${line%%;*} in
        '' | *[!0-9]*) ;;
        *) number=${line%%;*} ;;
        esac
    done <<END
$1
END
}

keep() { # NUMBER
    printf '%s\n' "$1" >jobid.new && mv jobid.new jobid
}

run() { # ATTEMPT GPUS WRAP...
    attempt=$1 gpus=$2
    shift 2
    cd "$attempt" || exit 66
    if [ -e control/claim ]; then # requeued, submitted twice, or cancelled before it started
        echo 'the attempt was claimed already' && exit 0
    fi
    # Proved on one node; that this one can do the same is asked before anything is claimed.
    "$@" /bin/sh -c 'exit 7' </dev/null
    if [ $? != 7 ]; then echo "containment does not work on $(uname -n): $*" && exit 69; fi
    threads=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-}}
    {
        # Names and numbers of devices and cores, from slurmd: never anything that quoting could break out of.
        if [ "$gpus" != 0 ]; then
            for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK; do
                eval "value=\${$name-}"
                case $value in '' | *[!A-Za-z0-9,:./_-]*) ;; *) printf "export %s='%s'\n" "$name" "$value" ;; esac
            done
        fi
        case $threads in
        '' | *[!0-9]*) ;;
        *) for name in OMP MKL OPENBLAS NUMEXPR VECLIB RAYON; do
            # What the project's own configuration sets stays.
            printf 'export %s_NUM_THREADS="${%s_NUM_THREADS-%s}"\n' "$name" "$name" "$threads"
        done ;;
        esac
    } >control/node.env.$$ && printf '%s\n' "${SLURMD_NODENAME-}" >control/nodename && mv control/node.env.$$ control/node.env || exit 73
    exec sh control/job.sh "$attempt"
}

life() {
    cd "$1/control" || exit 1
    if ! read -r pid start boot <pid; then
        [ -e claim ] || echo unclaimed
        exit 0
    fi 2>/dev/null
    read -r here </proc/sys/kernel/random/boot_id
    read -r node </proc/sys/kernel/hostname
    read -r machine <machine 2>/dev/null && [ "$machine" = "$node" ] || exit 1
    if [ "$boot" = "$here" ] && { read -r line <"/proc/$pid/stat"; } 2>/dev/null; then
        # shellcheck disable=SC2086  # the split is meant; the process's name may hold spaces and brackets
        set -- ${line##*') '}
        if [ "${20}" = "$start" ] && [ "$1" != Z ] && [ "$1" != X ]; then echo alive && exit 0; fi
    fi
    # It may have written its exit between our two looks.
    [ -e exit ] || echo gone
}

pilot() { # ends by itself: an engine that was killed leaves no allocation behind
    cd "$1" || exit 66
    quiet=0 last='' nap=5
    [ "$2" -ge 10 ] || nap=1
    while [ "$quiet" -lt "$2" ]; do
        sleep "$nap"
        beat=''
        { read -r beat <beat; } 2>/dev/null
        quiet=$((quiet + nap))
        [ "$beat" = "$last" ] || quiet=0
        last=$beat
        # Trials go on without an engine, and are not to be cut off.
        for busy in running/*; do
            [ -e "$busy" ] || continue
            { read -r attempt <"$busy"; } 2>/dev/null || continue
            if [ -e "$attempt/control/exit" ] || [ ! -e "$attempt" ]; then rm -f "$busy"; else quiet=0; fi
        done
    done
}

facts() {
    [ -d "$1/control" ] && cd "$1/control" || exit 0
    [ ! -d claim ] || printf 'claimed %s\n' "$(stat -c %Y claim)"
    for name in exit cancel asked submitted; do
        [ ! -e "$name" ] || printf '%s 1\n' "$name"
    done
    for name in jobid limit jobname nodename given-up; do
        { read -r value <"$name" && printf '%s %s\n' "$name" "$value"; } 2>/dev/null
    done
    # The file server's own clock, which claim's time is of.
    : >now && printf 'now %s\n' "$(stat -c %Y now)" && rm -f now
    for file in srun.log slurm.log; do
        [ ! -s "$file" ] || printf 'said %s\n' "$(tail -c 2000 "$file" | grep . | tail -n 1)"
    done
    exit 0
}

shown() {
    cd "$1/control" && mkdir -p shown/control || exit 1
    for name in steps plan.json plan.sh hole exit; do
        ln -sf "../../$name" "shown/control/$name" || exit 1
    done
    # Its size is asked of the name itself, and a symbolic link has one of its own. The job only adds to it.
    : >>log || exit 1
    [ shown/control/log -ef log ] || ln -f log shown/control/log || exit 1
    echo shown
}

submit() { # DIRECTORY NAME SQUEUE SBATCH...
    cd "$1" || exit 1
    name=$2 squeue=$3
    shift 3
    if [ ! -s jobid ] && [ -e submitted ]; then # the answer to an earlier one was lost
        found=$("$squeue" --noheader --format=%i "--name=$name" </dev/null) || exit 75
        number "$found"
        [ -z "$number" ] || keep "$number" || exit 1
    fi
    if [ ! -s jobid ]; then
        : >submitted || exit 1
        said=$("$@" </dev/null) || exit
        number "$said"
        if [ -z "$number" ]; then printf 'it gave no job number: %s\n' "$said" >&2 && exit 75; fi
        keep "$number" || exit 1
    fi
    cat jobid
}

step() { # ATTEMPT JOB SRUN...
    cd "$1/control" || exit 1
    keep "$2" || exit 1
    shift 2
    # Detached: srun has to live for as long as its step, which ends with it.
    exec </dev/null >srun.log 2>&1
    setsid -f true && exec setsid -f "$@"
    if command -v setsid >/dev/null; then set -- setsid "$@"; fi
    "$@" &
}

request=$1
shift
"$request" "$@"
