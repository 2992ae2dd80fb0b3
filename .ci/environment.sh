# Sourced by ../run, ../test and .ci/run: makes the virtual environment that they share.
#
#   environment NAME EXTRAS    sees to it that $venv has Ringscope with these extras installed
#
# Nothing is done when that has been done already for this pyproject.toml in this place: the stamp
# $venv/.installed-NAME says so. "ci" holds all of "test", which holds all of "run".

name=$(basename -- "$0")

fail() {
    echo "$name: $*" >&2
    exit 2
}

find_python() {
    for candidate in python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

environment() {
    venv=$root/.venv
    wanted="$(cksum <"$root/pyproject.toml") $root"
    case $1 in
        run) enough="run test ci" ;;
        test) enough="test ci" ;;
        *) enough=$1 ;;
    esac
    if installed; then
        return
    fi
    mkdir -p "$venv" 2>/dev/null && [ -w "$venv" ] ||
        fail "cannot write to $venv: make the folder writable, or run: pipx install $root"
    lock
    if ! installed; then # someone else may have done it while we waited
        echo "Setting up Ringscope in $venv, once ..." >&2
        create
        install "$2"
        echo "$wanted" >"$venv/.installed-$1"
    fi
    unlock
}

installed() {
    for stamp in $enough; do
        if [ -r "$venv/.installed-$stamp" ] && [ -x "$venv/bin/python" ]; then
            read -r found <"$venv/.installed-$stamp" || true
            [ "$found" = "$wanted" ] && return 0
        fi
    done
    return 1
}

# Two first starts at once: the second waits. A lock whose owner is gone counts for nothing.
lock() {
    until mkdir "$venv/.lock" 2>/dev/null; do
        owner=$(cat "$venv/.lock/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null && ! [ -d "/proc/$owner" ]; then
            rm -rf "$venv/.lock"
        else
            sleep 1
        fi
    done
    echo $$ >"$venv/.lock/pid"
    trap unlock EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

unlock() {
    rm -rf "$venv/.lock"
    trap - EXIT INT TERM
}

create() {
    if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        return
    fi
    rm -rf "$venv/bin" "$venv/lib" "$venv/pyvenv.cfg"
    if command -v uv >/dev/null 2>&1 &&
        uv venv --quiet --allow-existing --python '>=3.11' "$venv" >"$venv/install.log" 2>&1; then
        return
    fi
    python=$(find_python)
    [ -n "$python" ] || fail "needs Python 3.11 or later, and finds none"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "needs the package python3-venv (for $python)"
    "$python" -m venv "$venv" >"$venv/install.log" 2>&1 ||
        fail "cannot make a virtual environment; $venv/install.log says why"
}

install() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        set -- "$1" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input
    elif command -v uv >/dev/null 2>&1; then
        set -- "$1" uv pip install --quiet --python "$venv/bin/python"
    else
        fail "needs pip in $venv: install the package python3-pip, and remove that folder"
    fi
    extras=$1
    shift
    PIP_ROOT_USER_ACTION=ignore "$@" --editable "$root$extras" >"$venv/install.log" 2>&1 ||
        fail "cannot install what Ringscope needs (is there a network?); $venv/install.log says why"
    # An editable install compiles nothing, and many containers tell Python to keep no bytecode: then each
    # start would compile the sources anew, 0.3 s.
    "$venv/bin/python" -m compileall -q "$root/app" "$root/cores" "$root/lessons" >/dev/null 2>&1 || true
}
