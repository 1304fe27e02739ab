#!/bin/sh
# The first program of a guest without an agent: it does itself what kestrel does elsewhere.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

# The modules for the devices that Volant gives a guest, in the order that loads them; the minimal kernel needs none.
[ -e /etc/kestrel/modules ] && while read -r module; do insmod "$module"; done < /etc/kestrel/modules

# volantd tells the address by the kernel's command line: ip=ADDRESS::GATEWAY:MASK:NAME:DEVICE:off:NAMESERVER
for word in $(cat /proc/cmdline); do
    case $word in ip=*) told=${word#ip=} ;; esac
done
IFS=:
set -- $told
unset IFS
ip link set lo up
ifconfig "$6" "$1" netmask "$4" up
route add default gw "$3"
hostname "$5"

echo "$5 serves HTTP at $1"
httpd -f -v -p 80 -h /srv/www
poweroff -f
