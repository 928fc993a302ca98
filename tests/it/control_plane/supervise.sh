# Runs etcd and kube-apiserver for as long as the test process runs. When the test process ends, for any reason, standard
# input is closed and this script ends. Each line of standard input is a command; it is echoed when it is done.
#
# Environment: BIN (folder of the binaries), DIR (keys, logs, data; removed at the end), PORT.
trap '' HUP INT TERM

# etcd requires advertised URLs with a host and a port. Nothing connects to these.
"$BIN/etcd" --data-dir "$DIR/etcd" --unsafe-no-fsync --log-level error \
  --listen-client-urls "unix://$DIR/etcd.sock" --advertise-client-urls http://localhost:1 \
  --listen-peer-urls "unix://$DIR/peer.sock" --initial-advertise-peer-urls http://localhost:1 \
  --initial-cluster default=http://localhost:1 >"$DIR/etcd.log" 2>&1 &
etcd=$!

start() {
  "$BIN/kube-apiserver" --etcd-servers "unix://$DIR/etcd.sock" --bind-address 127.0.0.1 --secure-port "$PORT" \
    --tls-cert-file "$DIR/tls.crt" --tls-private-key-file "$DIR/tls.key" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$DIR/accounts.pub" \
    --service-account-signing-key-file "$DIR/accounts.key" --token-auth-file "$DIR/tokens.csv" \
    --authorization-mode RBAC --service-cluster-ip-range 10.96.0.0/16 \
    --audit-policy-file "$DIR/audit-policy.yaml" --audit-log-path "$DIR/audit.log" --audit-log-mode blocking \
    --endpoint-reconciler-type none >>"$DIR/apiserver.log" 2>&1 &
  apiserver=$!
}

start
while read -r command; do
  case $command in
    stop) kill -KILL "$apiserver" && wait "$apiserver" ;;
    start) start ;;
    freeze)
      kill -STOP "$apiserver"
      # Its threads stop one after the other, each when it gets a core.
      while grep -q '^State:.[^T]' "/proc/$apiserver/task/"*/status; do sleep 0.01; done
      ;;
    thaw) kill -CONT "$apiserver" ;;
  esac
  echo "$command"
done 2>/dev/null

kill -KILL "$apiserver" "$etcd"
wait
rm -rf "$DIR"
