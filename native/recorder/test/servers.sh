# The real servers of the recorder's tests: how each is started in an empty folder, loaded, and asked for its state.
# Sourced; BUILD is set. Where lighttpd is not installed, Debian's package is unpacked below it: installing it would start it.
find_lighttpd() {
  LIGHTTPD="$(command -v lighttpd || echo "$BUILD/servers/usr/sbin/lighttpd")"
  [ -e "$BUILD/servers" ] || [ -x "$LIGHTTPD" ] || (
    mkdir -p "$BUILD/servers" && cd "$BUILD/servers" && apt-get download lighttpd && dpkg -x lighttpd_*.deb .
  ) >/dev/null 2>&1
  "$LIGHTTPD" -v >/dev/null 2>&1 || LIGHTTPD=lighttpd # a library of its own is missing
}
[ -n "${LIGHTTPD:-}" ] || find_lighttpd
export LIGHTTPD
server_program() {
  case "$1" in
  redis*) echo redis-server;;
  memcached) echo memcached;;
  lighttpd) echo "$LIGHTTPD";;
  nginx-*) echo nginx;; # nginx-1 and nginx-2 have a master and so many workers; nginx-2-reload and nginx-2-loss get new ones under load
  esac
}
server_is_here() { command -v "$(server_program "$1")" >/dev/null; }
server_port() {
  case "$1" in
  redis*) echo 7401;;
  memcached) echo 7402;;
  lighttpd) echo 7403;;
  nginx-*) echo 7404;;
  esac
}
server_files() { # server folder
  case "$1" in lighttpd|nginx-*) ;; *) return 0;; esac
  mkdir -p "$2/www" "$2/parts"
  for n in $(seq 16); do yes "$n" | head -$((n * 400)) >"$2/www/$n.txt"; done
  cat >"$2/nginx.conf" <<CONF
daemon off; user root; worker_processes $(echo "$1" | cut -d- -f2); pid $2/nginx.pid; error_log stderr notice;
events { worker_connections 256; }
http {
  access_log off; keepalive_requests 1000000000; sendfile on; tcp_nodelay on;
  client_body_temp_path $2/parts; proxy_temp_path $2/parts; fastcgi_temp_path $2/parts;
  uwsgi_temp_path $2/parts; scgi_temp_path $2/parts;
  server { listen 127.0.0.1:$(server_port "$1"); root $2/www; }
}
CONF
  cat >"$2/lighttpd.conf" <<CONF
server.document-root = "$2/www"
server.port = $(server_port lighttpd)
server.bind = "127.0.0.1"
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 3600
mimetype.assign = ( ".txt" => "text/plain" )
CONF
}
server_command() { # server folder
  case "$1" in
  redis) echo "redis-server --port 7401 --save \"\" --appendonly no --enable-debug-command yes";;
  redis-aof) echo "redis-server --port 7401 --save \"\" --appendonly yes --appendfsync everysec --enable-debug-command yes";;
  redis-save) echo "redis-server --port 7401 --save \"\" --appendonly yes --appendfsync everysec --enable-debug-command yes --rdb-key-save-delay 20";;
  redis-always) echo "redis-server --port 7401 --save \"\" --appendonly yes --appendfsync always --enable-debug-command yes";;
  memcached) echo "memcached -t 4 -p 7402 -u root -l 127.0.0.1";;
  lighttpd) echo "$LIGHTTPD -D -f $2/lighttpd.conf";;
  nginx-*) echo "nginx -c $2/nginx.conf -e stderr";;
  esac
}
server_load() { # server recorder-load connections milliseconds seed
  local protocol="$1"
  case "$1" in redis*) protocol=redis;; lighttpd) protocol=http;; nginx-*) protocol=http-missing;; esac
  "$2" "$protocol" "$(server_port "$1")" "$3" "$4" "$5" &
  local load=$!
  # Children that write the whole state, one after the other, beside the load.
  while [ "$1" = redis-save ] && kill -0 $load 2>/dev/null; do
    timeout 2 redis-cli -p 7401 bgsave >/dev/null 2>&1; sleep 0.15
    timeout 2 redis-cli -p 7401 bgrewriteaof >/dev/null 2>&1; sleep 0.15
  done
  case "$1" in *-reload|*-loss) renew_workers "${1##*-}";; esac
  wait $load
}
renew_workers() { # reload|loss
  # In the test's container only: this machine may run others' nginx.
  local master; master="$(pgrep --ns "$INIT" --nslist pid -o -x nginx)"
  for _ in 1 2; do
    sleep 0.08
    case "$1" in
    reload) kill -HUP "$master";;
    loss) pkill -9 -o -P "$master";;
    esac
  done 2>/dev/null
}
# What makes a server do rarer things.
server_extra() {
  case "$1" in
  redis-aof) redis-cli -p 7401 bgsave >/dev/null; sleep 0.3; redis-cli -p 7401 bgrewriteaof >/dev/null; sleep 0.5;;
  esac
}
