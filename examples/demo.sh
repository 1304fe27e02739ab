#!/bin/bash
# From nothing to two microVMs that answer HTTP, and back to nothing. Run it by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "demo: it makes network interfaces and so needs root"; exit 1; }
keep=${KEEP:-}
bin=$PWD/.venv/bin
work=${DEMO_DIR:-$(mktemp -d /tmp/volant-demo.XXXXXX)}
space=volant-demo-$$
export VOLANT_API=unix://$work/run/volantd.sock
# What fledge fetched and made is kept beside the other build products, so that the next demo is quick.
export FLEDGE_CACHE=${FLEDGE_CACHE:-$PWD/build/fledge-cache}

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
show() { printf '$ %s\n' "$*"; }
run() { show "$(printf '%s ' "$@" | sed "s|$bin/||g; s|$work|\$DEMO|g")"; "$@"; }

daemon=""
clean_up() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
        if [ "$status" != 0 ]; then
            echo; echo "demo: it went wrong; the end of volantd's log:"; tail -n 20 "$work/volantd.log" || true
        fi
        kill -TERM "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

bold "1. Build: an OCI image of nginx from Debian's packages, made bootable"
run "$bin/fledge" build -c examples/nginx/fledge.toml -o "$work/nginx"

bold "2. Start volantd, with its networks in a namespace of their own"
mkdir -p "$work/run"
"$bin/volantd" --data-dir "$work/data" --runtime-dir "$work/run" --network-namespace "$space" \
    --stop-vms-on-exit --log-format console >"$work/volantd.out" 2>"$work/volantd.log" &
daemon=$!
for _ in $(seq 200); do
    grep -q '^volantd ready' "$work/volantd.out" && break
    kill -0 "$daemon" 2>/dev/null || { cat "$work/volantd.log"; exit 1; }
    read -r -t 0.1 _ <> <(:) || true
done
cat "$work/volantd.out"
run "$bin/volar" doctor || true

bold "3. Install the plugin and create two VMs"
run "$bin/volar" plugins install "$work/nginx/manifest.json"
run "$bin/volar" vms create web-1 --plugin nginx
run "$bin/volar" vms create web-2 --plugin nginx
run "$bin/volar" vms list

bold "4. Fetch a page from each over its own address"
for vm in web-1 web-2; do
    address=$("$bin/volar" vms get "$vm" --json | "$bin/python" -c 'import json,sys; print(json.load(sys.stdin)["status"]["addresses"][0]["ip"])')
    show "ip netns exec $space curl http://$address/"
    ip netns exec "$space" curl --silent --show-error --fail --max-time 10 --dump-header - "http://$address/" | tr -d '\r' \
        | grep -E '^(HTTP|Server|X-Served-By)|<h1>'
done

bold "5. Look inside"
run "$bin/volar" vms exec web-1 -- nginx -v
run "$bin/volar" vms logs web-1 --tail 3
run "$bin/volar" events | tail -n 8

if [ -n "$keep" ]; then
    trap - EXIT
    bold "It is left running"
    echo "use it:   export VOLANT_API=$VOLANT_API; volar vms list   (volar is $bin/volar)"
    echo "reach it: ip netns exec $space curl http://$address/"
    echo "end it:   kill -TERM $daemon; while kill -0 $daemon 2>/dev/null; do sleep 0.2; done; rm -rf $work"
    exit 0
fi

bold "6. Stop, delete, and leave nothing behind"
run "$bin/volar" vms stop web-2
run "$bin/volar" vms delete web-1 web-2
run "$bin/volar" plugins remove nginx
kill -TERM "$daemon"
wait "$daemon"
daemon=""
if ip netns list | grep -q "^$space"; then echo "demo: the namespace $space is still there"; exit 1; fi
bold "Done: two microVMs built, booted, addressed, supervised, and gone."
