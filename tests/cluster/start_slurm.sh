#!/usr/bin/env bash
# A Slurm cluster of several virtual nodes on this one machine, for tests: munged, slurmctld and one slurmd per node, without
# accounting. All state lies in one folder; only loopback is used. Needs root and Debian's or Ubuntu's packages.
#
#   start_slurm.sh install   those packages (half a minute)
#   start_slurm.sh start     again: starts what is missing
#   start_slurm.sh status    nodes and jobs
#   start_slurm.sh stop      cancels what runs and ends what was started, by process number
#   start_slurm.sh kill NAME [SIGNAL]   one daemon, slurmctld or slurmd-c2 say, by KILL or another signal; `start` brings it back
#
# Environment: SLURM_TEST_DIR (/tmp/slurm_cluster), NODES (2), NODE_CPUS (the machine's), NODE_MEMORY (6000 MB), NODE_TIMEOUT
# (60 s, after which a node that does not answer is down).
set -euo pipefail

dir=${SLURM_TEST_DIR:-/tmp/slurm_cluster}
nodes=${NODES:-2}
cpus=${NODE_CPUS:-$(nproc)}
memory=${NODE_MEMORY:-6000}
timeout=${NODE_TIMEOUT:-60}
host=$(hostname -s)
# Where every command looks by itself. By SLURM_CONF would do for Slurm, not for Snakemake: slurm-jobstep (0.6.1) takes all
# SLURM_* variables but a few from the environment of its srun.
default_conf=/etc/slurm/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

note() { echo "slurm-test: $*" >&2; }
fail() { note "$@"; exit 1; }

# pid file -> is that very process alive (its command name is checked: numbers are used again)
alive() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) && [[ "$(cat "/proc/$pid/comm" 2>/dev/null)" == "$2"* ]]
}

# The daemons, in the order in which they end: pid file, command name.
daemons() {
    local name
    for name in $(names); do echo "slurmd-$name slurmd"; done
    echo "slurmctld slurmctld"
    echo "munge/munged munged"
}

end() {  # the signal; pid file, command name: those that live, together
    local signal=$1 file command pid pids=()
    shift
    while (($#)); do
        file=$1 command=$2
        shift 2
        if alive "$file" "$command"; then pids+=("$(cat "$dir/$file.pid")"); fi
    done
    for pid in "${pids[@]}"; do kill "-$signal" "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do
        for _ in {1..100}; do [[ -d /proc/$pid ]] || continue 2; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

wait_for() {  # seconds, description, command...
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < limit)) || fail "$what: not there in time; see $dir/log"
        sleep 0.2
    done
}

installed() {
    local command
    for command in slurmctld slurmd sbatch munged; do command -v "$command" >/dev/null || return 1; done
}

install() {
    installed && return
    ((EUID == 0)) || fail "Slurm is not installed and only root may: as root, $0 install"
    command -v apt-get >/dev/null || fail "Slurm is not installed, and there is no apt-get: install slurm-wlm and munge yourself"
    # Debian would start services as it installs; a container refuses, and ours are another's configuration anyway.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null; } ||
        fail "Slurm is not installed, and apt-get could not install slurm-wlm and munge (above)"
}

configure() {
    mkdir -p "$dir"/{log,state,spool,munge}
    chmod 755 "$dir"
    [[ -f $dir/munge/key ]] || (umask 077; head -c 1024 /dev/urandom >"$dir/munge/key")
    chmod 700 "$dir/munge"
    cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
# No cgroups: not every container gives them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
# What cgroups would do at once, polling does within a second or two.
JobAcctGatherParams=OverMemoryKill,UsePss
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
MpiDefault=none
# A job that no node can run is refused at once; without this it waits for ever.
EnforcePartLimits=ALL
ReturnToService=2
# A test run under nice stays so.
PropagatePrioProcess=1
KillWait=5
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=$timeout
AccountingStorageType=accounting_storage/none
NodeName=c[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-$((17000 + nodes))] CPUs=$cpus RealMemory=$memory Feature=cpu State=UNKNOWN
PartitionName=cpu Nodes=c[1-$nodes] Default=YES MaxTime=2:00:00 DefaultTime=30 DefMemPerCPU=1000 State=UP OverSubscribe=NO
CONF
}

all_idle() { [[ -z "$(sinfo -h -N -o '%T' | grep -vE '^(idle|mixed|allocated)$')" && -n "$(sinfo -h)" ]]; }

start() {
    ((EUID == 0)) || fail "its nodes start jobs as root alone does: run this as root"
    [[ ! -e $default_conf || "$(readlink "$default_conf")" == "$dir/slurm.conf" ]] || fail "$default_conf: another cluster's"
    if ! alive slurmctld slurmctld; then configure; fi
    mkdir -p "${default_conf%/*}"
    ln -sfn "$dir/slurm.conf" "$default_conf"
    local name
    if ! alive munge/munged munged; then
        munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/munged.pid" \
            --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed"
    fi
    wait_for 10 munge munge -n -S "$dir/munge/socket"
    # Their output goes to their log files: a pipe kept open would keep a caller waiting.
    alive slurmctld slurmctld || slurmctld >/dev/null 2>&1 </dev/null
    wait_for 30 slurmctld scontrol ping
    for name in $(names); do
        mkdir -p "$dir/spool/$name"
        alive "slurmd-$name" slurmd || slurmd -N "$name" >/dev/null 2>&1 </dev/null
    done
    wait_for 30 "the nodes" all_idle
}

names() {
    local i
    for ((i = 1; i <= nodes; i++)); do echo "c$i"; done
}

stop() {
    if alive slurmctld slurmctld; then
        scancel --me >/dev/null 2>&1 || true
        for _ in {1..100}; do [[ -z "$(squeue -h 2>/dev/null)" ]] && break; sleep 0.1; done
    fi
    # shellcheck disable=SC2046
    end TERM $(daemons)
    [[ "$(readlink "$default_conf")" != "$dir/slurm.conf" ]] || rm -f "$default_conf"
}

case ${1:-} in
    install) install ;;
    start) start ;;
    status) sinfo -N -o '%N %T %c %m %G %f'; squeue ;;
    stop) stop ;;
    kill) end "${3:-KILL}" "$2" "${2%%-*}" ;;
    *) sed -n '2,13p' "$0"; exit 2 ;;
esac
