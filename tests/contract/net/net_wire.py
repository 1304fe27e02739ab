"""Frames as a guest would put them on the wire, and a tap to put them on."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from ipaddress import IPv4Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
VNET_HEADER = bytes(10)
ARRIVAL_TIMEOUT_S = 10.0


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, destination: str, ether_type: int, payload: bytes) -> bytes:
    return mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", ether_type) + payload


def checksum(content: bytes) -> int:
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    def build(check: int) -> bytes:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, check)
        return head + IPv4Address(source).packed + IPv4Address(destination).packed

    return build(checksum(build(0))) + payload


def udp(source_port: int, destination_port: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def tcp_syn(source: str, destination: str, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """The first segment of a connection between these addresses, with ``payload`` in it already."""
    assert len(payload) % 2 == 0
    pseudo = IPv4Address(source).packed + IPv4Address(destination).packed + struct.pack("!HH", 6, 20 + len(payload))

    def build(check: int) -> bytes:
        return struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 0, 0x50, 2, 8192, check, 0) + payload

    return build(checksum(pseudo + build(0)))


def icmp_echo(payload: bytes) -> bytes:
    assert len(payload) % 2 == 0
    body = struct.pack("!HH", 7, 1) + payload
    return struct.pack("!BBH", 8, 0, checksum(struct.pack("!BBH", 8, 0, 0) + body)) + body


def arp_reply(sender_mac: str, sender_ip: str, target_mac: str, target_ip: str) -> bytes:
    fixed = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    return fixed + mac_bytes(sender_mac) + IPv4Address(sender_ip).packed + mac_bytes(target_mac) + IPv4Address(target_ip).packed


def router_advertisement(payload: bytes) -> bytes:
    """From fe80::1 to all nodes, with ``payload`` in an option (RFC 4861, section 4.2)."""
    option = payload + bytes(-(len(payload) + 2) % 8)
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + bytes([200, (len(option) + 2) // 8]) + option
    addresses = bytes.fromhex("fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "01")
    check = checksum(addresses + struct.pack("!II", len(message), 58) + message)
    return struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + addresses + message[:2] + struct.pack("!H", check) + message[4:]


class Guest:
    """What stands where a VM would: one end of a tap, and addresses of its own that it may choose to lie about."""

    def __init__(self, descriptor: int, mac: str, ip: str) -> None:
        self.mac = mac
        self.ip = ip
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def send(self, frame: bytes) -> None:
        """The kernel has delivered or dropped it by the time that this returns."""
        os.write(self._descriptor, VNET_HEADER + frame)

    def send_udp(self, destination_mac: str, destination_ip: str, port: int, payload: bytes) -> None:
        self.send(ethernet(self.mac, destination_mac, 0x0800, ipv4(self.ip, destination_ip, 17, udp(4000, port, payload))))

    async def receive_until(self, marker: bytes) -> list[bytes]:
        """Every frame up to and with the first that contains ``marker``."""
        frames: list[bytes] = []
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, arrived.set)
        try:
            async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
                while True:
                    arrived.clear()
                    await arrived.wait()
                    frames.append(os.read(self._descriptor, 65536)[len(VNET_HEADER) :])
                    if marker in frames[-1]:
                        return frames
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def bind_udp(ip: str) -> socket.socket:
    """A receiver on a free port; call it in the thread of the namespace that it shall be in."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((ip, 0))
    receiver.settimeout(ARRIVAL_TIMEOUT_S)
    return receiver
