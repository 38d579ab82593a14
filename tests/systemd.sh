#!/usr/bin/env bash
# The service under a real systemd: boots this machine's own one in a container, installs the service there, and looks
# whether it does what the units say. Prints a line for each step, with how long it took; ends with 1 at the first that is
# missed, with what systemd and the agent say.
#
#   tests/systemd.sh [PROGRAM [PACKAGE]]        by default target/debug/dstor-sync, and no package
#
# With a Debian package, that is installed in the container as well, its own unit started, watched, killed and hung, and the
# package removed again.
#
# Needs to be root, systemd, and systemd-nspawn (Debian: systemd-container). The machine's /usr is shown read-only, all else
# lies in memory and is gone afterwards; its network is its own. Takes about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(realpath "${1:-target/debug/dstor-sync}")
[ -x "$program" ] || { echo "there is no $program; cargo build makes it" >&2; exit 1; }
package=${2:+$(realpath "$2")}
[ "$(id -u)" = 0 ] || { echo "only root can boot a container" >&2; exit 1; }
command -v systemd-nspawn >/dev/null || { echo "there is no systemd-nspawn; Debian has it in systemd-container" >&2; exit 1; }

work=$(mktemp -d)
mkdir "$work/bin"
cp "$program" "$work/bin/dstor-sync"
nspawn='' init=''
trap 'stop_machine; rm -rf "$work"' EXIT

stop_machine() {
  [ -z "$nspawn" ] || { kill -TERM "$nspawn" && wait "$nspawn"; } 2>/dev/null || true
}

# Whether a pipe has such a line. Reads it to its end: whoever writes must not find it closed.
has() { grep "$@" >/dev/null; }
now() { date +%s.%N; }
begun=$(now)
ok() {
  printf 'ok  %6.2f s  %s\n' "$(echo "$(now) - $begun" | bc)" "$*"
  begun=$(now)
}
miss() {
  printf 'MISSED       %s\n' "$*"
  [ -z "$init" ] || {
    inside systemctl --no-pager status "$unit" || true
    inside journalctl --no-pager -n 60 || true
  }
  exit 1
}

inside() { nsenter -t "$init" -m -u -i -n -p env -i PATH=/opt/dstor-sync:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
trap 'miss "line $LINENO: $BASH_COMMAND"' ERR
# Waits until a command says yes; WHAT, the longest in seconds, the command.
until_so() {
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || miss "$what"
    sleep 0.2
  done
}
property() { inside systemctl show --value --property="$2" "$1"; }
journal() { inside journalctl --sync && inside journalctl -u "$unit" "$@"; }
says() { property "$unit" StatusText | has "$1"; }
restarts() { property "$unit" NRestarts; }
# The process of the service, and never 0: that would be this script.
main_pid() {
  local pid
  pid=$(property "$unit" MainPID)
  [ "$pid" -gt 1 ] || return 1
  echo "$pid"
}
is_at_work() { [ "$(property "$unit" ActiveState)" = active ] && main_pid >/dev/null && says 'in sync'; }
state_of() { inside dstor-sync --state-dir /var/lib/dstor-sync/alice "$@"; }
is_stored() { state_of ls --json "$1" | has '"state":"stored"'; }
as_alice() { inside runuser -u alice -- env HOME=/home/alice XDG_RUNTIME_DIR=/run/user/4711 "$@"; }

# --- the units by themselves
for kind in system user; do
  case $kind in
    system) file='dstor-sync@daemon.service' from='packaging/systemd/dstor-sync@.service' ;;
    user) file='dstor-sync.service' from='packaging/systemd/dstor-sync.service' ;;
  esac
  sed "s#/usr/bin/dstor-sync#$work/bin/dstor-sync#" "$from" >"$work/$file"
  XDG_RUNTIME_DIR=$work systemd-analyze "--$kind" verify --man=no --recursive-errors=no "$work/$file" || miss "verify $kind"
done
ok 'systemd-analyze verify has no complaint about either unit'
exposure=$(systemd-analyze security --offline=yes --threshold=20 --no-pager "$work/dstor-sync@daemon.service" | tail -1) ||
  miss "exposure above 2.0: $exposure"
ok "exposure of the unit of the machine, at most 2.0: $(grep -o '[0-9]*\.[0-9]' <<<"$exposure")"

# --- boot
masks=()
for service in systemd-firstboot systemd-networkd systemd-resolved systemd-timesyncd postgresql sysstat cron; do
  masks+=("--bind-ro=/dev/null:/etc/systemd/system/$service.service")
done
for directory in /etc/pam.d /etc/security /etc/ssl /etc/ca-certificates; do
  [ ! -d "$directory" ] || masks+=("--bind-ro=$directory")
done
if [ -n "$package" ]; then
  # What is installed goes over /usr, into memory; what is installed already, the container's own dpkg knows from here.
  masks+=(--overlay=+/usr::/usr --bind-ro="$package":/opt/package.deb --bind-ro=/var/lib/dpkg:/opt/dpkg)
fi
systemd-nspawn -q -D / --volatile=yes --boot --register=no --keep-unit --private-network --console=pipe "${masks[@]}" \
  --bind-ro="$work/bin":/opt/dstor-sync </dev/null >"$work/console" 2>&1 &
nspawn=$!
unit='dstor-sync@alice.service'
find_init() { init=$(pgrep -P $nspawn | tail -1); [ -n "$init" ] && [ "$(cat "/proc/$init/comm")" = systemd ]; }
find_init_now() { find_init && inside systemctl is-system-running --wait | has -E 'running|degraded'; }
end=$((SECONDS + 60))
until find_init_now >/dev/null 2>&1; do
  [ $SECONDS -lt $end ] || { cat "$work/console"; init=''; miss 'the container does not boot'; }
  sleep 0.2
done
ok "booted: $(inside systemctl --version | head -1)"

# --- a dStor and a user with files
inside systemd-run --quiet --unit=sandbox dstor-sync sandbox --listen 127.0.0.1:4747 --store /var/lib/sandbox
until_so 'the sandbox starts' 20 inside test -s /var/lib/sandbox/api-key
inside sh -ec '
  echo "alice:x:4711:4711::/home/alice:/bin/sh" >>/etc/passwd
  echo "alice:x:4711:" >>/etc/group
  echo "alice:*:20000::::::" >>/etc/shadow
  mkdir -p /home/alice/Documents /etc/dstor-sync/alice /etc/credstore
  chown -R 4711:4711 /home/alice
  chmod 0700 /home/alice
  install -m 0600 /var/lib/sandbox/api-key /etc/credstore/dstor-sync.alice
  printf "[dstor]\nurl = \"http://127.0.0.1:4747\"\n[[mirror]]\npath = \"~/Documents\"\nremote = \"Documents\"\n[watch]\nsettle = \"100ms\"\n" \
    >/etc/dstor-sync/alice/config.toml
  runuser -u alice -- sh -c "umask 077; echo one >~/Documents/one"'
ok 'a sandbox runs, and a user has a file that nobody else may read'

# --- install, read, tell
inside dstor-sync service install --system --user alice --now >"$work/said" || { cat "$work/said"; miss 'service install'; }
ok "installed: $(tr '\n' ' ' <"$work/said")"
until_so 'it reads the mirror and stores the file' 30 is_stored /home/alice/Documents/one
until_so 'systemctl shows the line of status' 30 is_at_work
inside systemctl --no-pager status "$unit" | has 'Status: "in sync"' || miss 'systemctl status shows no status line'
ok "stored a file of a home that is closed to others; Status: \"$(property "$unit" StatusText)\""
inside systemctl --no-pager show -p User,ProtectHome,LimitCORE "$unit" | tr '\n' ' ' >"$work/props"
inside sh -c "grep -q '^CapEff:\s*0000000000000000' /proc/$(main_pid)/status" || miss 'it has capabilities'
inside nsenter -t "$(main_pid)" -m sh -c '! touch /home/alice/Documents/written 2>/dev/null' || miss 'it could write into the mirror'
ok "no capability, and the mirror is read-only to it: $(cat "$work/props")"
inside journalctl --sync
journal -o json | grep '"DSTOR_PATH":"one"' | has '"DSTOR_BYTES":"4"' || miss 'no fields in the journal'
entry=$(journal -o json | grep '"DSTOR_PATH":"one"' | tail -1)
grep -q '"PRIORITY":"6"' <<<"$entry" && grep -q '"_TRANSPORT":"journal"' <<<"$entry" || miss "fields: $entry"
[ "$(journal -o cat | grep -c '^stored ')" = 1 ] || miss 'a line is in the journal twice'
ok "journal, once, with fields: $(journal -o cat | grep '^stored ' | cut -c1-60)"

# --- killed, stopped, and started again and again
short() {
  inside mkdir -p "/etc/systemd/system/dstor-sync@.service.d"
  inside sh -c "printf '[Service]\nWatchdogSec=2s\nRestartSec=100ms\n' >/etc/systemd/system/dstor-sync@.service.d/short.conf"
  inside systemctl daemon-reload
  inside systemctl restart "$unit"
}
short
until_so 'it runs with shorter times' 30 is_at_work
old=$(main_pid) before=$(restarts)
inside kill -KILL "$old"
end=$((SECONDS + 30))
until is_at_work && new=$(main_pid) && [ "$new" != "$old" ]; do [ $SECONDS -lt $end ] || miss 'it comes back after kill -9'; sleep 0.2; done
inside runuser -u alice -- sh -c 'echo two >~/Documents/two'
until_so 'it stores what is saved after that' 30 is_stored /home/alice/Documents/two
ok "kill -9: process $old, then $(main_pid); restarts $(restarts)"
sleep 6
[ "$(restarts)" = "$((before + 1))" ] || miss "an agent at rest was restarted: $(restarts) restarts"
ok 'at rest for three times WatchdogSec, and not restarted'
old=$(main_pid)
inside kill -STOP "$old"
end=$((SECONDS + 30))
until is_at_work && new=$(main_pid) && [ "$new" != "$old" ]; do [ $SECONDS -lt $end ] || miss 'the watchdog starts it again'; sleep 0.2; done
journal | has 'Watchdog timeout' || miss 'it was not the watchdog'
ok "kill -STOP: the watchdog ended process $old; now $(main_pid)"

# --- another configuration
old=$(main_pid)
inside runuser -u alice -- sh -c 'mkdir ~/Pictures; echo three >~/Pictures/three'
inside sh -c 'printf "[[mirror]]\npath = \"~/Pictures\"\nremote = \"Pictures\"\n" >>/etc/dstor-sync/alice/config.toml'
inside systemctl reload "$unit"
until_so 'the new mirror is stored' 30 is_stored /home/alice/Pictures/three
until_so 'it is at work after the reload' 30 is_at_work
[ "$(main_pid)" = "$old" ] || miss 'a reload is another process'
ok "reload: another mirror, in the same process $old"
inside sed -i 's/settle/settel/' /etc/dstor-sync/alice/config.toml
inside systemctl reload "$unit"
until_so 'it says that the configuration is bad' 30 says 'needs you: the new configuration cannot be used'
[ "$(main_pid)" = "$old" ] || miss 'a bad configuration ended it'
ok "reload, a bad one: \"$(property "$unit" StatusText | cut -c1-80)\""

# --- what no restart mends, and too many of them
before=$(restarts)
inside systemctl restart "$unit" 2>/dev/null && miss 'a bad configuration starts'
sleep 2
[ "$(property "$unit" ActiveState)" = failed ] && [ "$(property "$unit" ExecMainStatus)" = 78 ] || miss 'exit status 78'
ok "a start with a bad configuration: status $(property "$unit" ExecMainStatus), not restarted"
inside sed -i 's/settel/settle/' /etc/dstor-sync/alice/config.toml
inside systemctl reset-failed "$unit"
inside systemctl start "$unit"
kills=0
while [ "$(property "$unit" ActiveState)" != failed ]; do
  [ $kills -lt 12 ] || miss 'it is restarted without end'
  pid=$(main_pid) && inside kill -KILL "$pid" 2>/dev/null && kills=$((kills + 1))
  sleep 0.7
done
[ "$kills" -ge 3 ] || miss "given up after $kills kills"
journal | has 'Start request repeated too quickly' || miss 'it was not the limit'
ok "a crash loop: systemd gives up after $kills kills"

# --- in order
inside systemctl reset-failed "$unit"
inside rm -r /etc/systemd/system/dstor-sync@.service.d
inside systemctl daemon-reload
inside systemctl start "$unit"
until_so 'it runs once more' 30 is_at_work
inside dstor-sync service stop --system --user alice >/dev/null
[ "$(property "$unit" Result)" = success ] || miss "stopped: $(property "$unit" Result)"
{ state_of status --json || true; } | has '"state": "stopped"' || miss 'the ledger does not say stopped'
ok 'stopped in order: result success, the ledger says stopped'
inside sh -c 'echo "# mine" >>/etc/systemd/system/dstor-sync@.service'
inside dstor-sync service install --system --user alice >"$work/said" 2>&1 && miss 'an edited unit was replaced'
inside dstor-sync service uninstall --system --user alice --force >"$work/said"
inside test ! -e /etc/systemd/system/dstor-sync@.service || miss 'the unit is still there'
inside test -s /var/lib/dstor-sync/alice/ledger.db -a -s /etc/dstor-sync/alice/config.toml || miss 'more than the unit is gone'
ok 'an edited unit is kept until --force; uninstall leaves configuration and ledger'

# --- a user's own
unit='dstor-sync.service'
inside systemctl start user@4711.service
inside sh -ec '
  runuser -u alice -- mkdir -p /home/alice/.config/dstor-sync
  install -o alice -g alice -m 0600 /var/lib/sandbox/api-key /home/alice/.config/dstor-sync/api-key
  install -o alice -g alice -m 0600 /etc/dstor-sync/alice/config.toml /home/alice/.config/dstor-sync/config.toml
  sed -i "s#^url#api_key_file = \"~/.config/dstor-sync/api-key\"\nurl#" /home/alice/.config/dstor-sync/config.toml'
as_alice dstor-sync service install --now >"$work/said" 2>&1 || { cat "$work/said"; miss 'service install for a user'; }
grep -q 'it ends when you log out' "$work/said" || { cat "$work/said"; miss 'nothing is said about linger'; }
as_alice dstor-sync wait --timeout 30s || miss 'the user service stores nothing'
is_running() { as_alice dstor-sync service status >"$work/said" && grep -q 'says  *in sync' "$work/said"; }
until_so 'service status tells of it' 20 is_running
inside loginctl enable-linger alice
as_alice dstor-sync service install >"$work/said" 2>&1
! grep -q 'log out' "$work/said" || miss 'linger is on, and it is said to be off'
ok "a user's own: $(tr '\n' ' ' <"$work/said")"
as_alice dstor-sync service uninstall >/dev/null
if as_alice dstor-sync service status >/dev/null; then miss 'it runs after uninstall'; else [ $? = 3 ] || miss 'status of none'; fi
ok 'uninstalled: service status ends with 3'

# --- the package
if [ -n "$package" ]; then
  unit='dstor-sync@alice.service'
  inside mkdir -p /var/lib/dpkg
  inside cp -a /opt/dpkg/. /var/lib/dpkg/
  # Its groups are not those of this machine.
  inside rm -f /var/lib/dpkg/statoverride
  inside env DEBIAN_FRONTEND=noninteractive dpkg -i /opt/package.deb >"$work/said" 2>&1 || { cat "$work/said"; miss 'dpkg -i'; }
  inside systemctl daemon-reload
  found=$(property "$unit" FragmentPath)
  [[ $found = */lib/systemd/system/dstor-sync@.service ]] || miss "the unit of the package is not found, but $found"
  ok "installed the package: $(inside dpkg-query -W dstor-sync | tr '\t' ' '), $(inside /usr/bin/dstor-sync --version)"
  inside systemctl enable --now "$unit" >"$work/said" 2>&1 || { cat "$work/said"; miss 'enable --now'; }
  [ "$(inside readlink "/proc/$(main_pid)/exe")" = /usr/bin/dstor-sync ] || miss 'it is another program'
  inside runuser -u alice -- sh -c 'echo four >~/Documents/four'
  until_so 'it stores what is saved' 30 is_stored /home/alice/Documents/four
  until_so 'it is at work' 30 is_at_work
  inside systemctl --no-pager status "$unit" | has 'Status: "in sync"' || miss 'systemctl status shows no status line'
  journal -o json | grep '"DSTOR_PATH":"four"' | has '"DSTOR_BYTES":"5"' || miss 'no fields in the journal'
  ok 'enabled the unit of the package; it stores what is saved, and systemctl and the journal tell of it'
  short
  until_so 'it runs with shorter times' 30 is_at_work
  for blow in KILL STOP; do
    old=$(main_pid)
    inside kill "-$blow" "$old"
    end=$((SECONDS + 30))
    until is_at_work && new=$(main_pid) && [ "$new" != "$old" ]; do [ $SECONDS -lt $end ] || miss "it comes back after kill -$blow"; sleep 0.2; done
    ok "kill -$blow: process $old, then $(main_pid)"
  done
  inside systemctl disable --now "$unit" >"$work/said" 2>&1
  [ "$(property "$unit" Result)" = success ] || miss "stopped: $(property "$unit" Result)"
  inside dpkg -r dstor-sync >"$work/said" 2>&1 || { cat "$work/said"; miss 'dpkg -r'; }
  inside test ! -e /usr/bin/dstor-sync -a -s /var/lib/dstor-sync/alice/ledger.db || miss 'the package is not gone, or its ledger is'
  ok 'stopped in order, and removed the package; the ledger is where it was'
fi

inside systemctl poweroff || true
wait "$nspawn" || true
nspawn=''
ok 'all steps'
