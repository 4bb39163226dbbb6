# What a host at the other end of an ssh connection does with its own files. POSIX sh; sent along with each
# request, so nothing is installed there. Every request may come again, also while an earlier one still runs.
#
#   probe ROOT                                   make ROOT, tidy it; print facts, each "key=value" and a NUL
#   receive ARCHIVE BYTES SHA256                 keep standard input in the cache, if it is all there
#   stage DIRECTORY ARCHIVE [WHERE PLACE TARGET]...   unpack it there, link; "absent": not in the cache
#   list DIRECTORY DEPTH BYTES                   regular files in work/, each with a NUL; no links are followed
#   fetch DIRECTORY BYTES TOTAL NAME...          for each: "NUMBER SIZE SHA256" in a line, then its bytes; TOTAL of all
#   remove DIRECTORY
set -u

home_of() { # PATH -> $path: absolute, with ~ as this machine has it
    case $1 in
    /*) path=$1 ;;
    '~') path=$HOME ;;
    '~/'*) path=$HOME/${1#'~/'} ;;
    *) path=$HOME/$1 ;;
    esac
}

tidy() { # CACHE: what nobody has used for two days is sent again when it is wanted; a part of a day ago was cut
    find "$1" -type f \( -name '*.tar' -mtime +1 -o -name '*.part' -mtime +0 \) -exec rm -f {} +
}

fact() { printf '%s=%s\0' "$1" "$2"; }

probe() {
    home_of "$1"
    mkdir -p "$path/cache" && [ -w "$path/cache" ] || exit 1
    missing=''
    for tool in tar dd stat head find mkfifo mktemp sha256sum; do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    fact missing "${missing# }"
    fact root "$path"
    fact now "$(date +%s)"
    read -r line </proc/sys/kernel/random/boot_id && fact boot "$line"
    read -r line </proc/sys/kernel/hostname && fact machine "$line"
    fact kind "$(uname -s) $(uname -m)"
    fact nvidia_smi "$(command -v nvidia-smi)"
    [ -z "${CUDA_VISIBLE_DEVICES+x}" ] || fact visible "$CUDA_VISIBLE_DEVICES"
    fact free "$(stat -f -c '%a %S' "$path" | { read -r blocks size && printf %s "$((blocks * size))"; })"
    fact model "$(sed -n 's/^[Mm]odel name[[:space:]]*: *//p' /proc/cpuinfo | head -n 1)"
    fact allowed "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
    fact places "$(cd /sys/devices/system/cpu 2>/dev/null && for cpu in cpu[0-9]*; do
        { read -r package <"$cpu/topology/physical_package_id" && read -r core <"$cpu/topology/core_id"; } 2>/dev/null &&
            printf '%s %s %s\n' "${cpu#cpu}" "$package" "$core"
    done)"
    tidy "$path/cache"
    find "$path" -maxdepth 4 -type d \( -name '*.staging-*' -o -name '*.removing-*' \) -mtime +0 -prune \
        -exec rm -rf {} +
    exit 0 # untidy is no fault
}

receive() {
    [ -f "$1" ] && exit 0
    part=$1.$$.part
    trap 'rm -f "$part"' EXIT
    cat >"$part" || exit 1
    if [ "$(stat -c %s "$part")" -ne "$2" ]; then echo 'not all of it came' >&2 && exit 1; fi
    sum=$(sha256sum <"$part")
    if [ "${sum%% *}" != "$3" ]; then echo 'its checksum is wrong' >&2 && exit 1; fi
    mv -f "$part" "$1"
    # Here too: a host may stay open for months, and each candidate is another archive.
    tidy "${1%/*}"
}

delete() { # a candidate may take the write permission from its own directories
    rm -rf "$1" 2>/dev/null || { chmod -R u+rwX "$1" && rm -rf "$1"; }
}

merge() ( # LINK TARGET: where a directory is already, only what it has not
    if [ -d "$1" ] && [ ! -L "$1" ] && [ -d "$2" ]; then
        for child in "$2"/* "$2"/.[!.]* "$2"/..?*; do
            if [ -e "$child" ] || [ -L "$child" ]; then merge "$1/${child##*/}" "$child" || exit 1; fi
        done
    elif [ ! -e "$1" ] && [ ! -L "$1" ]; then
        ln -s "$2" "$1"
    fi
)

link() { # BASE PLACE TARGET: the candidate's own files win; its symbolic links are replaced, and never followed
    home_of "$3"
    [ -e "$path" ] || return 0 # the trial then says so in its own words
    base=$1 rest=$2
    while :; do
        base=$base/${rest%%/*}
        if [ -L "$base" ]; then rm "$base" || return 1; fi
        case $rest in */*) rest=${rest#*/} ;; *) break ;; esac
        [ -d "$base" ] || mkdir "$base" || return 1
    done
    merge "$base" "$path"
}

stage() {
    [ ! -e "$1" ] || exit 0
    if [ ! -f "$2" ]; then echo absent && exit 0; fi
    touch "$2"
    final=$1 archive=$2 new=$1.staging-$$
    shift 2
    for left in "$final".staging-*; do
        if [ -d "$left" ] && [ ! -e "/proc/${left##*-}" ]; then delete "$left"; fi
    done
    trap '[ ! -e "$new" ] || delete "$new"' EXIT
    mkdir -p "$new/control" "$new/work" "$new/home" "$new/tmp" || exit 1
    # Not the owner in the archive: as root, tar would give the files away. Not by -C: it unquotes backslashes.
    (cd "$new/work" && tar -xof - <"$archive") || exit 1
    while [ $# -ge 3 ]; do
        link "$new/$1" "$2" "$3" || exit 1
        shift 3
    done
    [ ! -e "$final" ] || exit 0 # somebody staged or cancelled it meanwhile
    mv "$new" "$final" || exit 1
    # Between those two lines too: then it was moved into theirs.
    [ ! -e "$final/${new##*/}" ] || delete "$final/${new##*/}"
}

list() {
    # A link in the place of work/ itself is not followed either; find takes one that it is given for what it is.
    cd "$1" 2>/dev/null && [ -d work ] && [ ! -L work ] && cd work || exit 0
    find . -mindepth 1 ${2:+-maxdepth "$2"} -type f -print0 2>/dev/null | head -c "$3"
    exit 0
}

fetch() {
    cd "$1/work" || exit 0
    base=$(pwd -P) limit=$2 left=$3 number=0
    shift 3
    copy=$(mktemp) || exit 1
    trap 'rm -f "$copy"' EXIT
    for name; do
        number=$((number + 1))
        inside=/$name
        # From the directory itself, once it is certain which that is: a candidate that still runs may
        # exchange a directory for a link between a look and an open.
        (
            cd "$base${inside%/*}" && [ "$(pwd -P)" = "$base${inside%/*}" ] || exit 1
            file=./${name##*/}
            [ -f "$file" ] && [ ! -L "$file" ] && head -c "$limit" <"$file" >"$copy"
        ) 2>/dev/null || continue
        # A copy first: size and checksum are then those of the very bytes that follow.
        size=$(stat -c %s "$copy")
        left=$((left - size))
        [ "$left" -ge 0 ] || exit 0
        sum=$(sha256sum <"$copy")
        printf '%s %s %s\n' "$number" "$size" "${sum%% *}"
        cat "$copy"
    done
}

remove() {
    # Renamed first: half of a directory must not be taken for a staged one.
    for left in "$1".removing-*; do
        if [ -d "$left" ] && [ ! -e "/proc/${left##*-}" ]; then delete "$left"; fi
    done
    [ -e "$1" ] || exit 0
    mv "$1" "$1.removing-$$" || exit 1
    delete "$1.removing-$$"
}

request=$1
shift
"$request" "$@"
