# shellcheck shell=sh
# servers.sh - a private PostgreSQL and a private Redis on unix sockets in one directory. Source it
# (sh or bash). Every function takes that DIR first and is silent unless it fails.
#
#   cm_servers_start DIR          both; exports CM_TEST_PG_URI, CM_TEST_REDIS_URI and
#                                 CM_TEST_SERVERS_DIR
#   cm_servers_stop DIR           both; safe to call twice, and for a DIR where nothing was started
#   cm_pg_start DIR               start (or start again on the same data), wait until it is ready
#   cm_pg_stop DIR [MODE]         MODE fast (default), immediate, smart, kill (SIGKILL to all of it)
#   cm_pg_restart DIR [MODE]
#   cm_redis_start DIR            start (or start again on the same data), wait for PONG
#   cm_redis_stop DIR [SIGNAL]    SIGNAL TERM (default) or KILL
#
# Environment:
#   PG_EXTRA           more lines for postgresql.conf, read when DIR is first initialised
#   REDIS_EXTRA        more lines for redis.conf, likewise
#   CM_SERVERS_FSYNC   on | off (default off: unit tests ask for speed, fault tests for the truth)
#   CM_SERVERS_WAIT_S  seconds to wait for a server to start or stop (default 60)
#   CM_PG_BINDIR       where initdb and pg_ctl are (default: Debian's 15, its newest, then PATH)
# DIR must be short: PostgreSQL's socket name takes 14 of the 107 bytes that a socket path may have.
# PostgreSQL refuses to run as root, so for root both servers and DIR go to user postgres or nobody.

cm_servers_fail()
{
    echo "servers.sh: $*" >&2
    return 1
}

cm_servers_bindir()
{
    if [ -n "${CM_PG_BINDIR:-}" ]; then
        echo "$CM_PG_BINDIR"
        return
    fi
    for cm_dir in /usr/lib/postgresql/15/bin $(ls -rvd /usr/lib/postgresql/*/bin 2>/dev/null); do
        if [ -x "$cm_dir/pg_ctl" ]; then
            echo "$cm_dir"
            return
        fi
    done
    cm_dir=$(command -v pg_ctl) && dirname "$(readlink -f "$cm_dir")"
}

cm_servers_user()
{
    if [ "$(id -u)" -ne 0 ]; then
        id -un
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# Run a command as the servers' user, in a directory that this user can read.
cm_servers_run()
{
    if [ "$(id -u)" -ne 0 ]; then
        "$@"
    else
        (cd / && exec setpriv --reuid="$(cm_servers_user)" \
            --regid="$(id -g "$(cm_servers_user)")" --clear-groups -- "$@")
    fi
}

# True while PID runs; a zombie that its parent has not reaped does not.
cm_servers_alive()
{
    [ -n "$1" ] && kill -0 "$1" 2>/dev/null &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# cm_servers_await WHAT COMMAND...: until COMMAND succeeds or the deadline is over.
cm_servers_await()
{
    cm_what=$1
    shift
    cm_deadline=$(($(date +%s) + ${CM_SERVERS_WAIT_S:-60}))
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$cm_deadline" ]; then
            cm_servers_fail "$cm_what: gave up after ${CM_SERVERS_WAIT_S:-60} s"
            return 1
        fi
        sleep 0.02
    done
}

cm_servers_gone()
{
    for cm_pid in "$@"; do
        if cm_servers_alive "$cm_pid"; then
            return 1
        fi
    done
}

# ---- PostgreSQL ------------------------------------------------------------------------------

cm_pg_init()
{
    cm_servers_run "$(cm_servers_bindir)/initdb" --no-sync -A trust -U postgres --locale=C -E UTF8 \
        -D "$1/pg" >"$1/initdb.log" 2>&1 || {
        cat "$1/initdb.log" >&2
        cm_servers_fail "initdb failed in $1"
        return 1
    }
    cat >>"$1/pg/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$1'
max_connections = 100
max_locks_per_transaction = 256
fsync = ${CM_SERVERS_FSYNC:-off}
full_page_writes = ${CM_SERVERS_FSYNC:-off}
shared_buffers = 64MB
max_wal_size = 4GB
logging_collector = off
${PG_EXTRA:-}
END
}

cm_pg_start()
{
    if [ ! -f "$1/pg/PG_VERSION" ]; then
        cm_pg_init "$1" || return 1
    fi
    cm_servers_run "$(cm_servers_bindir)/pg_ctl" -D "$1/pg" -l "$1/pg.log" -w \
        -t "${CM_SERVERS_WAIT_S:-60}" start >/dev/null 2>&1 </dev/null || {
        tail -n 20 "$1/pg.log" >&2
        cm_servers_fail "postgresql does not start in $1"
        return 1
    }
}

cm_pg_kill()
{
    cm_pids="$1 $(ps -o pid= --ppid "$1")"
    # shellcheck disable=SC2086 # a list of numbers
    kill -9 $cm_pids 2>/dev/null
    # shellcheck disable=SC2086
    cm_servers_await "postgresql killed" cm_servers_gone $cm_pids
}

cm_pg_stop()
{
    [ -f "$1/pg/postmaster.pid" ] || return 0
    cm_pid_pg=$(head -n 1 "$1/pg/postmaster.pid")
    if ! cm_servers_alive "$cm_pid_pg"; then
        rm -f "$1/pg/postmaster.pid"
    elif [ "${2:-fast}" = kill ]; then
        # A killed postmaster can stay a zombie, which the next one would take for a live owner.
        cm_pg_kill "$cm_pid_pg" && rm -f "$1/pg/postmaster.pid" "$1"/.s.PGSQL.*
    else
        cm_servers_run "$(cm_servers_bindir)/pg_ctl" -D "$1/pg" -m "${2:-fast}" -w \
            -t "${CM_SERVERS_WAIT_S:-60}" stop >/dev/null 2>&1 ||
            cm_servers_fail "postgresql does not stop in $1"
    fi
}

cm_pg_restart()
{
    cm_pg_stop "$1" "${2:-fast}" && cm_pg_start "$1"
}

# ---- Redis -----------------------------------------------------------------------------------

cm_redis_init()
{
    cat >"$1/redis.conf" <<END
port 0
unixsocket $1/redis.sock
unixsocketperm 777
dir $1
pidfile $1/redis.pid
logfile $1/redis.log
daemonize yes
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
${REDIS_EXTRA:-}
END
}

cm_redis_ponged()
{
    [ "$(redis-cli -s "$1/redis.sock" ping 2>/dev/null)" = PONG ]
}

cm_redis_start()
{
    [ -f "$1/redis.conf" ] || cm_redis_init "$1"
    if ! cm_servers_run redis-server "$1/redis.conf" >/dev/null 2>&1 </dev/null ||
        ! cm_servers_await "redis" cm_redis_ponged "$1"; then
        tail -n 20 "$1/redis.log" >&2
        cm_servers_fail "redis does not start in $1"
        return 1
    fi
}

cm_redis_stop()
{
    [ -f "$1/redis.pid" ] || return 0
    cm_pid_redis=$(cat "$1/redis.pid")
    if cm_servers_alive "$cm_pid_redis"; then
        kill -"${2:-TERM}" "$cm_pid_redis"
        cm_servers_await "redis stopped" cm_servers_gone "$cm_pid_redis" || return 1
    fi
    rm -f "$1/redis.pid" "$1/redis.sock"
}

# ---- both ------------------------------------------------------------------------------------

cm_servers_start()
{
    if [ "${#1}" -gt 93 ]; then
        cm_servers_fail "$1 is too long for a unix socket"
        return 1
    fi
    mkdir -p "$1" || return 1
    if [ "$(id -u)" -eq 0 ]; then
        chown "$(cm_servers_user)" "$1" && chmod 755 "$1" || return 1
    fi
    if ! cm_pg_start "$1" || ! cm_redis_start "$1"; then
        cm_servers_stop "$1"
        return 1
    fi
    CM_TEST_SERVERS_DIR=$1
    CM_TEST_PG_URI="postgresql:///postgres?host=$1&user=postgres"
    CM_TEST_REDIS_URI="unix://$1/redis.sock"
    export CM_TEST_SERVERS_DIR CM_TEST_PG_URI CM_TEST_REDIS_URI
}

cm_servers_stop()
{
    cm_stopped=0
    cm_redis_stop "$1" || cm_stopped=1
    cm_pg_stop "$1" || cm_stopped=1
    return $cm_stopped
}
