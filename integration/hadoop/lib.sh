# Shared by the hdfs-* scripts. Inputs, all by environment:
#   HDFS_LAB        the folder that everything lives under (default .lab in the checkout)
#   HDFS_LIB        the jars (default ~/.cache/hdfs-lib-VERSION)
#   HDFS_BASE_PORT  first port (default 18000; N1 gets +100..199, N2 +200..299), or auto: a free block is picked once and kept
#   HDFS_DN_HOST    where DataNodes listen for data (127.0.0.1). On 127.0.0.2 the NameNode still names 127.0.0.1, so that a proxy can stand there
#   HDFS_NN_OPTS, HDFS_DN_OPTS  JVM flags; HDFS_CLI_OPTS for the shells
#   HDFS_HA         not empty: hdfs-up makes a pair of NameNodes, as with -H
HDFS_VERSION=$(sed -n 's:.*<hadoop.version>\(.*\)</hadoop.version>.*:\1:p' "$here/pom.xml")
HDFS_LAB=${HDFS_LAB:-$(cd "$here/../.." && pwd)/.lab}
case $HDFS_LAB in /*) ;; *) HDFS_LAB=$PWD/$HDFS_LAB ;; esac
HDFS_LIB=${HDFS_LIB:-$HOME/.cache/hdfs-lib-$HDFS_VERSION}
JVM_COMMON="--add-opens=java.base/java.lang=ALL-UNNAMED -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k -Djava.net.preferIPv4Stack=true -XX:-UsePerfData -Ddatanode.log=ERROR"
HDFS_NN_OPTS=${HDFS_NN_OPTS:--Xms64m -Xmx192m}
HDFS_DN_OPTS=${HDFS_DN_OPTS:--Xms32m -Xmx128m}
HDFS_CLI_OPTS=${HDFS_CLI_OPTS:--Xmx192m}
JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java

die() { echo "$*" >&2; exit 1; }
ms() { date +%s%3N; }

port_busy() { # is something listening on 127.0.0.1:$1 (or any address)?
  local h; h=$(printf ':%04X' "$1")
  grep -qE "^ *[0-9]+: [0-9A-F]+$h 0+:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

base_port() { # the block's first port, chosen once per lab
  local f=$HDFS_LAB/base-port b i busy
  mkdir -p "$HDFS_LAB"
  exec 8>"$HDFS_LAB/.port-lock"; flock 8
  if [ ! -s "$f" ]; then
    if [ "${HDFS_BASE_PORT:-18000}" = auto ]; then
      for _ in $(seq 50); do
        b=$((20000 + (RANDOM % 24) * 500)); busy=
        for i in $(seq 100 349); do port_busy $((b+i)) && { busy=1; break; }; done
        [ -z "$busy" ] && break
      done
      [ -z "$busy" ] || die "no free ports"
      echo $b > "$f"
    else echo "${HDFS_BASE_PORT:-18000}" > "$f"; fi
  fi
  exec 8>&-
  cat "$f"
}

# Sets DIR BASE NN_RPC NN_HTTP NN2_RPC NN2_HTTP for cluster $1 (N1..N9).
cluster() {
  [[ ${1:-} =~ ^N[1-9]$ ]] || die "no such cluster: ${1:-}: say N1..N9"
  C=$1; DIR=$HDFS_LAB/$C; BASE=$(( $(base_port) + 100 * ${C#N} ))
  NN_RPC=$BASE; NN_HTTP=$((BASE+1)); NN2_RPC=$((BASE+5)); NN2_HTTP=$((BASE+6))
}
# Was this cluster made with a pair of NameNodes, nn and nn2?
is_ha() { [ -e "$DIR/ha" ]; }
name_nodes() { echo nn; ! is_ha || echo nn2; }
nn_rpc() { case $1 in nn) echo "$NN_RPC" ;; nn2) echo "$NN2_RPC" ;; esac; }
nn_http() { case $1 in nn) echo "$NN_HTTP" ;; nn2) echo "$NN2_HTTP" ;; esac; }
# DataNode i of the cluster: its address is 127.0.0.1, its ports BASE+10i .. BASE+10i+2, its data under slaveI/CLUSTER,
# so one slave folder carries both clusters' DataNodes (overlapping clusters).
dn_dir() { echo "$HDFS_LAB/slave$1/$C"; }
dn_port() { echo $((BASE + 10*$1)); }

classpath() { echo "$DIR/conf:$HDFS_LIB/*"; }

# When a process began, by the kernel's clock; nothing for one that has ended. The number alone may be another's by now,
# also a thread's: a DataNode of hundreds of files uses up all there are within minutes.
began() {
  local s
  s=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  read -r -a s <<<"${s##*) }"
  [ "${s[0]}" = Z ] || echo "${s[19]}"
}
note() { echo "$1" >"$2"; began "$1" >"$2.began"; } # PID FILE
alive() { local b; [ -s "$1" ] && b=$(began "$(<"$1")") && [ -n "$b" ] && [ "$b" = "$(cat "$1.began" 2>/dev/null)" ]; }

# Which of a pair it is: both have the same host, so that the NameNode cannot tell by its address.
nn_id() { ! is_ha || echo "-Ddfs.ha.namenode.id=$1"; }
# A process group for each daemon: what ends a script's group leaves it alone. Not a session: with the kernel's autogroups
# (kernel.sched_autogroup_enabled) each session has the same share of the processors, however much its threads have to do.
set -m
start_nn() { # nn or nn2
  local w=$1
  alive "$DIR/$w.pid" && return 0
  # shellcheck disable=SC2046,SC2086
  $JAVA $JVM_COMMON $HDFS_NN_OPTS -Dproc=$C-$w -cp "$(classpath)" \
    org.apache.hadoop.hdfs.server.namenode.NameNode $(nn_id "$w") >>"$DIR/$w.log" 2>&1 </dev/null 9>&- 8>&- & note $! "$DIR/$w.pid"
}
# Hundreds of a DataNode's threads want the processors at once when another one dies. They have machines of their own
# elsewhere: here they let those go first that would not share them, the NameNode and what is tested.
start_dn() { # i
  local i=$1 d p; d=$(dn_dir "$i"); p=$(dn_port "$i"); mkdir -p "$d"
  alive "$d/dn.pid" && return 0
  # shellcheck disable=SC2086
  nice -n 10 $JAVA $JVM_COMMON $HDFS_DN_OPTS -Dproc=$C-dn$i -cp "$(classpath)" \
    org.apache.hadoop.hdfs.server.datanode.DataNode \
    -Ddfs.datanode.data.dir="file://$d/data" -Ddfs.datanode.hostname=127.0.0.1 \
    -Ddfs.datanode.address=${HDFS_DN_HOST:-127.0.0.1}:$p -Ddfs.datanode.http.address=127.0.0.1:$((p+1)) \
    -Ddfs.datanode.ipc.address=127.0.0.1:$((p+2)) >>"$d/dn.log" 2>&1 </dev/null 9>&- 8>&- & note $! "$d/dn.pid"
}

jmx() { curl -s -m 2 "http://127.0.0.1:$(nn_http "$1")/jmx?qry=Hadoop:service=NameNode,name=$2"; } # nn|nn2 bean
# "Operational N" or "safeMode N", N live DataNodes; empty while the NameNode does not answer.
nn_state() { jmx "$1" FSNamesystemState | sed -n 's/.*"FSState" : "\(.*\)".*/\1/p; s/.*"NumLiveDataNodes" : \([0-9]*\).*/\1/p' | paste -sd' '; }
# active or standby; empty while the NameNode does not answer.
nn_role() { jmx "$1" NameNodeStatus | sed -n 's/.*"State" : "\(.*\)".*/\1/p'; }
# Are $1 or more of this cluster's DataNodes in service, and all that run? Their own word: a NameNode counts a dead one as live for a while.
dns_running() {
  local f i n=0
  for f in "$HDFS_LAB"/slave*/"$C"/dn.pid; do
    alive "$f" || continue
    i=${f#"$HDFS_LAB"/slave}; i=${i%%/*}
    curl -s -m 2 "http://127.0.0.1:$(( $(dn_port "$i") + 1 ))/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo" | grep 'ActorState.....RUNNING' >/dev/null || return 1
    n=$((n+1))
  done
  [ $n -ge "$1" ]
}
wait_ready() { # nn|nn2 live-datanodes-wanted seconds
  local end=$(( $(date +%s) + $3 )) s
  while :; do
    s=$(nn_state "$1" || true)
    [ "${s% *}" = Operational ] && [ "${s#* }" -ge "$2" ] && dns_running "$2" && return 0
    alive "$DIR/$1.pid" || { tail -5 "$DIR/$1.log" >&2; die "$C: the NameNode died"; }
    [ "$(date +%s)" -lt $end ] || { die "$C: not ready in $3 s: '$s', see $DIR/$1.log"; }
    sleep 0.1
  done
}
# Makes nn the active one of a pair, unless one is: both start as standbys.
make_active() { # seconds
  local end=$(( $(date +%s) + $1 )) roles w
  while :; do
    roles="$(nn_role nn || true) $(nn_role nn2 || true)"
    case $roles in
      *active*) return 0 ;;
      "standby standby") "$here/hdfs-cli" "$C" haadmin -transitionToActive nn >"$DIR/haadmin.log" 2>&1 || true ;;
    esac
    for w in $(name_nodes); do alive "$DIR/$w.pid" || { tail -5 "$DIR/$w.log" >&2; die "$C: the NameNode $w died"; }; done
    [ "$(date +%s)" -lt $end ] || die "$C: no active NameNode in $1 s, see $DIR/haadmin.log"
    sleep 0.1
  done
}
