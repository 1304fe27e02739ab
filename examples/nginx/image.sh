#!/bin/sh
# Makes an OCI image of nginx from Debian's packages: image.sh EMPTY-DIRECTORY
#
# Run by fledge, which keeps the result, or by hand as root. Needs mmdebstrap and umoci.
# The same packages give the same image: times come from SOURCE_DATE_EPOCH or the packages themselves.
set -eu

layout=${1:?"usage: image.sh EMPTY-DIRECTORY"}
here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1704067200}"

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

# The archives of Debian's that this machine's apt uses, or mmdebstrap's own choice.
apt-get indextargets --format 'deb [signed-by=$(SIGNED_BY)] $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
    grep -E " $suite(-updates|-security)? " | sed 's/ \[signed-by=[^/]*\]//' | sort -u >"$work/mirrors" || true
set --
if grep -q " $suite " "$work/mirrors"; then
    while read -r line; do set -- "$@" "$line"; done <"$work/mirrors"
fi

touch "$work/began"
mmdebstrap --quiet --mode=root --variant=essential --include=nginx-light \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$root" "$@"

# What only installing needs, what doing so leaves, and what mmdebstrap copied from this machine.
rm -rf "$root"/var/cache/debconf/* "$root"/var/lib/dpkg/*-old "$root"/var/log/apt "$root"/var/cache/ldconfig/* \
    "$root"/dev/* "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/nginx/sites-enabled/default

cp "$here/nginx.conf" "$root/etc/nginx/nginx.conf"
cp "$here/index.html" "$root/var/www/html/index.html"
rm -f "$root"/var/www/html/index.nginx-debian.html
chmod 0644 "$root/etc/nginx/nginx.conf" "$root/var/www/html/index.html"

# What was made just now gets the one time; the packages' own files keep theirs.
find "$root" -newer "$work/began" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
# The image is as old as the newest file in it.
newest=$(find "$root" -printf '%Ts\n' | sort -n | tail -n 1)
created=$(date -u -d "@$newest" +%Y-%m-%dT%H:%M:%SZ)

rmdir "$layout" # umoci makes it itself
umoci init --layout "$layout"
umoci new --image "$layout:nginx"
umoci insert --image "$layout:nginx" --history.created="$created" --history.created_by="mmdebstrap nginx-light" "$root" /
version=$(sed -n '/^Package: nginx-light$/,/^$/s/^Version: //p' "$root/var/lib/dpkg/status")
umoci config --image "$layout:nginx" --no-history --created="$created" \
    --config.entrypoint=nginx --config.entrypoint=-g --config.entrypoint='daemon off;' \
    --config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --config.workingdir=/ --config.exposedports=80/tcp --config.stopsignal=SIGQUIT \
    --config.label=org.opencontainers.image.title=nginx \
    --config.label="org.opencontainers.image.version=$(echo "$version" | tr ':' '-')" \
    --config.label=org.opencontainers.image.description="nginx from Debian $suite"
umoci gc --layout "$layout"
