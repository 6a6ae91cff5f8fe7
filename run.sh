#!/usr/bin/env bash
# Builds Quince, starts five servers on this machine, runs a client, and stops what it started.
# See ./run.sh --help.

set -uo pipefail

usage() {
    cat <<'EOF'
Usage: ./run.sh [MODE] [--fresh] [--no-failures] [OPTIONS]

Builds Quince, starts five servers on loopback whose acceptors fail and recover at random, runs a
client, and stops the servers. Logs are in logs/, the servers' data in data/: a second run goes on with
the data of the first.

Modes:
  automated    the demo (default)
  interactive  the shell
  servers      only the servers, until Ctrl-C

  --fresh        forget the data of earlier runs
  --no-failures  no acceptor fails on purpose (to measure with quince bench)
  -h, --help     this text
  OPTIONS        for the client: ./run.sh automated --rounds 2 --no-kill

Environment:
  QUINCE_PORT       clients at QUINCE_PORT + 1 to 5, peers at QUINCE_PORT + 101 to 105 [7000]
  CARGO_TARGET_DIR  where cargo builds [target]

Exit status: the client's; 2 for a wrong command line; 3 if the servers could not be started.
EOF
}

readonly SERVERS=(1 2 3 4 5)
readonly READY_SECONDS=30 # The servers must answer and have a leader within this.
readonly STOP_SECONDS=15  # A process that has not ended this long after SIGTERM gets SIGKILL.
readonly POLL_SECONDS=0.05

# Everything for people goes here. From the start of the servers on, standard error itself is
# closed to bash, which would print a line of its own about every killed server.
exec {messages}>&2

say() { printf 'run.sh: %s\n' "$*" >&"$messages"; }

# The last lines of a file.
show_end() { tail -n "$2" -- "$1" | sed 's/^/  /' >&"$messages"; }

fail() {
    say "$*"
    exit 3
}

wrong_usage() {
    say "$*; see ./run.sh --help"
    exit 2
}

# --- What was asked for ---------------------------------------------------------------------------

mode=automated
fresh=no
failures=(--fail-every 2s..4s --recover-after 2s..4s)
case ${1-} in
automated | interactive | servers)
    mode=$1
    shift
    ;;
esac
client_options=()
for option in "$@"; do
    case $option in
    -h | --help)
        usage
        exit 0
        ;;
    --fresh) fresh=yes ;;
    --no-failures) failures=() ;;
    *) client_options+=("$option") ;;
    esac
done
case ${client_options[0]-} in
'' | -*) ;;
*) wrong_usage "unknown mode '${client_options[0]}'" ;;
esac
if [[ $mode == servers && ${#client_options[@]} -gt 0 ]]; then
    wrong_usage "unknown argument '${client_options[0]}'"
fi

port=${QUINCE_PORT:-7000}
# Leading zeros would make it octal.
if ! [[ $port =~ ^(0|[1-9][0-9]{0,4})$ ]] || ((port < 1024 || port > 65430)); then
    wrong_usage "QUINCE_PORT must be a number from 1024 to 65430, found '$port'"
fi

# Relative to where the user stands, which is left here.
case ${CARGO_TARGET_DIR:=target} in
/* | target) ;;
*) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;;
esac
export CARGO_TARGET_DIR
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 3
readonly quince=$CARGO_TARGET_DIR/release/quince

client_address() { printf '127.0.0.1:%d' $((port + $1)); }
peer_address() { printf '127.0.0.1:%d' $((port + 100 + $1)); }

# --- Signals --------------------------------------------------------------------------------------
#
# A handler only takes a note. bash runs handlers between any two commands, and one that stopped
# things itself could run between the start of a server and the line that remembers its pid.

stop_signal=0 # 128 + its number, once one has come.
restarts_due=no
trap 'stop_signal=129' HUP
trap 'stop_signal=130' INT
trap 'stop_signal=143' TERM
trap 'restarts_due=yes' USR1 # From the demo: see restart_killed.

stop_if_asked() {
    if ((stop_signal)); then
        exit "$stop_signal"
    fi
}

# --- Servers --------------------------------------------------------------------------------------

declare -a pids=() # By server number; empty once it has ended and was waited for.
client_pid=
saved_terminal=

pid_file() { printf 'data/server-%d.pid' "$1"; }

alive() { kill -0 "$1" 2>/dev/null; }

# A Ctrl-C at the terminal goes to the whole foreground group: it must not reach the servers. Job
# control does it where there is no setsid, but it takes the terminal for a moment.
own_session=()
if command -v setsid >/dev/null; then
    own_session=(setsid)
fi

start_server() {
    local id=$1 peers='' n
    for n in "${SERVERS[@]}"; do
        peers+=${peers:+,}$n=$(peer_address "$n")
    done
    if ((${#own_session[@]} == 0)); then
        set -m
    fi
    ${own_session[@]+"${own_session[@]}"} "$quince" server --id "$id" --peers "$peers" --listen "$(client_address "$id")" \
        --data "data/$id" --preload fruits.csv ${failures[@]+"${failures[@]}"} \
        --log-file "logs/server-$id.log" </dev/null >>"logs/server-$id.out" 2>&1 \
        {messages}>&- &
    pids[id]=$!
    set +m
    printf '%d\n' "${pids[id]}" >"$(pid_file "$id")"
}

# What a server that has ended left behind.
tell_end() {
    local id=$1 status=$2 log
    say "server $id ended with status $status"
    for log in "logs/server-$id.log" "logs/server-$id.out"; do
        if [[ -s $log ]]; then
            say "the end of $log:"
            show_end "$log" 10
        fi
    done
}

# Waits for a server that has ended, and puts its status into $ended_status.
reap() {
    wait "${pids[$1]}" 2>/dev/null
    ended_status=$?
    pids[$1]=
}

# Asks a server one line; its reply is in $reply, up to the line that begins with the second word.
ask() {
    local id=$1 request=$2 field=$3 line
    reply=
    # The outer group keeps bash's own message about a refused connection away.
    { exec {socket}<>"/dev/tcp/127.0.0.1/$((port + id))"; } 2>/dev/null || return 1
    printf '%s\n' "$request" >&"$socket"
    while IFS= read -r -t 1 -u "$socket" line; do
        if [[ $line == "$field"* ]]; then
            reply=${line%$'\r'}
            break
        fi
    done
    exec {socket}>&-
    [[ -n $reply ]]
}

serves() { ask "$1" STATUS 'leader ' && [[ $reply != 'leader none' ]]; }

wait_until_served() {
    local id give_up=$((SECONDS + READY_SECONDS))
    for id in "${SERVERS[@]}"; do
        until serves "$id"; do
            stop_if_asked
            if ! alive "${pids[id]}"; then
                reap "$id"
                tell_end "$id" "$ended_status"
                exit 3
            fi
            if ((SECONDS >= give_up)); then
                say "server $id does not serve after $READY_SECONDS s"
                show_end "logs/server-$id.log" 10
                exit 3
            fi
            sleep "$POLL_SECONDS"
        done
    done
}

# The demo kills a server with -9 and then sends SIGUSR1: servers that ended so are started again.
# One that ended in any other way stays down, and is told of.
restart_killed() {
    local id
    restarts_due=no
    for id in "${SERVERS[@]}"; do
        if [[ -n ${pids[id]} ]] && ! alive "${pids[id]}"; then
            reap "$id"
            if ((ended_status == 137)); then
                start_server "$id"
            else
                tell_end "$id" "$ended_status"
            fi
        fi
    done
}

# --- Stopping -------------------------------------------------------------------------------------

# Sends SIGTERM to the processes, waits for their end, and after a while does not ask any more.
stop_processes() {
    local pid give_up=$((SECONDS + STOP_SECONDS))
    # A frozen process could not end.
    for pid in "$@"; do
        kill -TERM "$pid" 2>/dev/null
        kill -CONT "$pid" 2>/dev/null
    done
    for pid in "$@"; do
        while alive "$pid"; do
            if ((SECONDS >= give_up)); then
                say "process $pid does not end: killing it"
                kill -KILL "$pid" 2>/dev/null
                break
            fi
            sleep "$POLL_SECONDS"
        done
    done
}

clean_up() {
    local status=$? id left=()
    # Nothing may interrupt this: it is bounded.
    trap '' HUP INT TERM USR1
    if [[ -n $client_pid ]]; then
        stop_processes "$client_pid"
        wait "$client_pid" 2>/dev/null
    fi
    if [[ -n $saved_terminal ]]; then
        stty "$saved_terminal" 2>/dev/null
    fi
    for id in "${SERVERS[@]}"; do
        if [[ -n ${pids[id]-} ]]; then
            if alive "${pids[id]}"; then
                left+=("${pids[id]}")
            elif wait "${pids[id]}" 2>/dev/null; [[ $? -ne 137 && $stop_signal -eq 0 ]]; then
                say "server $id ended by itself: see logs/server-$id.log"
            fi
        fi
    done
    if ((${#left[@]})); then
        stop_processes "${left[@]}"
    fi
    for id in "${SERVERS[@]}"; do
        if [[ -n ${pids[id]-} ]]; then
            wait "${pids[id]}" 2>/dev/null
        fi
        if [[ -n ${started-} ]]; then
            rm -f -- "$(pid_file "$id")"
        fi
    done
    exit "$status"
}
trap clean_up EXIT

# --- Before the start -----------------------------------------------------------------------------

# Servers of an earlier run that could not stop them, or of one that is running now.
refuse_running_servers() {
    local id pid
    for id in "${SERVERS[@]}"; do
        [[ -r $(pid_file "$id") ]] || continue
        pid=$(<"$(pid_file "$id")")
        if [[ $pid =~ ^[0-9]+$ ]] && ps -o args= -p "$pid" 2>/dev/null | grep -q "server --id $id "; then
            fail "server $id of another run still works on data/$id: stop that run, or 'kill $pid'"
        fi
    done
}

# Whether anyone listens on a port of this machine in a way that keeps 127.0.0.1 from us.
is_taken() {
    if command -v ss >/dev/null; then
        ss -Hltn "sport = :$1" | awk '{ print $4 }' | grep -Eq '^(127\.0\.0\.1|0\.0\.0\.0|\*|\[::\]):'
    else
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    fi
}

# By what a port is taken, as far as this user may see it.
taken_by() {
    local found=
    if command -v ss >/dev/null; then
        found=$(ss -Hltnp "sport = :$1" 2>/dev/null |
            sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (process \2)/p' | head -n 1)
    elif command -v lsof >/dev/null; then
        found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null |
            awk 'NR == 2 { print $1 " (process " $2 ")" }')
    fi
    printf '%s' "${found:-a program of another user}"
}

refuse_taken_ports() {
    local id taken
    for id in "${SERVERS[@]}"; do
        for taken in $((port + id)) $((port + 100 + id)); do
            if is_taken "$taken"; then
                fail "port $taken is taken by $(taken_by "$taken");" \
                    "choose others: QUINCE_PORT=$((port == 8000 ? 9000 : 8000)) ./run.sh $mode"
            fi
        done
    done
}

# Waits for a process, also when signals come in between; its status is in $status.
wait_for() {
    local again
    while :; do
        wait "$1"
        status=$?
        if [[ $restarts_due == yes ]]; then
            restart_killed
        fi
        stop_if_asked
        if ((status <= 128)); then
            return
        fi
        # A status above 128 may be that of a signal to this script, and the process still be there.
        if ! alive "$1"; then
            wait "$1"
            again=$?
            if ((again != 127)); then # 127: its status was taken above.
                status=$again
            fi
            stop_if_asked
            return
        fi
    done
}

build() {
    local log=logs/build.log
    command -v cargo >/dev/null || fail "cargo is not installed: see https://rustup.rs"
    cargo build --release --locked >"$log" 2>&1 &
    client_pid=$!
    # Up to date, it takes no time, and nobody needs to read of it.
    while alive "$client_pid"; do
        stop_if_asked
        if ((SECONDS >= 2)); then
            say "building (the first time takes a minute or two; see $log)"
            break
        fi
        sleep "$POLL_SECONDS"
    done
    wait_for "$client_pid"
    client_pid=
    if ((status)); then
        show_end "$log" 40
        fail "cargo build --release failed: all of it is in $log"
    fi
}

# --- The client -----------------------------------------------------------------------------------

# In the background of this script, so that it can take signals meanwhile, but with its terminal; a
# Ctrl-C reaches both. bash would have it ignore that one: the inner trap undoes this.
run_client() {
    (
        trap - INT
        exec "$quince" "$@" 2>&"$messages" {messages}>&-
    ) <&0 &
    client_pid=$!
    wait_for "$client_pid"
    client_pid=
}

mkdir -p data logs || exit 3
build
refuse_running_servers
refuse_taken_ports
if [[ $fresh == yes ]]; then
    for id in "${SERVERS[@]}"; do
        rm -rf -- "data/$id"
    done
fi

QUINCE_SERVERS=
for id in "${SERVERS[@]}"; do
    QUINCE_SERVERS+=${QUINCE_SERVERS:+,}$(client_address "$id")
done
export QUINCE_SERVERS

started=yes
exec 2>/dev/null
for id in "${SERVERS[@]}"; do
    : >"logs/server-$id.out"
    stop_if_asked
    start_server "$id"
done
wait_until_served

case $mode in
automated)
    run_client demo --pid-dir data --restart-with "kill -USR1 $$" \
        ${client_options[@]+"${client_options[@]}"} </dev/null
    exit "$status"
    ;;
interactive)
    if [[ -t 0 ]]; then
        saved_terminal=$(stty -g)
    fi
    # Ctrl-C belongs to the shell here.
    trap : INT
    run_client shell ${client_options[@]+"${client_options[@]}"}
    exit "$status"
    ;;
servers)
    processes=
    for id in "${SERVERS[@]}"; do
        processes+=${processes:+,}$id=${pids[id]}
    done
    say "five servers are up; Ctrl-C stops them. In another terminal:"
    printf '  export QUINCE_SERVERS=%s\n' "$QUINCE_SERVERS"
    printf '  %s status\n' "$quince"
    printf '  %s shell\n' "$quince"
    printf '  %s bench --kill-leader --pids %s\n' "$quince" "$processes"
    printf '  nc 127.0.0.1 %d\n' "$((port + 1))"
    printf '  redis-cli -p %d\n' "$((port + 1))"
    while :; do
        # Until a signal comes, or a server ends.
        wait -n
        stop_if_asked
        for id in "${SERVERS[@]}"; do
            if [[ -n ${pids[id]} ]] && ! alive "${pids[id]}"; then
                reap "$id"
                tell_end "$id" "$ended_status"
            fi
        done
        if [[ -z ${pids[*]//[[:space:]]/} ]]; then
            fail "no server is left"
        fi
    done
    ;;
esac
